// Workflows, and one of them as a picture.

import { getIfKnown, id, post } from "./api.js";
import { ask, say } from "./dialog.js";
import { h } from "./dom.js";
import { ago, chip, number, pretty, short, typeOf } from "./format.js";
import { drawGraph } from "./graph.js";
import { absent, button, code, empty, heading, pager, select, table } from "./parts.js";
import { PAGE } from "./view-jobs.js";

const KINDS = { running: "processing" };
const STATES = ["pending", "running", "completed", "failed", "cancelled"];

export const workflows = {
  async load({ query }) {
    const page = Number(query.page ?? 0);
    return { found: await getIfKnown("/workflows", { status: query.status, limit: PAGE, offset: page * PAGE }), page };
  },

  title: () => "Workflows",

  render({ found, page }, { query }) {
    if (found === null) return [heading("Workflows"), absent("workflows")];
    return [
      heading("Workflows"),
      h("div", { class: "filters" }, select("status", "Status", [["", "all"], ...STATES.map((one) => [one, one])], query.status)),
      table({
        label: "Workflows",
        rows: found,
        keyOf: (one) => one.id,
        hrefOf: (one) => `#/workflows/${id(one.id)}`,
        empty: query.status ? empty("No workflow is in that state.") : empty("No workflows yet. A workflow is several jobs of which some wait for others:", "client.workflows.create(name=..., jobs=[...])"),
        columns: [
          { name: "status", cell: (one) => state(one.status) },
          { name: "name", kind: "lead", cell: (one) => [h("a", { href: `#/workflows/${id(one.id)}` }, one.name), h("code", { class: "quiet" }, short(one.id))] },
          { name: "progress", align: "right", cell: bar },
          { name: "failed", align: "right", cell: (one) => (one.failed_jobs ? h("span", { class: "bad-text" }, number(one.failed_jobs)) : h("span", { class: "none" }, "0")) },
          { name: "created", align: "right", cell: (one) => ago(one.created_at) },
          { name: "ended", align: "right", cell: (one) => ago(one.completed_at) },
        ],
      }),
      pager("workflows", query, page, found.more || found.length === PAGE),
    ];
  },
};

export const workflow = {
  load: async ({ path: [which] }) => ({ found: await getIfKnown(`/workflows/${id(which)}`) }),

  title: ({ found }) => found?.name ?? "Workflow",
  announce: ({ found }) => (found ? `The workflow is ${found.status}` : ""),

  render({ found }) {
    if (found === null) return [heading("Workflow"), absent("workflows")];
    const { progress } = found;
    return [
      heading(
        [found.name, state(found.status)],
        h("code", {}, found.id),
        found.status === "failed" && button("Retry", "retry", { kind: "primary" }),
        (found.status === "pending" || found.status === "running") && button("Cancel…", "cancel", { kind: "danger-quiet" }),
      ),
      found.description && h("p", {}, found.description),
      h(
        "p",
        { class: "quiet" },
        `${progress.completed} of ${progress.total} completed, ${progress.processing} processing, ${progress.pending} to come, ${progress.failed} failed or cancelled. Created `,
        ago(found.created_at),
        found.completed_at && [", ended ", ago(found.completed_at)],
        ".",
      ),
      h("div", { class: "scroll boxed" }, drawGraph(found.jobs, found.dependencies)),
      found.metadata !== null && found.metadata !== undefined && h("section", {}, h("h2", {}, "Metadata"), code(pretty(found.metadata))),
      h("h2", {}, "Jobs"),
      table({
        label: "Jobs of the workflow",
        rows: found.jobs,
        keyOf: (job) => job.id,
        hrefOf: (job) => `#/jobs/${id(job.id)}`,
        empty: empty("Its jobs are gone."),
        columns: [
          { name: "status", cell: (job) => chip(job.status) },
          { name: "job", kind: "lead", cell: (job) => [h("a", { href: `#/jobs/${id(job.id)}` }, typeOf(job.payload) || short(job.id)), typeOf(job.payload) && h("code", { class: "quiet" }, short(job.id))] },
          { name: "queue", cell: (job) => h("a", { href: `#/queues/${id(job.queue)}` }, job.queue) },
          { name: "started", align: "right", cell: (job) => ago(job.started_at) },
          { name: "ended", align: "right", cell: (job) => ago(job.completed_at) },
          { name: "last error", kind: "error-cell", cell: (job) => (job.error ? h("code", { class: "line", title: job.error.message }, job.error.message) : h("span", { class: "none" }, "–")) },
        ],
      }),
    ];
  },

  actions: {
    async retry(_, { path: [which] }) {
      await post(`/workflows/${id(which)}/retry`);
      say("The workflow's failed jobs are pending again.");
    },
    async cancel(_, { path: [which] }) {
      if (await ask({ title: "Cancel this workflow?", text: "Jobs that have not started will never run.", confirm: "Cancel the workflow", danger: true })) {
        await post(`/workflows/${id(which)}/cancel`);
        say("The workflow is cancelled.");
      }
    },
  },
};

function state(status) {
  return h("span", { class: ["chip", `is-${KINDS[status] ?? status}`] }, status);
}

function bar({ completed_jobs: done, total_jobs: all }) {
  return [h("meter", { value: done, max: Math.max(1, all), "aria-label": `${done} of ${all} jobs completed` }), ` ${done} of ${all}`];
}
