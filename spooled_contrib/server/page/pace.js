// Jobs created and completed over the last minutes. The server tells the whole window once and then only its end.

import { numbers } from "./api.js";
import { setServerTime } from "./format.js";

const BUCKETS = 30;

let known = new Map(); // queue -> bucket number -> {created, completed}
let last = 0; // seconds since the epoch at which the newest bucket begins
let size = 10;

export async function fetchNumbers() {
  const found = await numbers(last || undefined);
  setServerTime(found.now);
  size = found.pace_seconds;
  const first = found.pace_from / size;
  last = found.pace_from + (found.pace_buckets - 1) * size;
  const newest = last / size;
  for (const queue of found.queues) {
    const buckets = known.get(queue.queue_name) ?? new Map();
    known.set(queue.queue_name, buckets);
    for (let index = 0; index < found.pace_buckets; index++) {
      buckets.set(first + index, { created: queue.created[index] ?? 0, completed: queue.completed[index] ?? 0 });
    }
    for (const number of buckets.keys()) if (number <= newest - BUCKETS) buckets.delete(number);
    queue.series = series(buckets, newest);
  }
  const names = new Set(found.queues.map((queue) => queue.queue_name));
  for (const name of known.keys()) if (!names.has(name)) known.delete(name);
  found.series = total(found.queues.map((queue) => queue.series));
  return found;
}

function series(buckets, newest) {
  const created = [];
  const completed = [];
  for (let number = newest - BUCKETS + 1; number <= newest; number++) {
    created.push(buckets.get(number)?.created ?? 0);
    completed.push(buckets.get(number)?.completed ?? 0);
  }
  return withTrend({ created, completed });
}

function total(all) {
  const sum = (name) => Array.from({ length: BUCKETS }, (_, index) => all.reduce((value, one) => value + one[name][index], 0));
  return withTrend({ created: sum("created"), completed: sum("completed") });
}

// The newest bucket is still filling up: drawn, it would always look like a fall.
function withTrend(counts) {
  return { ...counts, trend: counts.completed.slice(0, -1) };
}

// Jobs in the last minute.
export function perMinute(values) {
  return values.slice(-Math.round(60 / size)).reduce((one, other) => one + other, 0);
}
