// Jobs, filtered, searched, ordered and paged. Everything is in the address, so a view can be sent to a colleague.

import { get, id } from "./api.js";
import { h } from "./dom.js";
import { ago, chip, duration, serverNow, short, STATUSES, statusName } from "./format.js";
import { empty, heading, pager, select, table, textFilter } from "./parts.js";

export const PAGE = 50;

const ORDERS = [
  ["", "newest first"],
  ["created_at asc", "oldest first"],
  ["updated_at desc", "last changed"],
  ["priority desc", "highest priority"],
  ["scheduled_at asc", "next due"],
  ["completed_at desc", "last completed"],
  ["retry_count desc", "most attempts"],
];

export const jobs = {
  async load({ query }) {
    const page = Number(query.page ?? 0);
    const [order_by, order_dir] = (query.order ?? "").split(" ");
    const [found, queues] = await Promise.all([
      get("/jobs", {
        queue_name: query.queue,
        status: query.status,
        job_type: query.type,
        tag: query.tag,
        q: query.q,
        order_by,
        order_dir,
        limit: PAGE,
        offset: page * PAGE,
      }),
      get("/queues"),
    ]);
    return { found, queues, page };
  },

  title: () => "Jobs",
  announce: ({ found }) => `${found.length}${found.more ? " or more" : ""} jobs`,

  render({ found, queues, page }, { query }) {
    const filtered = query.queue || query.status || query.type || query.tag || query.q;
    return [
      heading("Jobs"),
      h(
        "form",
        { class: "filters", role: "search", "aria-label": "Filter jobs" },
        select("status", "Status", [["", "all"], ...STATUSES.map((one) => [one, statusName(one)])], query.status),
        queueFilter(queues, query.queue),
        textFilter("type", "Type", query.type, "exact"),
        textFilter("tag", "Tag", query.tag, "exact"),
        select("order", "Order", ORDERS, query.order),
        filtered && h("a", { href: "#/jobs", class: "button quiet-button", "data-key": "clear" }, "Clear"),
      ),
      query.q && h("p", { class: "quiet" }, "Matching ", h("b", {}, query.q)),
      jobTable(found, {
        empty: filtered
          ? empty("No job matches. Take a filter away to see more.")
          : empty("No jobs yet. Create one:", "spooled jobs create emails '{\"to\": \"ada@example.org\"}'"),
      }),
      pager("jobs", query, page, found.more),
    ];
  },
};

export function queueFilter(queues, chosen) {
  const names = queues.map((one) => one.queue_name);
  if (chosen && !names.includes(chosen)) names.push(chosen);
  return select("queue", "Queue", [["", "all"], ...names.map((name) => [name, name])], chosen);
}

export function jobTable(rows, { withQueue = true, empty: nothing, before = [] }) {
  return table({
    label: "Jobs",
    rows,
    keyOf: (job) => job.id,
    hrefOf: (job) => `#/jobs/${id(job.id)}`,
    empty: nothing,
    columns: [
      ...before,
      { name: "status", cell: (job) => chip(job.status) },
      {
        name: "job",
        kind: "lead",
        cell: (job) => [
          h("a", { href: `#/jobs/${id(job.id)}`, title: job.id }, job.job_type || short(job.id)),
          job.job_type && h("code", { class: "quiet" }, short(job.id)),
        ],
      },
      withQueue && { name: "queue", cell: (job) => h("a", { href: `#/queues/${id(job.queue_name)}` }, job.queue_name) },
      { name: "priority", align: "right", cell: (job) => (job.priority ? job.priority : h("span", { class: "none" }, "0")) },
      { name: "retries", align: "right", cell: (job) => (job.attempt ? `${job.attempt} of ${job.max_retries}` : h("span", { class: "none" }, "0")) },
      { name: "created", align: "right", cell: (job) => ago(job.created_at) },
      { name: "progress", align: "right", cell: progress },
      { name: "last error", kind: "error-cell", cell: (job) => (job.last_error ? h("code", { class: "line", title: job.last_error }, job.last_error) : h("span", { class: "none" }, "–")) },
    ].filter(Boolean),
  });
}

function progress(job) {
  if (job.status === "completed" && job.started_at) {
    return h("span", { title: "from the last claim to the end" }, "took ", duration(Date.parse(job.completed_at) - Date.parse(job.started_at)));
  }
  if (job.status === "processing") return h("span", {}, "started ", ago(job.started_at));
  const waits = job.status === "scheduled" || job.status === "pending";
  if (waits && job.scheduled_at && Date.parse(job.scheduled_at) > serverNow()) return h("span", {}, "due ", ago(job.scheduled_at));
  return h("span", { class: "none" }, "–");
}
