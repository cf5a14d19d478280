// Where the jobs of a workflow go: in layers, each job to the right of everything it waits for.

const ROUNDS = 6;

// Returns layers of names, top to bottom, and for each edge the names it leads through. An edge over several layers
// gets a waypoint in each, so that it has room of its own and does not run behind other jobs.
export function layout(ids, edges) {
  const layerOf = longestWays(ids, edges);
  const layers = [];
  for (const one of ids) (layers[layerOf.get(one)] ??= []).push(one);
  const chains = edges.map(([parent, child], index) => {
    const chain = [parent];
    for (let layer = layerOf.get(parent) + 1; layer < layerOf.get(child); layer++) {
      const waypoint = `waypoint ${index} ${layer}`;
      layers[layer].push(waypoint);
      chain.push(waypoint);
    }
    return [...chain, child];
  });
  order(layers, chains);
  return { layers, chains };
}

// The layer of each job: the longest way that leads to it.
function longestWays(ids, edges) {
  const children = new Map(ids.map((one) => [one, []]));
  const missing = new Map(ids.map((one) => [one, 0]));
  for (const [parent, child] of edges) {
    children.get(parent).push(child);
    missing.set(child, missing.get(child) + 1);
  }
  const layerOf = new Map(ids.map((one) => [one, 0]));
  const ready = ids.filter((one) => missing.get(one) === 0);
  for (const one of ready) {
    for (const child of children.get(one)) {
      layerOf.set(child, Math.max(layerOf.get(child), layerOf.get(one) + 1));
      missing.set(child, missing.get(child) - 1);
      if (missing.get(child) === 0) ready.push(child);
    }
  }
  return layerOf;
}

// Moves each to the middle of its neighbours, to and fro, which takes most crossings out.
function order(layers, chains) {
  const before = new Map();
  const after = new Map();
  for (const chain of chains) {
    for (let index = 1; index < chain.length; index++) {
      push(before, chain[index], chain[index - 1]);
      push(after, chain[index - 1], chain[index]);
    }
  }
  const place = new Map();
  const number = (layer) => layer.forEach((one, index) => place.set(one, index - (layer.length - 1) / 2));
  layers.forEach(number);
  for (let round = 0; round < ROUNDS; round++) {
    const neighbours = round % 2 ? after : before;
    for (const layer of round % 2 ? [...layers].reverse() : layers) {
      const wanted = new Map(layer.map((one) => [one, middle(neighbours.get(one), place) ?? place.get(one)]));
      layer.sort((one, other) => wanted.get(one) - wanted.get(other));
      number(layer);
    }
  }
}

function middle(names, place) {
  return names && names.reduce((sum, one) => sum + place.get(one), 0) / names.length;
}

function push(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}
