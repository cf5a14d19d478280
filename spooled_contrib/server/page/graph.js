// A workflow as a picture of its jobs and what they wait for. Each job is a link, so the keyboard reaches it.

import { id } from "./api.js";
import { svg } from "./dom.js";
import { short, statusName, typeOf } from "./format.js";
import { layout } from "./layout.js";

const WIDTH = 176;
const HEIGHT = 48;
const ACROSS = 64;
const DOWN = 20;
const EDGE = 12;
const TIP = 6;

export function drawGraph(jobs, dependencies) {
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const edges = dependencies
    .map((one) => [one.parent_job_id, one.child_job_id])
    .filter(([parent, child]) => byId.has(parent) && byId.has(child));
  const { layers, chains } = layout([...byId.keys()], edges);
  const heightOf = (one) => (byId.has(one) ? HEIGHT : 0);
  const tall = (layer) => layer.reduce((sum, one) => sum + heightOf(one) + DOWN, -DOWN);
  const width = layers.length * (WIDTH + ACROSS) - ACROSS + 2 * EDGE;
  const height = Math.max(...layers.map(tall)) + 2 * EDGE;
  const at = new Map(); // the middle of each one's left side
  layers.forEach((layer, column) => {
    let y = (height - tall(layer)) / 2;
    for (const one of layer) {
      at.set(one, { x: EDGE + column * (WIDTH + ACROSS), y: y + heightOf(one) / 2 });
      y += heightOf(one) + DOWN;
    }
  });
  return svg(
    "svg",
    { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Jobs and what they wait for" },
    chains.map((chain) => edge(chain.map((one) => at.get(one)), byId.get(chain[0]).status === "completed")),
    layers.flat().filter((one) => byId.has(one)).map((one) => node(byId.get(one), at.get(one))),
  );
}

// From the right side of the first to the left side of the last, straight through the waypoints between them.
function edge(points, done) {
  let path = `M${points[0].x + WIDTH} ${points[0].y}`;
  for (let index = 1; index < points.length; index++) {
    const [from, to] = [points[index - 1], points[index]];
    const last = index === points.length - 1;
    const [x1, x2] = [from.x + WIDTH, last ? to.x - TIP : to.x];
    const bend = (x1 + x2) / 2;
    path += ` C${bend} ${from.y} ${bend} ${to.y} ${x2} ${to.y}`;
    if (!last) path += ` H${to.x + WIDTH}`;
  }
  const { x, y } = points.at(-1);
  return svg(
    "g",
    { class: ["edge", done && "done"] },
    svg("path", { d: path }),
    svg("path", { class: "tip", d: `M${x - TIP} ${y - 4} L${x} ${y} L${x - TIP} ${y + 4} Z` }),
  );
}

function node(job, { x, y }) {
  const name = typeOf(job.payload) || job.queue;
  return svg(
    "a",
    {
      href: `#/jobs/${id(job.id)}`,
      class: ["node", `is-${job.status}`],
      "data-key": job.id,
      transform: `translate(${x} ${y - HEIGHT / 2})`,
      "aria-label": `${name}, ${statusName(job.status)}`,
    },
    svg("title", {}, `${name}\n${job.id}`),
    svg("rect", { width: WIDTH, height: HEIGHT, rx: 6 }),
    svg("circle", { cx: 16, cy: HEIGHT / 2, r: 4 }),
    svg("text", { x: 30, y: 20, class: "name" }, cut(name, 19)),
    svg("text", { x: 30, y: 36, class: "state" }, `${statusName(job.status)} · ${short(job.id)}`),
  );
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
