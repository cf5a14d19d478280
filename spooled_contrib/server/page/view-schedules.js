// Schedules, and the runs of one.

import { get, getIfKnown, id, post } from "./api.js";
import { say } from "./dialog.js";
import { h } from "./dom.js";
import { ago, chip, number, pretty, short } from "./format.js";
import { absent, button, code, empty, heading, table } from "./parts.js";

export const schedules = {
  load: async () => ({ found: await getIfKnown("/schedules", { limit: 500 }) }),

  title: () => "Schedules",

  render({ found }) {
    if (found === null) return [heading("Schedules"), absent("schedules")];
    return [
      heading("Schedules", found.length ? `${found.filter((one) => one.is_active).length} active of ${found.length}` : null),
      table({
        label: "Schedules",
        rows: found,
        keyOf: (one) => one.id,
        hrefOf: (one) => `#/schedules/${id(one.id)}`,
        empty: empty("No schedules yet. A schedule creates a job each time its cron expression says so:", 'client.schedules.create(name="nightly", cron_expression="0 3 * * *", queue_name="reports", payload_template={})'),
        columns: [
          { name: "state", cell: state },
          { name: "name", kind: "lead", cell: (one) => h("a", { href: `#/schedules/${id(one.id)}` }, one.name) },
          { name: "when", cell: (one) => [h("code", {}, one.cron_expression), h("span", { class: "quiet" }, one.timezone)] },
          { name: "queue", cell: (one) => h("a", { href: `#/queues/${id(one.queue_name)}` }, one.queue_name) },
          { name: "next run", align: "right", cell: (one) => (one.is_active ? ago(one.next_run_at) : h("span", { class: "none" }, "–")) },
          { name: "last run", align: "right", cell: (one) => ago(one.last_run_at) },
          { name: "runs", align: "right", cell: (one) => number(one.run_count) },
          { name: "do", kind: "do", head: h("span", { class: "unseen" }, "actions"), cell: (one) => h("div", { class: "buttons" }, controls(one)) },
        ],
      }),
    ];
  },

  actions: actions(),
};

export const schedule = {
  async load({ path: [which] }) {
    const [found, runs] = await Promise.all([getIfKnown(`/schedules/${id(which)}`), getIfKnown(`/schedules/${id(which)}/history`, { limit: 50 })]);
    return { found, runs };
  },

  title: ({ found }) => found?.name ?? "Schedule",

  render({ found, runs }) {
    if (found === null) return [heading("Schedule"), absent("schedules")];
    return [
      heading([found.name, state(found)], found.description, ...controls(found)),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          {},
          h("section", {}, h("h2", {}, "Runs"), runTable(runs ?? [])),
        ),
        h(
          "div",
          {},
          h(
            "section",
            {},
            h("h2", {}, "Facts"),
            h(
              "dl",
              { class: "facts" },
              [
                ["When", [h("code", {}, found.cron_expression), h("span", { class: "quiet" }, found.timezone)]],
                ["Next run", found.is_active ? ago(found.next_run_at) : "paused"],
                ["Last run", ago(found.last_run_at)],
                ["Runs", number(found.run_count)],
                ["Queue", h("a", { href: `#/queues/${id(found.queue_name)}` }, found.queue_name)],
                ["Priority", found.priority],
                ["Retries", found.max_retries],
                ["Timeout", `${number(found.timeout_seconds)} s`],
              ].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
            ),
          ),
          h("section", {}, h("h2", {}, "Payload of its jobs"), code(pretty(found.payload_template))),
        ),
      ),
    ];
  },

  actions: actions(),
};

function state({ is_active: active }) {
  return h("span", { class: ["chip", active ? "is-completed" : "is-paused"] }, active ? "active" : "paused");
}

function controls({ id: which, name, is_active: active }) {
  return [
    button("Run now", "trigger", { key: `trigger-${which}`, id: which, name, label: `Run ${name} now` }),
    active
      ? button("Pause", "pause", { key: `pause-${which}`, id: which, name, label: `Pause ${name}` })
      : button("Resume", "resume", { key: `resume-${which}`, id: which, name, kind: "primary", label: `Resume ${name}` }),
  ];
}

function actions() {
  return {
    async trigger({ dataset: { id: which, name } }) {
      const { job_id: jobId } = await post(`/schedules/${id(which)}/trigger`);
      say(`${name} has created job ${short(jobId)}.`);
    },
    async pause({ dataset: { id: which, name } }) {
      await post(`/schedules/${id(which)}/pause`);
      say(`${name} is paused.`);
    },
    async resume({ dataset: { id: which, name } }) {
      await post(`/schedules/${id(which)}/resume`);
      say(`${name} is active.`);
    },
  };
}

function runTable(runs) {
  return table({
    label: "Runs",
    rows: runs,
    keyOf: (run) => run.id,
    hrefOf: (run) => (run.job_id ? `#/jobs/${id(run.job_id)}` : null),
    empty: empty("It has not run yet."),
    columns: [
      { name: "run", cell: (run) => ago(run.started_at) },
      { name: "job", kind: "lead", cell: (run) => (run.job_id ? h("a", { href: `#/jobs/${id(run.job_id)}` }, h("code", {}, short(run.job_id))) : h("span", { class: "none" }, "–")) },
      { name: "job is", cell: (run) => (run.job_status ? chip(run.job_status) : run.status === "failed" ? chip("failed") : h("span", { class: "quiet" }, "gone")) },
      { name: "error", kind: "error-cell", cell: (run) => (run.error_message ? h("code", { class: "line", title: run.error_message }, run.error_message) : h("span", { class: "none" }, "–")) },
    ],
  });
}
