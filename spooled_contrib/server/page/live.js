// Word from the server that something changed: over server-sent events, and by asking again while they are away.

const EVENTS = ["job.created", "job.status", "job.completed", "job.failed", "queue.stats", "worker.registered", "worker.deregistered"];
const LIVE_EVERY = 3000; // claims and heartbeats are not announced
const POLL_EVERY = 2000;
const SETTLE = 300; // a burst of events is one refresh
const RETRY_FIRST = 1000;
const RETRY_MOST = 15000;

export class Live {
  #source = null;
  #retryAfter = RETRY_FIRST;
  #retryTimer = 0;
  #refreshTimer = 0;
  #busy = false;
  #again = false;
  #took = 0;

  // `refresh` brings the view up to date; `onState` hears "live", "reconnecting" or "paused".
  constructor(refresh, onState) {
    this.refresh = refresh;
    this.onState = onState;
    // A hidden tab neither asks nor listens: browsers allow few connections to one server, and tabs share them.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#rest() : this.start()));
  }

  start() {
    if (document.hidden) return;
    this.#connect();
    this.soon(0);
  }

  // Refresh after `delay` milliseconds, once, however often this is asked for.
  soon(delay = SETTLE) {
    if (document.hidden) return;
    // A server that is slow to answer is asked less often.
    this.#plan(Math.max(delay, Math.min(this.#took * 4, 30000)));
  }

  #plan(delay) {
    const at = performance.now() + delay;
    if (this.#refreshTimer && this.plannedAt <= at) return;
    clearTimeout(this.#refreshTimer);
    this.plannedAt = at;
    this.#refreshTimer = setTimeout(() => {
      this.#refreshTimer = 0;
      this.now();
    }, delay);
  }

  async now() {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    const began = performance.now();
    try {
      await this.refresh();
    } finally {
      this.#busy = false;
      this.#took = performance.now() - began;
      if (this.#again) this.soon();
      this.#again = false;
      this.soon(this.#source?.readyState === EventSource.OPEN ? LIVE_EVERY : POLL_EVERY);
    }
  }

  #connect() {
    this.#drop();
    const source = new EventSource("/api/v1/events");
    this.#source = source;
    source.onopen = () => {
      this.#retryAfter = RETRY_FIRST;
      this.onState("live");
      this.soon(0); // what happened while nobody listened
    };
    source.onerror = () => {
      if (this.#source !== source) return;
      this.#drop();
      this.onState("reconnecting");
      this.soon(0); // also finds out whether the session has ended
      const wait = this.#retryAfter * (1 + Math.random() / 4);
      this.#retryAfter = Math.min(this.#retryAfter * 2, RETRY_MOST);
      this.#retryTimer = setTimeout(() => this.#connect(), wait);
    };
    for (const name of EVENTS) source.addEventListener(name, () => this.soon());
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    this.#source?.close();
    this.#source = null;
  }

  #rest() {
    this.#drop();
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = 0;
  }
}
