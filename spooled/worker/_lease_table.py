"""Which leases are held, when each is renewed and when each is over. Pure: the time is an argument.

All times are seconds of one monotonic clock. A lease's end is counted from the moment its claim or renewal was
*sent*: the server starts counting later, so the end known here is never after the server's.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

LATEST_BEAT = 0.8
"""The largest share of a lease that may pass before its renewal, whatever the fraction asked for: a beat that
is sent at the very end is refused by the server."""

JITTER = 0.1
"""Beats come up to this share earlier, so that leases claimed together are not renewed together."""

RETRY_DELAY = 0.5
"""Seconds before a beat that failed is sent again, when the lease has that long."""

SHORTEST_RETRY_DELAY = 0.1
"""Near the end of a lease: often enough to catch a server that comes back, not a flood for one that does not."""


class LeaseState(enum.StrEnum):
    HELD = "held"
    LOST = "lost"
    RELEASED = "released"


@dataclass(slots=True, eq=False)
class Lease:
    """The right to work on one claimed job, for as long as it is renewed.

    Attributes:
        job_id: The job.
        lease_id: The fencing token of this claim; unique for each claim.
        worker_id: The worker that the job is assigned to.
        duration: Lease length in seconds; every renewal sets the end to now plus this.
        expires_at: The end, on the keeper's monotonic clock.
        state: `held`, `lost` or `released`.
    """

    job_id: str
    lease_id: str
    worker_id: str
    duration: float
    expires_at: float
    state: LeaseState = LeaseState.HELD
    next_beat_at: float = 0.0
    beating: bool = field(default=False, repr=False)

    def remaining(self, now: float) -> float:
        """Return seconds left, never negative."""
        return max(0.0, self.expires_at - now)


class LeaseTable:
    """The set of held leases and the times at which something is due.

    Args:
        fraction: Renew after this share of the lease. Values above `LATEST_BEAT` are brought down to it.
        random: A source of numbers in [0, 1), for the jitter.
    """

    def __init__(self, fraction: float = 0.5, random: Callable[[], float] = random.random) -> None:
        self._fraction = min(fraction, LATEST_BEAT)
        self._random = random
        self._held: dict[Lease, None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._held))

    def hold(self, lease: Lease, *, since: float) -> None:
        """Begin to keep a lease that was granted to a request sent at `since`."""
        self._schedule(lease, since)
        self._held[lease] = None

    def release(self, lease: Lease) -> None:
        """Stop keeping a lease because its job was settled. Does nothing to one that was lost."""
        self._held.pop(lease, None)
        if lease.state is LeaseState.HELD:
            lease.state = LeaseState.RELEASED

    def lose(self, lease: Lease) -> bool:
        """Mark a lease as lost. True the first time only, and never for one that was released."""
        self._held.pop(lease, None)
        if lease.state is not LeaseState.HELD:
            return False
        lease.state = LeaseState.LOST
        return True

    def due(self, now: float) -> list[Lease]:
        """Leases whose renewal should be sent now; each is marked as being renewed."""
        due = [
            lease
            for lease in self._held
            if not lease.beating and lease.next_beat_at <= now < lease.expires_at
        ]
        for lease in due:
            lease.beating = True
        return due

    def over(self, now: float) -> list[Lease]:
        """Leases whose time has run out. A renewal on its way no longer matters: it would be refused."""
        return [lease for lease in self._held if lease.expires_at <= now]

    def next_due(self) -> float | None:
        """When to look again, or None while nothing is held."""
        return min(
            (
                lease.expires_at if lease.beating else min(lease.next_beat_at, lease.expires_at)
                for lease in self._held
            ),
            default=None,
        )

    def renewed(self, lease: Lease, *, sent_at: float) -> None:
        """A renewal was accepted."""
        lease.beating = False
        self._schedule(lease, sent_at)

    def missed(self, lease: Lease, *, now: float) -> None:
        """A renewal failed in a way that decides nothing: it is sent again while there is time."""
        lease.beating = False
        lease.next_beat_at = now + max(SHORTEST_RETRY_DELAY, min(RETRY_DELAY, lease.remaining(now) / 4))

    def beat_timeout(self, lease: Lease, now: float) -> float:
        """Return how long a renewal may take in seconds, so that at least one more fits into what is left."""
        return max(0.1, lease.remaining(now) * 0.4)

    def _schedule(self, lease: Lease, since: float) -> None:
        lease.expires_at = since + lease.duration
        lease.next_beat_at = since + lease.duration * self._fraction * (1 - JITTER * self._random())
