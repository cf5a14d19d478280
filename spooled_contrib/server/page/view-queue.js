// One queue: its state, its numbers, and its newest jobs.

import { del, get, id, post } from "./api.js";
import { ask, say } from "./dialog.js";
import { h } from "./dom.js";
import { number, span } from "./format.js";
import { fetchNumbers, perMinute } from "./pace.js";
import { button, empty, heading, href, spark } from "./parts.js";
import { jobTable } from "./view-jobs.js";

export const queue = {
  async load({ path: [name] }) {
    const [config, stats, numbers, jobs] = await Promise.all([
      get(`/queues/${id(name)}`),
      get(`/queues/${id(name)}/stats`),
      fetchNumbers(),
      get("/jobs", { queue_name: name, limit: 25 }),
    ]);
    return { config, stats, jobs, now: numbers.queues.find((one) => one.queue_name === name) };
  },

  title: (_, { path: [name] }) => name,

  render({ config, stats, jobs, now }, { path: [name] }) {
    const paused = !config.enabled;
    const series = now?.series ?? { created: [], completed: [], trend: [] };
    return [
      heading(
        [name, paused && h("span", { class: "chip is-paused" }, "paused")],
        "queue",
        paused ? button("Resume", "resume", { kind: "primary" }) : button("Pause…", "pause"),
        button("Delete…", "remove", { kind: "danger-quiet" }),
      ),
      paused && h("p", { class: "note" }, "Workers get no jobs from this queue", since(config), "."),
      h(
        "dl",
        { class: "tiles" },
        tile("Pending", now?.counts.pending, href("jobs", { queue: name, status: "pending" }), now?.waiting_since ? ["oldest waits ", span(now.waiting_since)] : "none waits"),
        tile("Processing", now?.counts.processing, href("jobs", { queue: name, status: "processing" }), `${number(now?.counts.scheduled ?? 0)} scheduled`),
        tile("Completed, 24 h", stats.completed_jobs_24h, href("jobs", { queue: name, status: "completed" }), stats.avg_processing_time_ms === null ? "" : `${number(Math.round(stats.avg_processing_time_ms))} ms on average`),
        tile("Dead letters", now?.counts.deadletter, href("dead", { queue: name }), "", now?.counts.deadletter ? "bad" : null),
        tile("Workers alive", now?.workers_alive, href("workers"), ""),
        h(
          "div",
          { class: "tile chart" },
          h("dt", {}, "Completed"),
          h(
            "dd",
            {},
            h("b", {}, number(perMinute(series.completed))),
            h("span", { class: "unit" }, "in the last minute"),
            spark(series.trend, `${perMinute(series.completed)} completed in the last minute`, { width: 240, height: 40 }),
          ),
        ),
      ),
      h("p", { class: "quiet" }, `New jobs: ${config.max_retries} retries and ${number(config.default_timeout)} s, unless they say otherwise.`),
      h("h2", {}, "Newest jobs", h("a", { href: href("jobs", { queue: name }), class: "aside" }, "All jobs of this queue")),
      jobTable(jobs, { withQueue: false, empty: empty("No jobs in this queue. Create one:", `spooled jobs create ${name} '{"n": 1}'`) }),
    ];
  },

  actions: {
    async pause(_, { path: [name] }) {
      const reason = await ask({
        title: `Pause ${name}?`,
        text: "Workers get no more jobs from it. Jobs can still be created, and running ones finish.",
        confirm: "Pause",
        field: { label: "Reason (may be empty)", attributes: { maxlength: 500, autocomplete: "off" } },
      });
      if (reason === null) return;
      await post(`/queues/${id(name)}/pause`, reason ? { reason } : {});
      say(`${name} is paused.`);
    },
    async resume(_, { path: [name] }) {
      await post(`/queues/${id(name)}/resume`);
      say(`${name} runs again.`);
    },
    async remove(_, { path: [name] }) {
      const typed = await ask({
        title: `Delete ${name}?`,
        text: "All its jobs are deleted, running ones too, and its settings. This cannot be undone.",
        confirm: "Delete queue and jobs",
        danger: true,
        field: { label: `Type ${name} to confirm`, attributes: { autocomplete: "off", spellcheck: "false", required: true } },
      });
      if (typed === null) return;
      if (typed !== name) return say("The name was not the same; nothing was deleted.", "error");
      await del(`/queues/${id(name)}?delete_jobs=true`);
      location.hash = "#/";
      say(`${name} is deleted.`);
    },
  },
};

function since({ settings }) {
  const reason = typeof settings?.paused_reason === "string" ? `: ${settings.paused_reason}` : "";
  return typeof settings?.paused_at === "string" ? [", for ", span(settings.paused_at), reason] : reason;
}

function tile(name, value, to, detail, kind) {
  return h(
    "div",
    { class: ["tile", kind] },
    h("dt", {}, h("a", { href: to }, name)),
    h("dd", {}, h("b", {}, number(value ?? 0)), h("span", { class: "detail" }, detail)),
  );
}
