// One job: what it is, what became of it, and what can be done about it.

import { del, get, id, post, put } from "./api.js";
import { ask, say } from "./dialog.js";
import { h } from "./dom.js";
import { absolute, ago, chip, number, pretty, serverNow, short, span, statusName, typeOf } from "./format.js";
import { button, code, heading } from "./parts.js";
import { timeline } from "./timeline.js";

export const job = {
  async load({ path: [jobId] }) {
    const [found, history, related] = await Promise.all([
      get(`/jobs/${id(jobId)}`),
      get(`/jobs/${id(jobId)}/history`, { limit: 500 }),
      get(`/jobs/${id(jobId)}/dependencies`),
    ]);
    return { found, history, related };
  },

  title: ({ found }) => typeOf(found.payload) || `Job ${short(found.id)}`,
  announce: ({ found }) => `The job is ${statusName(found.status)}`,

  render({ found, history, related }) {
    const waits = found.status === "pending" || found.status === "scheduled";
    const dead = found.status === "deadletter" || found.status === "failed";
    return [
      heading(
        [typeOf(found.payload) || "Job", chip(found.status)],
        h("code", {}, found.id),
        dead && button("Retry", "retry", { kind: "primary" }),
        waits && button("Priority…", "priority"),
        waits && button("Cancel job…", "cancel", { kind: "danger-quiet" }),
      ),
      found.last_error && h("section", { class: "failure" }, h("h2", {}, dead ? "Why it died" : "Last error"), code(found.last_error)),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          {},
          h("section", {}, h("h2", {}, "Payload"), code(pretty(found.payload))),
          found.status === "completed" && h("section", {}, h("h2", {}, "Result"), code(pretty(found.result))),
          h("section", {}, h("h2", {}, "History"), timeline(history)),
        ),
        h(
          "div",
          {},
          found.status === "processing" && lease(found),
          h("section", {}, h("h2", {}, "Facts"), facts(found)),
          found.tags !== null && h("section", {}, h("h2", {}, "Tags"), tags(found.tags)),
          relatives("Waits for", related.dependencies),
          relatives("Waited for by", related.dependents),
        ),
      ),
    ];
  },

  actions: {
    async retry(_, { path: [jobId] }) {
      await post(`/jobs/${id(jobId)}/retry`);
      say("The job is pending again, with all its attempts.");
    },
    async cancel(_, { path: [jobId] }) {
      if (await ask({ title: "Cancel this job?", text: "It will never run.", confirm: "Cancel the job", danger: true })) {
        await del(`/jobs/${id(jobId)}`);
        say("The job is cancelled.");
      }
    },
    async priority(_, { path: [jobId] }, { found }) {
      const value = await ask({
        title: "Change the priority",
        text: "From −100 to 100. Larger ones are claimed first.",
        confirm: "Change",
        field: { label: "Priority", attributes: { type: "number", min: -100, max: 100, step: 1, value: found.priority, required: true } },
      });
      if (value === null) return;
      await put(`/jobs/${id(jobId)}/priority`, { priority: Number(value) });
      say(`The priority is ${value}.`);
    },
  },
};

function lease(found) {
  const left = Date.parse(found.lease_expires_at) - serverNow();
  return h(
    "section",
    { class: "lease" },
    h("h2", {}, "Lease"),
    h("p", {}, left > 0 ? "ends in " : "ended, not renewed for ", h("b", {}, span(found.lease_expires_at))),
    h("p", { class: "quiet" }, "held by ", h("code", {}, found.assigned_worker_id), ", who renews it while the job runs"),
  );
}

function facts(found) {
  const rows = [
    ["Queue", h("a", { href: `#/queues/${id(found.queue_name)}` }, found.queue_name)],
    ["Priority", found.priority],
    ["Retries", `${found.retry_count} of ${found.max_retries}`],
    ["Timeout", `${number(found.timeout_seconds)} s`],
    ["Created", when(found.created_at)],
    ["Due", found.scheduled_at && when(found.scheduled_at)],
    ["Last claimed", found.started_at && when(found.started_at)],
    [found.status === "cancelled" ? "Cancelled" : "Completed", found.completed_at && when(found.completed_at)],
    ["Expires", found.expires_at && when(found.expires_at)],
    ["Worker", found.status !== "processing" && found.assigned_worker_id && h("code", {}, found.assigned_worker_id)],
    ["Idempotency key", found.idempotency_key && h("code", {}, found.idempotency_key)],
    ["Workflow", found.workflow_id && h("a", { href: `#/workflows/${id(found.workflow_id)}` }, short(found.workflow_id))],
    ["Webhook", found.completion_webhook && h("code", {}, found.completion_webhook)],
  ];
  return h(
    "dl",
    { class: "facts" },
    rows
      .filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "")
      .map(([name, value]) => [h("dt", { "data-key": `t-${name}` }, name), h("dd", { "data-key": `d-${name}` }, value)]),
  );
}

function when(text) {
  return [ago(text), h("span", { class: "quiet" }, absolute(Date.parse(text)))];
}

function tags(value) {
  const list = Array.isArray(value) ? value.map(String) : Object.entries(value).map(([name, one]) => `${name}: ${typeof one === "string" ? one : JSON.stringify(one)}`);
  const names = Array.isArray(value) ? list : Object.keys(value);
  return h("ul", { class: "tags" }, list.map((text, index) => h("li", {}, h("a", { href: `#/jobs?${new URLSearchParams({ tag: names[index] })}` }, text))));
}

function relatives(title, list) {
  if (list.length === 0) return null;
  return h(
    "section",
    { "data-key": title },
    h("h2", {}, title),
    h(
      "ul",
      { class: "plain" },
      list.map((one) => h("li", { "data-key": one.job_id }, chip(one.status), h("a", { href: `#/jobs/${id(one.job_id)}` }, h("code", {}, short(one.job_id))), h("span", { class: "quiet" }, one.queue_name))),
    ),
  );
}
