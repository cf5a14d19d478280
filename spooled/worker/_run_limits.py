"""How much one run of one or several workers is to do: without an end, until nothing is left, or so many jobs.

No I/O and no clock: engines tell what happened and ask how much they may claim. All engines of a run live on one
loop, so nothing here is locked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from spooled.errors import SpooledError


class Participant(Protocol):
    """A worker, as the limits of its run see it."""

    def request_stop(self) -> None:
        """Claim no more, and drain."""

    def room_changed(self) -> None:
        """More may be allowed than before."""

    def poll_now(self) -> None:
        """Claim as soon as there is room; do not wait for the end of a pause."""


class RunLimits:
    """The work of one run.

    Quiet, for `burst`, means: every member's queue was found empty by a claim that was sent after the last job of
    any of them had ended, and none is active. For a job may have enqueued others, on any queue, until it ended. The
    queue of a member that has left is nobody's business any more.

    Args:
        burst: End when it is quiet.
        max_jobs: End when so many jobs have ended; never more than that are claimed. None for no limit.
        on_ended: Told the id of each job that has ended, however it did.
        on_trouble: Told of each request that failed and is tried again.

    Raises:
        TypeError: `max_jobs` is no whole number.
        ValueError: It is less than 1.
    """

    def __init__(
        self,
        *,
        burst: bool = False,
        max_jobs: int | None = None,
        on_ended: Callable[[str], None] | None = None,
        on_trouble: Callable[[SpooledError], None] | None = None,
    ) -> None:
        if max_jobs is not None:
            if isinstance(max_jobs, bool) or not isinstance(max_jobs, int):
                raise TypeError(f"max_jobs must be a whole number or None, got {max_jobs!r}")
            if max_jobs < 1:
                raise ValueError(f"max_jobs must be at least 1, got {max_jobs}")
        self._burst = burst
        self._max_jobs = max_jobs
        self._on_ended = on_ended
        self._on_trouble = on_trouble
        self._empty_at: dict[Participant, float | None] = {}
        self._asked = 0
        self._taken = 0
        self._ended = 0
        self._last_end: float | None = None
        self._done = False

    @property
    def burst(self) -> bool:
        """Whether it ends when nothing is left to do."""
        return self._burst

    @property
    def active(self) -> int:
        """Jobs that were claimed and have not ended."""
        return self._taken - self._ended

    def join(self, participant: Participant) -> None:
        """One more worker takes part. All join before any of them claims."""
        self._empty_at[participant] = None

    def allowed(self, room: int) -> int:
        """Return how many of `room` jobs may be claimed now."""
        if self._max_jobs is None:
            return room
        return max(0, min(room, self._max_jobs - self._taken - self._asked))

    def asking(self, count: int) -> None:
        """A claim for `count` jobs is sent; `answered` or `unanswered` follows."""
        self._asked += count

    def answered(self, participant: Participant, asked: int, got: int, sent_at: float) -> None:
        """A claim that was sent at that time has brought so many jobs."""
        self._asked -= asked
        self._taken += got
        self._empty_at[participant] = None if got else sent_at
        self._share(asked - got)
        self._settle()

    def unanswered(self, asked: int) -> None:
        """A claim has failed."""
        self._asked -= asked
        self._share(asked)

    def ended(self, job_id: str, now: float) -> None:
        """It is decided how an execution ended."""
        self._ended += 1
        self._last_end = now
        if self._on_ended is not None:
            self._on_ended(job_id)
        self._settle()

    def leave(self, participant: Participant, unsettled: int, now: float) -> None:
        """The member has ended and claims no more, for example because it alone was stopped.

        Args:
            participant: Who leaves; it has no claim under way.
            unsettled: Its jobs of which nothing more will be told.
            now: The time.
        """
        del self._empty_at[participant]
        if unsettled:
            self._ended += unsettled
            self._last_end = now
        self._settle()

    def troubled(self, error: SpooledError) -> None:
        """A request has failed and is tried again."""
        if self._on_trouble is not None:
            self._on_trouble(error)

    def _share(self, released: int) -> None:
        """Return what one claim had reserved and did not use, another member may have been waiting for."""
        if self._max_jobs is not None and released:
            for participant in self._empty_at:
                participant.room_changed()

    def _settle(self) -> None:
        if self._done:
            return
        if self._max_jobs is not None and self._ended >= self._max_jobs:
            self._finish()
        elif self._burst and not self.active:
            late = [participant for participant, at in self._empty_at.items() if not self._is_after_all(at)]
            if not late:
                self._finish()
            for participant in late:
                participant.poll_now()

    def _is_after_all(self, empty_at: float | None) -> bool:
        return empty_at is not None and (self._last_end is None or empty_at > self._last_end)

    def _finish(self) -> None:
        self._done = True
        for participant in self._empty_at:
            participant.request_stop()
