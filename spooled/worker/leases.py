"""The lease keeper: everything that holds claimed jobs renews their leases through one of these."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spooled.errors import SpooledError
from spooled.worker._ack_policy import Decision, Operation, classify
from spooled.worker._deadline_timer import DeadlineTimer
from spooled.worker._lease_table import Lease, LeaseState, LeaseTable
from spooled.worker._log import WorkerLogger

__all__ = ["Lease", "LeaseKeeper", "LeaseState"]

logger = WorkerLogger("spooled.worker.leases")

Beat = Callable[[Lease, float], Awaitable[None]]
"""Sends one heartbeat for the lease, within so many seconds, or raises a `SpooledError`."""

OnLost = Callable[[Lease, SpooledError | None], None]
"""Told once about a lost lease, with the server's answer, or None when time ran out without one."""


class LeaseKeeper:
    """Renews every held lease until it is released, and reports each lost one exactly once.

    One task with one timer serves all leases; each renewal under way is a task, never a thread. It belongs to
    the event loop that runs it, and is called from that loop only.

    Args:
        beat: Sends one heartbeat. It gets a time-out well below what is left of the lease.
        on_lost: Called when a lease is lost: the server took the job back (404, 409), or the lease ran out
            while the server could not be reached. Must not block.
        on_trouble: Called with an error that decided nothing; the renewal is tried again by itself.
        fraction: Renew after this share of the lease, 0 < fraction <= 1. Default 0.5. At most 0.8 is used,
            because the server refuses a renewal at the very end (contract lifecycle §3).
    """

    def __init__(
        self,
        beat: Beat,
        *,
        on_lost: OnLost,
        on_trouble: Callable[[Lease, SpooledError], None] | None = None,
        fraction: float = 0.5,
    ) -> None:
        self._beat = beat
        self._on_lost = on_lost
        self._on_trouble = on_trouble
        self._table = LeaseTable(fraction)
        self._deadline_timer = DeadlineTimer()
        self._beats: set[asyncio.Task[None]] = set()
        self._last_beat_at: float | None = None

    def __len__(self) -> int:
        """Return how many leases are held."""
        return len(self._table)

    @property
    def last_beat_at(self) -> float | None:
        """The loop's time of the last accepted renewal; None before the first."""
        return self._last_beat_at

    def hold(self, job_id: str, lease_id: str, worker_id: str, *, duration: float, since: float) -> Lease:
        """Keep a lease from now on.

        Args:
            job_id: The claimed job.
            lease_id: The token that the claim returned.
            worker_id: The worker id that the claim was made with.
            duration: Lease length in seconds, as it was asked for.
            since: The loop's time when the claim was *sent*.
        """
        lease = Lease(job_id, lease_id, worker_id, duration, since + duration)
        self._table.hold(lease, since=since)
        self._deadline_timer.ring_at(lease.next_beat_at)
        return lease

    def release(self, lease: Lease) -> None:
        """Stop renewing: the job was settled. Calling it again, or after a loss, does nothing."""
        self._table.release(lease)

    async def run(self) -> None:
        """Renew leases until cancelled."""
        try:
            while True:
                await self._deadline_timer.wait()
                self._look()
        finally:
            self._deadline_timer.close()
            for task in tuple(self._beats):
                task.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for lease in self._table.over(now):
            self._lose(lease, None)
        for lease in self._table.due(now):
            task = loop.create_task(self._renew(lease, now))
            self._beats.add(task)
            task.add_done_callback(self._beats.discard)
        self._rearm()

    def _rearm(self) -> None:
        due = self._table.next_due()
        if due is not None:
            self._deadline_timer.ring_at(due)

    async def _renew(self, lease: Lease, sent_at: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._beat(lease, self._table.beat_timeout(lease, sent_at))
        except SpooledError as error:
            if lease.state is not LeaseState.HELD:
                return
            if classify(Operation.HEARTBEAT, error) is Decision.LOST:
                self._lose(lease, error)
                return
            self._table.missed(lease, now=loop.time())
            if self._on_trouble is not None:
                self._on_trouble(lease, error)
        except Exception:
            # A bug in `beat` must not cost the lease: it is tried again like any other failure.
            logger.exception("heartbeat of job %s failed unexpectedly; trying again", lease.job_id)
            self._table.missed(lease, now=loop.time())
        else:
            self._last_beat_at = loop.time()
            self._table.renewed(lease, sent_at=sent_at)
        self._rearm()

    def _lose(self, lease: Lease, error: SpooledError | None) -> None:
        if not self._table.lose(lease):
            return
        try:
            self._on_lost(lease, error)
        except Exception:
            logger.exception("the handler of lost leases failed for job %s", lease.job_id)
