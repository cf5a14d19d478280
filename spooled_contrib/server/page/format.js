// Times, numbers and names as people read them.

import { h } from "./dom.js";

let ahead = 0; // milliseconds that the server's clock is ahead of this machine's

export function setServerTime(text) {
  ahead = Date.parse(text) - Date.now();
}

export function serverNow() {
  return Date.now() + ahead;
}

export function number(value) {
  return Number(value).toLocaleString("en-US");
}

export function duration(milliseconds) {
  const value = Math.abs(milliseconds);
  if (value < 1000) return `${Math.round(value)} ms`;
  const seconds = value / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${pad(minutes % 60)} min`;
  const days = Math.floor(hours / 24);
  return `${days} d ${hours % 24} h`;
}

function pad(value) {
  return String(value).padStart(2, "0");
}

export function relative(time) {
  const distance = time - serverNow();
  const seconds = Math.round(Math.abs(distance) / 1000);
  if (seconds < 2) return "now";
  let text;
  if (seconds < 60) text = `${seconds} s`;
  else if (seconds < 3600) text = `${Math.floor(seconds / 60)} min`;
  else if (seconds < 86400) text = `${Math.floor(seconds / 3600)} h`;
  else text = `${Math.floor(seconds / 86400)} d`;
  return distance > 0 ? `in ${text}` : `${text} ago`;
}

export function absolute(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

// A time that keeps itself fresh: see `tick`.
export function ago(text) {
  if (!text) return h("span", { class: "none" }, "–");
  const time = Date.parse(text);
  return h("time", { datetime: text, title: absolute(time), "data-shows": "ago" }, relative(time));
}

// How long something has lasted, or is still going to last.
export function span(text) {
  if (!text) return h("span", { class: "none" }, "–");
  const time = Date.parse(text);
  return h("time", { datetime: text, title: absolute(time), "data-shows": "span" }, spanText(time));
}

function spanText(time) {
  const left = Math.abs(time - serverNow());
  return left < 10000 ? `${Math.floor(left / 1000)} s` : duration(left);
}

export function tick(root) {
  for (const element of root.querySelectorAll("time[data-shows]")) {
    const time = Date.parse(element.dateTime);
    const text = element.dataset.shows === "ago" ? relative(time) : spanText(time);
    if (element.textContent !== text) element.textContent = text;
  }
}

// What kind of job it is, from its payload, which can be anything.
export function typeOf(payload) {
  const type = payload?.job_type;
  return typeof type === "string" ? type : "";
}

export function short(id) {
  return id.length > 13 ? id.slice(0, 8) : id;
}

export const STATUSES = ["pending", "scheduled", "processing", "completed", "failed", "deadletter", "cancelled"];

export function statusName(status) {
  return status === "deadletter" ? "dead" : status;
}

export function chip(status) {
  return h("span", { class: ["chip", `is-${status}`] }, statusName(status));
}

export function pretty(value) {
  return JSON.stringify(value, null, 2);
}
