// Dead letters: jobs that have used up their attempts and wait for a person's decision.

import { get, id, me, post } from "./api.js";
import { ask, say } from "./dialog.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { button, empty, heading, pager } from "./parts.js";
import { jobTable, PAGE, queueFilter } from "./view-jobs.js";

const AT_ONCE = 100; // the server's limit for one call

const selected = new Set();

export const dead = {
  async load({ query }) {
    const page = Number(query.page ?? 0);
    const [found, queues, stats] = await Promise.all([
      get("/jobs/dlq", { queue_name: query.queue, limit: PAGE, offset: page * PAGE }),
      get("/queues"),
      get("/jobs/stats", { queue_name: query.queue }),
    ]);
    const shown = new Set(found.map((job) => job.id));
    for (const one of selected) if (!shown.has(one)) selected.delete(one);
    return { found, queues, page, total: stats.deadletter };
  },

  title: () => "Dead letters",
  announce: ({ total }) => `${total} dead letters`,

  render({ found, queues, page, total }, { query }) {
    const where = query.queue ? ` in ${query.queue}` : "";
    // A key that is limited to queues has to name one.
    const unnamed = me().queues !== null && !query.queue;
    return [
      heading("Dead letters", total ? number(total) : null),
      h(
        "div",
        { class: "filters" },
        queueFilter(queues, query.queue),
        h("span", { class: "grow" }),
        total > 0 && [
          button(`Retry selected (${selected.size})`, "retrySelected", { disabled: selected.size === 0, kind: selected.size ? "primary" : null }),
          button(`Retry all${where}…`, "retryAll", { disabled: unnamed }),
          button(`Purge${where}…`, "purge", { kind: "danger-quiet", disabled: unnamed }),
        ],
      ),
      unnamed && total > 0 && h("p", { class: "quiet" }, "Choose a queue to retry or purge all of its dead letters."),
      jobTable(found, {
        empty: empty(`No dead letters${where}. Jobs come here when their last attempt has failed.`),
        before: [
          {
            name: "select",
            kind: "tick",
            head: tick("all", "all on this page", found.length > 0 && selected.size === found.length, selected.size > 0),
            cell: (job) => tick(job.id, `job ${job.id}`, selected.has(job.id)),
          },
        ],
      }),
      pager("dead", query, page, found.more),
    ];
  },

  actions: {
    select(element, _, { found }) {
      const which = element.dataset.id;
      const ids = which === "all" ? found.map((job) => job.id) : [which];
      for (const one of ids) element.checked ? selected.add(one) : selected.delete(one);
    },
    async retrySelected() {
      const ids = [...selected];
      // A key that is limited to queues may not name jobs here, but may retry each by itself.
      if (me().queues === null) await post("/jobs/dlq/retry", { job_ids: ids });
      else for (const one of ids) await post(`/jobs/${id(one)}/retry`);
      selected.clear();
      say(`${jobs(ids.length)} sent back.`);
    },
    async retryAll(_, { query }, { total }) {
      const where = query.queue ? `in ${query.queue}` : "in all queues";
      const sure = await ask({ title: `Retry ${jobs(total)}?`, text: `All dead letters ${where} become pending again, with all their attempts.`, confirm: "Retry all" });
      if (!sure) return;
      let sent = 0;
      // Only as many as there were: what dies again meanwhile waits for the next decision.
      while (sent < total) {
        const { retried_count: count } = await post("/jobs/dlq/retry", { queue_name: query.queue, limit: Math.min(AT_ONCE, total - sent) });
        if (count === 0) break;
        sent += count;
      }
      say(`${jobs(sent)} sent back.`);
    },
    async purge(_, { query }, { total }) {
      const where = query.queue ? `in ${query.queue}` : "in all queues";
      const sure = await ask({ title: `Delete ${jobs(total)} for good?`, text: `All dead letters ${where}, with payloads and history. This cannot be undone.`, confirm: "Delete for good", danger: true });
      if (!sure) return;
      const { purged_count: count } = await post("/jobs/dlq/purge", { confirm: true, queue_name: query.queue });
      say(`${jobs(count)} deleted.`);
    },
  },
};

function tick(which, label, on, some = false) {
  return h("input", { type: "checkbox", "data-action": "select", "data-id": which, "data-key": `tick-${which}`, "aria-label": `Select ${label}`, checked: on, "data-some": some && !on });
}

function jobs(count) {
  return count === 1 ? "1 job" : `${number(count)} jobs`;
}
