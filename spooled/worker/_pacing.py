"""When to claim next, and how many. No I/O and no clock: the engine tells what happened and does the waiting.

A claim that brought as many jobs as it asked for says that more may wait: the next one goes out as soon as
there is a free slot. A claim that brought fewer says that the queue was empty at that moment: the pauses then
grow from `FIRST_PAUSE` to `poll_interval`, so that a queue in use is picked up from quickly and an idle one is
asked rarely. Failures have a back-off of their own, and a server that names a time to wait gets all of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from spooled.worker._backoff import Backoff

FIRST_PAUSE = 0.05
"""Seconds before the first look after a queue turned out empty, when `poll_interval` is not shorter."""

FAILURE_CAP = 15.0
"""The longest wait in seconds between claims while the server cannot be reached."""

RELAXED_PAUSE = 20.0
"""The longest pause in seconds while something else tells of new jobs. Not everything is told: what becomes due by
time, or comes back from a dead worker, is only found by asking."""

CLAIM_LIMIT = 100
"""The most jobs that one claim may ask for (contract api-v1 §3.7)."""


class ClaimPacer:
    """Decides the pause before each claim.

    Args:
        poll_interval: The longest pause in seconds while the queue is empty.
        random: A source of numbers in [0, 1), for the jitter.
    """

    def __init__(self, poll_interval: float, random: Callable[[], float] = random.random) -> None:
        self._idle = Backoff(min(FIRST_PAUSE, poll_interval), poll_interval, random=random)
        self._failing = Backoff(max(0.25, min(1.0, poll_interval)), FAILURE_CAP, random=random)
        self._poll_interval = poll_interval
        self._pause = 0.0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next claim, counted from the end of the last one."""
        return self._pause

    @property
    def failures(self) -> int:
        """Claims that failed in a row."""
        return self._failing.steps

    def claimed(self, asked: int, got: int) -> None:
        """A claim was answered."""
        self._failing.reset()
        if got:
            self._idle.reset()
        self._pause = 0.0 if got >= asked else self._idle.next()

    def failed(self, retry_after: float | None = None) -> None:
        """A claim failed; `retry_after` is what the server asked for, in seconds."""
        delay = self._failing.next()
        # Never earlier than the server said; a little later, so that a fleet spreads out.
        self._pause = delay if retry_after is None else retry_after + min(delay, 1.0)

    def relax(self, relaxed: bool) -> None:
        """Whether something else tells of new jobs, so that an empty queue may be asked less often."""
        self._idle.cap = max(self._poll_interval, RELAXED_PAUSE) if relaxed else self._poll_interval
        self._pause = self._pause if relaxed or self._failing.steps else min(self._pause, self._poll_interval)

    def hint(self) -> bool:
        """Something says that there is work: look at once. False when a failing server is rather left alone.

        It does not make the looks after it any quicker: another worker may have been faster, and then there is
        nothing more to find.
        """
        if self._failing.steps:
            return False
        self._pause = 0.0
        return True


def claim_size(concurrency: int, running: int, unsettled: int) -> int:
    """How many jobs to ask for now; 0 means wait.

    Args:
        concurrency: The most handlers that may run at once.
        running: Handlers that run now, abandoned threads included.
        unsettled: Jobs whose handler returned and whose ack was not accepted yet.

    A slot is free when its handler returned, so claims overlap with acks. But once as many acks wait as there are
    slots, the server is too slow for more work, and claiming waits until most of them are through: one claim for
    many jobs then, instead of one for each ack.
    """
    free = concurrency - running
    accepted = 2 * concurrency - running - unsettled
    if accepted < free and 4 * accepted < 3 * concurrency:
        return 0
    return max(0, min(free, accepted, CLAIM_LIMIT))


LINGER = 0.001
"""Seconds after which a small claim that waits for company looks again; far less than a request takes."""

LINGERS = 5
"""How often it looks again before it goes out as it is."""


def worth_lingering(size: int, concurrency: int, unsettled: int) -> bool:
    """Whether to wait a moment before a claim of `size` jobs.

    Acks on their way mean that handlers are quick: more slots are about to get free, and one claim for all of them
    costs what a claim for one does. Without any, a free slot is filled at once.
    """
    return unsettled > 0 and 4 * size < 3 * concurrency
