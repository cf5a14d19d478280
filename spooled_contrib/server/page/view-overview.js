// All queues at a glance, and what needs somebody.

import { get, id } from "./api.js";
import { h } from "./dom.js";
import { ago, number, short, span } from "./format.js";
import { fetchNumbers, perMinute } from "./pace.js";
import { empty, heading, href, spark, table } from "./parts.js";

export const overview = {
  async load() {
    const [numbers, dead] = await Promise.all([fetchNumbers(), get("/jobs/dlq", { limit: 5 })]);
    return { numbers, dead };
  },

  title: () => "Overview",

  render({ numbers, dead }) {
    return [
      heading("Overview"),
      tiles(numbers),
      h("h2", {}, "Queues"),
      queueTable(numbers.queues),
      numbers.queues.length === 100 && h("p", { class: "quiet" }, "The first 100 queues by name. Search jobs by queue to find the others."),
      dead.length > 0 && [
        h("h2", {}, "Needs attention", h("a", { href: href("dead"), class: "aside" }, "All dead letters")),
        deadList(dead),
      ],
    ];
  },
};

function tiles({ counts, series, waiting_since: waiting, workers_alive: alive, workers_total: all }) {
  const { pending = 0, scheduled = 0, processing = 0, deadletter = 0 } = counts;
  const words = `${perMinute(series.completed)} completed and ${perMinute(series.created)} created in the last minute`;
  return h(
    "dl",
    { class: "tiles" },
    tile("Pending", number(pending), href("jobs", { status: "pending" }), waiting ? ["oldest waits ", span(waiting)] : "none waits"),
    tile("Processing", number(processing), href("jobs", { status: "processing" }), `${number(scheduled)} scheduled`),
    tile("Dead letters", number(deadletter), href("dead"), deadletter ? "need a decision" : "nothing to decide", deadletter ? "bad" : null),
    tile(
      "Workers alive",
      number(alive),
      href("workers"),
      alive === 0 && pending > 0 ? "jobs wait for one" : `${number(all)} known`,
      alive === 0 && pending > 0 ? "warn" : null,
    ),
    h(
      "div",
      { class: "tile chart" },
      h("dt", {}, "Completed"),
      h("dd", {}, h("b", {}, number(perMinute(series.completed))), h("span", { class: "unit" }, "in the last minute"), spark(series.trend, words, { width: 240, height: 40 })),
    ),
  );
}

function tile(name, value, to, detail, kind) {
  return h(
    "div",
    { class: ["tile", kind] },
    h("dt", {}, h("a", { href: to }, name)),
    h("dd", {}, h("b", {}, value), h("span", { class: "detail" }, detail)),
  );
}

function queueTable(queues) {
  const count = (status, name = status) => ({
    name,
    align: "right",
    cell: ({ queue_name, counts }) =>
      counts[status]
        ? h("a", { href: href("jobs", { queue: queue_name, status }), class: status === "deadletter" && "bad-text" }, number(counts[status]))
        : h("span", { class: "none" }, "0"),
  });
  return table({
    label: "Queues",
    kind: "numbers",
    rows: queues,
    keyOf: (queue) => queue.queue_name,
    hrefOf: (queue) => `#/queues/${id(queue.queue_name)}`,
    empty: empty("No queue has a job yet. Queues appear with their first job:", "spooled jobs create emails '{\"to\": \"ada@example.org\"}'"),
    columns: [
      {
        name: "queue",
        kind: "lead",
        cell: (queue) => [
          h("a", { href: `#/queues/${id(queue.queue_name)}` }, queue.queue_name),
          queue.paused && h("span", { class: "chip is-paused", title: queue.paused_reason }, "paused"),
        ],
      },
      count("pending"),
      count("scheduled"),
      count("processing"),
      count("completed"),
      count("deadletter", "dead"),
      { name: "in/min", align: "right", cell: ({ series }) => rate(perMinute(series.created)) },
      { name: "done/min", align: "right", cell: ({ series }) => rate(perMinute(series.completed)) },
      { name: "oldest waits", align: "right", cell: ({ waiting_since: since }) => span(since) },
      { name: "workers", align: "right", cell: ({ workers_alive: alive }) => (alive ? number(alive) : h("span", { class: "none" }, "0")) },
      {
        name: "completed, 5 min",
        kind: "trend",
        cell: ({ series }) => spark(series.trend, `${perMinute(series.completed)} completed in the last minute`),
      },
    ],
  });
}

function rate(value) {
  return value ? number(value) : h("span", { class: "none" }, "0");
}

function deadList(jobs) {
  return h(
    "ul",
    { class: "attention" },
    jobs.map((job) =>
      h(
        "li",
        { "data-key": job.id },
        h("a", { href: `#/jobs/${id(job.id)}` }, job.job_type || short(job.id)),
        h("span", { class: "quiet" }, "in ", job.queue_name, ", created ", ago(job.created_at)),
        h("code", { class: "line" }, job.last_error ?? "no error was told"),
      ),
    ),
  );
}
