// The page: which view the address names, keeping it up to date, and the keyboard.

import { leave, logOut, me, Refused, startSession } from "./api.js";
import { say } from "./dialog.js";
import { h, patchChildren } from "./dom.js";
import { tick } from "./format.js";
import { Live } from "./live.js";
import { heading, href } from "./parts.js";
import { dead } from "./view-dead.js";
import { job } from "./view-job.js";
import { jobs } from "./view-jobs.js";
import { overview } from "./view-overview.js";
import { queue } from "./view-queue.js";
import { schedule, schedules } from "./view-schedules.js";
import { workers } from "./view-workers.js";
import { workflow, workflows } from "./view-workflows.js";

const LISTS = { "": overview, jobs, dead, workers, schedules, workflows };
const ITEMS = { jobs: job, queues: queue, schedules: schedule, workflows: workflow };
const JOB_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const TYPING = 250;

const main = document.getElementById("main");
const search = document.getElementById("search");
const state = document.getElementById("live");
const announcer = document.getElementById("announce");

let view = null;
let place = null; // {hash, section, path, query}
let data = null;
let asked = 0; // answers can overtake each other: only one that was asked for later than what is shown counts
let shown = 0;
let announced = null;

const live = new Live(refresh, showState);

function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [section, ...rest] = path.split("/");
  return { hash, section, path: rest.map(decode), query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function arrive() {
  place = parse(location.hash);
  const next = (place.path[0] ? ITEMS : LISTS)[place.section];
  const moved = next !== view || next === undefined || Object.values(ITEMS).includes(next);
  view = next;
  const section = place.section === "queues" ? "" : place.section;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.section === section) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  if (search !== document.activeElement) search.value = place.query.q ?? "";
  if (moved) {
    data = null;
    announced = null;
    main.dataset.fresh = "yes";
  }
  if (view === undefined) return paint([heading("Nothing here"), h("p", {}, h("a", { href: "#/" }, "Back to the overview"))]);
  return refresh();
}

async function refresh() {
  if (!view) return;
  const [at, of, number] = [place, view, ++asked];
  const late = () => at !== place || number < shown;
  try {
    const found = await of.load(at);
    if (late()) return;
    data = found;
    shown = number;
    render();
  } catch (error) {
    if (!late()) fail(error);
  }
}

function render() {
  document.title = `${view.title(data, place)} · Spooled`;
  const told = view.announce?.(data);
  if (announced !== null && told !== announced) announcer.textContent = told;
  announced = told ?? null;
  paint(view.render(data, place));
}

function paint(content) {
  patchChildren(main, h("div", {}, content));
  main.dataset.shows = place.hash;
  if (main.dataset.fresh) {
    // A new view is read from its heading; only the first one leaves the focus where the browser put it.
    if (main.dataset.fresh === "yes" && main.dataset.seen) main.querySelector("h1")?.focus();
    delete main.dataset.fresh;
    main.dataset.seen = "yes";
    window.scrollTo(0, 0);
  }
}

function fail(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) return;
  // What is shown stays while the server is away or has too much to do.
  if (data && (error.status === 0 || error.status === 429 || error.status >= 500)) return showState("reconnecting", error.message);
  if (error.status === 404) {
    paint([heading("Not found"), h("p", {}, "It does not exist any more, or your key may not see it."), h("p", {}, h("a", { href: href(place.section === "jobs" ? "jobs" : "") }, "Back"))]);
  } else {
    paint([heading("This did not work"), h("p", { class: "note bad" }, error.message), h("p", {}, h("a", { href: href(place.section) }, "Start again"))]);
  }
}

function showState(name, why = "The connection for live changes is away; the page asks every two seconds meanwhile.") {
  state.dataset.state = name;
  state.textContent = name;
  state.title = name === "live" ? "Changes show at once." : why;
}

function go(query) {
  const next = { ...place.query, ...query };
  delete next.page;
  const path = [place.section, ...place.path.map(encodeURIComponent)].join("/");
  history.replaceState(null, "", href(path, next));
  arrive();
}

const busy = new WeakSet();
async function act(element) {
  const action = view?.actions?.[element.dataset.action];
  if (!action || busy.has(element)) return;
  busy.add(element);
  try {
    await action(element, place, data);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message, "error");
  } finally {
    busy.delete(element);
  }
  if (element.type === "checkbox") render();
  else await refresh();
}

main.addEventListener("click", (event) => {
  const element = event.target.closest("[data-action]");
  if (element) return void act(element);
  if (event.target.closest("a, button, input, select, label, summary")) return;
  const row = event.target.closest("[data-href]");
  if (row && String(getSelection()) === "") location.hash = row.dataset.href;
});

main.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.dataset.href) location.hash = event.target.dataset.href;
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const row = event.target.closest("tr[data-href]");
  const next = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
  if (next && event.target === row) {
    event.preventDefault();
    next.focus();
  }
});

main.addEventListener("submit", (event) => event.preventDefault());

let typing = 0;
function filter(event) {
  const { filter: name } = event.target.dataset;
  if (!name) return;
  clearTimeout(typing);
  const apply = () => go({ [name]: event.target.value });
  if (event.type === "change") apply();
  else if (event.target.nodeName === "INPUT") typing = setTimeout(apply, TYPING);
}
main.addEventListener("input", filter);
main.addEventListener("change", filter);

search.form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  const text = search.value.trim();
  location.hash = JOB_ID.test(text) ? `#/jobs/${text.toLowerCase()}` : href("jobs", { ...(view === jobs ? place.query : {}), page: undefined, q: text });
});
search.addEventListener("input", () => {
  clearTimeout(typing);
  if (view === jobs) typing = setTimeout(() => go({ q: search.value.trim() }), TYPING);
});

document.addEventListener("keydown", (event) => {
  const writes = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
  if (event.key === "Escape" && event.target === search) main.querySelector("h1")?.focus();
});

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.querySelector("h1")?.focus();
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("spooled-theme", root.dataset.theme);
  } catch {
    // Not remembered, then.
  }
});

document.getElementById("log-out").addEventListener("click", async () => {
  try {
    await logOut();
    leave(false);
  } catch (error) {
    say(error.message, "error");
  }
});

window.addEventListener("hashchange", arrive);
// Back from the log-in page: the browser may show this page as it was.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
setInterval(() => tick(main), 1000);

try {
  await startSession();
  const { organization, queues } = me();
  document.getElementById("who").textContent = queues === null ? organization : `${organization}: ${queues.join(", ")}`;
  arrive();
  live.start();
} catch (error) {
  if (error.status !== 401) say(error.message, "error");
}
