"""Whether a worker does its work: for probes, never for decisions about jobs."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from spooled.worker.state import WorkerState


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """A worker at one moment.

    Attributes:
        state: What it is doing.
        worker_id: Its id; None while it is not running.
        active_jobs: Jobs that are claimed and not settled.
        last_claim_at: When the server last answered a claim, also with no jobs; UTC. None before the first.
        last_heartbeat_at: When the server last accepted a heartbeat of the worker itself; UTC.
        claim_failures: Claims that failed in a row; 0 while all is well.
        last_error: What the last failing request was answered, as text; None once claims succeed again.
        dead_threads: Handler threads that have died and could not be replaced yet; 0 while all is well.
        stuck: Handlers that go on although their jobs were aborted `timeout_grace` ago; each holds a slot.
        concurrency: How many slots there are; 0 while the worker is not running.
    """

    state: WorkerState
    worker_id: str | None
    active_jobs: int
    last_claim_at: dt.datetime | None
    last_heartbeat_at: dt.datetime | None
    claim_failures: int
    last_error: str | None
    dead_threads: int = 0
    stuck: int = 0
    concurrency: int = 0

    def is_ready(self, *, within: float = 60.0) -> bool:
        """Return whether it is running and the server has answered a claim in the last `within` seconds.

        A worker that has lost a thread is not ready until it is replaced, and one whose slots are all stuck is not
        until one of them ends. A worker whose slots are all taken does not claim; its own heartbeats count then.
        """
        if self.state is not WorkerState.RUNNING or 0 < self.concurrency <= self.stuck:
            return False
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=within)
        seen = [at for at in (self.last_claim_at, self.last_heartbeat_at) if at is not None]
        return not self.claim_failures and not self.dead_threads and any(at >= since for at in seen)


def moment(epoch: float | None) -> dt.datetime | None:
    """Return seconds since the epoch as a time in UTC."""
    return None if epoch is None else dt.datetime.fromtimestamp(epoch, dt.UTC)
