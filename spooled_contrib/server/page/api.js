// Calls to the server, with the session's cookie and the token that changes need.

import { setServerTime } from "./format.js";

let session = null;
let leaving = false;

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  // The server does not know this part of the API, as opposed to one thing in it.
  get isUnknownPath() {
    return this.status === 404 && this.message.startsWith("No route");
  }
}

export function me() {
  return session;
}

export async function startSession() {
  session = await call("GET", "/page/session");
  setServerTime(session.now);
}

export function leave(ended) {
  // Several calls can be refused at once; going away twice would abort the first.
  if (leaving) return;
  leaving = true;
  // The server knows best: it shows the page again, or the log-in, and then this view.
  if (ended) location.reload();
  else location.replace("/login");
}

async function call(method, path, body, again = true) {
  const headers = {};
  if (method !== "GET") headers["x-csrf-token"] = session.csrf_token;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(30000),
    });
  } catch (error) {
    throw new Refused(0, "UNREACHABLE", `The server cannot be reached (${error.name}).`);
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text, exact) : null;
  } catch {
    // A proxy's own error page; the status says enough.
  }
  if (response.status === 401) leave(true);
  // Somebody logged in anew in another tab: the cookie is another session's, and so is the token.
  if (response.status === 403 && method !== "GET" && again) {
    await startSession();
    return call(method, path, body, false);
  }
  if (!response.ok) throw new Refused(response.status, value?.code ?? "ERROR", value?.message ?? `HTTP ${response.status}`);
  if (Array.isArray(value)) value.more = response.headers.get("x-has-more") === "true";
  return value;
}

// Numbers with more digits than JavaScript keeps, such as ids of 64 bits, are shown as they were sent.
function exact(_, value, context) {
  if (typeof value !== "number" || !context?.source || context.source.length < 16 || !JSON.rawJSON) return value;
  return String(value) === context.source ? value : JSON.rawJSON(context.source);
}

function withQuery(path, query) {
  const entries = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return entries.length ? `${path}?${new URLSearchParams(entries)}` : path;
}

export const id = encodeURIComponent;
export const get = (path, query) => call("GET", withQuery(`/api/v1${path}`, query));
export const post = (path, body = {}) => call("POST", `/api/v1${path}`, body);
export const put = (path, body) => call("PUT", `/api/v1${path}`, body);
export const del = (path) => call("DELETE", `/api/v1${path}`);
export const numbers = (since) => call("GET", withQuery("/page/numbers", { since }));
export const logOut = () => call("POST", "/logout");

// For a part of the API that not every server has: null when it does not.
export async function getIfKnown(path, query) {
  try {
    return await get(path, query);
  } catch (error) {
    if (error instanceof Refused && error.isUnknownPath) return null;
    throw error;
  }
}
