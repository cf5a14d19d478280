// A workflow as a picture: jobs in layers, each to the right of everything it waits for.

import { id } from "./api.js";
import { svg } from "./dom.js";
import { short, statusName } from "./format.js";

const WIDTH = 176;
const HEIGHT = 48;
const ACROSS = 64;
const DOWN = 20;
const EDGE = 12;

// Which layer each node is in (the longest way to it), and its place there, chosen so that edges cross less.
export function layout(ids, edges) {
  const parents = new Map(ids.map((one) => [one, []]));
  const children = new Map(ids.map((one) => [one, []]));
  for (const [parent, child] of edges) {
    if (!parents.has(child) || !children.has(parent)) continue;
    parents.get(child).push(parent);
    children.get(parent).push(child);
  }
  const layerOf = new Map();
  const missing = new Map(ids.map((one) => [one, parents.get(one).length]));
  let ready = ids.filter((one) => missing.get(one) === 0);
  while (ready.length) {
    const next = [];
    for (const one of ready) {
      layerOf.set(one, Math.max(-1, ...parents.get(one).map((parent) => layerOf.get(parent))) + 1);
      for (const child of children.get(one)) {
        missing.set(child, missing.get(child) - 1);
        if (missing.get(child) === 0) next.push(child);
      }
    }
    ready = next;
  }
  const layers = [];
  for (const one of ids) (layers[layerOf.get(one) ?? 0] ??= []).push(one);
  const place = new Map();
  const number = (layer) => layer.forEach((one, index) => place.set(one, index - (layer.length - 1) / 2));
  layers.forEach(number);
  const middle = (one, others) => (others.length ? others.reduce((sum, other) => sum + place.get(other), 0) / others.length : place.get(one));
  for (let round = 0; round < 4; round++) {
    const forward = round % 2 === 0;
    for (const layer of forward ? layers : [...layers].reverse()) {
      const at = new Map(layer.map((one) => [one, middle(one, (forward ? parents : children).get(one))]));
      layer.sort((one, other) => at.get(one) - at.get(other));
      number(layer);
    }
  }
  return { layers, place };
}

export function drawGraph(jobs, dependencies) {
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const edges = dependencies.map((one) => [one.parent_job_id, one.child_job_id]).filter((pair) => pair.every((one) => byId.has(one)));
  const { layers, place } = layout(jobs.map((job) => job.id), edges);
  const tallest = Math.max(...layers.map((layer) => layer.length));
  const width = layers.length * (WIDTH + ACROSS) - ACROSS + 2 * EDGE;
  const height = tallest * (HEIGHT + DOWN) - DOWN + 2 * EDGE;
  const at = new Map();
  layers.forEach((layer, column) => {
    for (const one of layer) {
      at.set(one, { x: EDGE + column * (WIDTH + ACROSS), y: height / 2 - HEIGHT / 2 + place.get(one) * (HEIGHT + DOWN) });
    }
  });
  return svg(
    "svg",
    { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Jobs and what they wait for" },
    edges.map(([parent, child]) => edge(at.get(parent), at.get(child), byId.get(parent).status)),
    layers.flat().map((one) => node(byId.get(one), at.get(one))),
  );
}

function edge(from, to, status) {
  const [x1, y1] = [from.x + WIDTH, from.y + HEIGHT / 2];
  const [x2, y2] = [to.x - 5, to.y + HEIGHT / 2];
  const bend = (x2 - x1) / 2;
  return svg(
    "g",
    { class: ["edge", status === "completed" && "done"] },
    svg("path", { d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }),
    svg("path", { class: "tip", d: `M${x2} ${y2 - 4} L${x2 + 5} ${y2} L${x2} ${y2 + 4} Z` }),
  );
}

function node(job, { x, y }) {
  const name = job.payload?.job_type || job.queue;
  return svg(
    "a",
    { href: `#/jobs/${id(job.id)}`, class: ["node", `is-${job.status}`], "data-key": job.id, transform: `translate(${x} ${y})`, "aria-label": `${name}, ${statusName(job.status)}` },
    svg("title", {}, `${name}\n${job.id}`),
    svg("rect", { width: WIDTH, height: HEIGHT, rx: 6 }),
    svg("circle", { cx: 16, cy: HEIGHT / 2, r: 4 }),
    svg("text", { x: 30, y: 20, class: "name" }, cut(String(name), 20)),
    svg("text", { x: 30, y: 36, class: "state" }, `${statusName(job.status)} · ${short(job.id)}`),
  );
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
