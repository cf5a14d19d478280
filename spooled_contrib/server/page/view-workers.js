// Who works, on what, and since when nothing was heard of them.

import { get, id } from "./api.js";
import { h } from "./dom.js";
import { ago, number } from "./format.js";
import { empty, heading, table } from "./parts.js";

const KINDS = { healthy: "completed", degraded: "paused", draining: "scheduled", offline: "cancelled" };

export const workers = {
  load: async () => ({ found: await get("/workers") }),

  title: () => "Workers",

  render({ found }) {
    const alive = found.filter((one) => one.status !== "offline").length;
    return [
      heading("Workers", found.length ? `${alive} alive of ${found.length}` : null),
      table({
        label: "Workers",
        rows: [...found].sort(byState),
        keyOf: (worker) => worker.id,
        empty: empty("No worker has registered yet. Start one:", "spooled worker tasks:worker"),
        columns: [
          { name: "status", cell: ({ status }) => h("span", { class: ["chip", `is-${KINDS[status] ?? "pending"}`] }, status) },
          { name: "worker", kind: "lead", cell: (worker) => h("code", {}, worker.id) },
          { name: "queue", cell: ({ queue_name: name }) => h("a", { href: `#/queues/${id(name)}` }, name) },
          { name: "host", cell: ({ hostname }) => hostname },
          {
            name: "jobs now",
            align: "right",
            cell: ({ current_jobs: now, max_concurrency: most }) => [
              h("meter", { value: now, max: most, "aria-label": `${now} of ${most} slots in use` }),
              ` ${now} of ${most}`,
            ],
          },
          { name: "done", align: "right", cell: ({ jobs_processed: count }) => number(count ?? 0) },
          { name: "failed", align: "right", cell: ({ jobs_failed: count }) => number(count ?? 0) },
          { name: "last heard", align: "right", cell: ({ last_heartbeat: time }) => ago(time) },
        ],
      }),
    ];
  },
};

// The living first, each group by name, so that rows do not jump with every heartbeat.
function byState(one, other) {
  const gone = (worker) => (worker.status === "offline" ? 1 : 0);
  return gone(one) - gone(other) || one.queue_name.localeCompare(other.queue_name) || one.id.localeCompare(other.id);
}
