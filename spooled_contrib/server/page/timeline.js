// A job's history as a line of events.

import { h } from "./dom.js";
import { absolute, ago, duration } from "./format.js";

// What happened, in words, and the status it stands for.
const EVENTS = {
  created: ["Created", "pending"],
  claimed: ["Claimed", "processing"],
  processing: ["Claimed", "processing"],
  completed: ["Completed", "completed"],
  failed: ["Failed", "failed"],
  retry_scheduled: ["Failed, tried again later", "failed"],
  deadlettered: ["Died", "deadletter"],
  lease_expired: ["Lease lost", "failed"],
  cancelled: ["Cancelled", "cancelled"],
  retried: ["Sent back", "pending"],
};
const SAID_ELSEWHERE = new Set(["worker_id", "lease_id", "organization_id", "error", "batch_claim", "queue_name"]);

export function timeline(history) {
  let before = null;
  return h(
    "ol",
    { class: "timeline" },
    history.map((event) => {
      const time = Date.parse(event.created_at);
      const passed = before === null ? null : time - before;
      before = time;
      const [name, status] = EVENTS[event.event_type] ?? [event.event_type, "pending"];
      const details = event.details ?? {};
      const rest = Object.entries(details).filter(([key, value]) => !SAID_ELSEWHERE.has(key) && value !== null);
      return h(
        "li",
        { "data-key": event.id, class: `is-${status}` },
        h("b", {}, name),
        event.worker_id && h("span", {}, "by ", h("code", {}, event.worker_id)),
        h("span", { class: "quiet when", title: absolute(time) }, passed === null ? ago(event.created_at) : `${duration(passed)} later`),
        typeof details.error === "string" && h("code", { class: "block" }, details.error),
        rest.length > 0 && h("span", { class: "quiet block" }, rest.map(([key, value]) => `${key.replaceAll("_", " ")}: ${text(key, value)}`).join(" · ")),
      );
    }),
  );
}

function text(key, value) {
  if (typeof value !== "string") return JSON.stringify(value);
  const time = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? value : new Date(time).toLocaleTimeString();
}
