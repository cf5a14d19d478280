"""When to claim next, and how many. No I/O and no clock: the engine tells what happened and does the waiting.

A claim that brought as many jobs as it asked for says that more may wait: the next one goes out as soon as
there is a free slot, or before, when handlers are quicker than a round trip. A claim that brought fewer says that the
queue was empty at that moment: the pauses then grow from `FIRST_PAUSE` to `poll_interval`, so that a queue in use is
picked up from quickly and an idle one is asked rarely. Failures have a back-off of their own, and a server that names a
time to wait gets all of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spooled.worker._backoff import Backoff

FIRST_PAUSE = 0.05
"""Seconds before the first look after a queue turned out empty, when `poll_interval` is not shorter."""

FAILURE_CAP = 15.0
"""The longest wait in seconds between claims while the server cannot be reached."""

PUSH_PAUSE = 20.0
"""The longest pause in seconds while something else tells of new jobs. Not everything is told: what becomes due by
time, or comes back from a dead worker, is only found by asking."""

VAIN_PAUSE = 0.32
"""The longest time in seconds between an announcement and the look that follows it, for a worker that finds nothing
time and again: of a fleet of idle workers a few look at once, and not all of them for each job."""

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
        self._random = random
        self._pause = 0.0
        self._vain = Backoff(VAIN_PAUSE / 2**5, VAIN_PAUSE, random=random)
        self._announced = False
        self._after_announcement = 0.0

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
            self._vain.reset()
            self._after_announcement = 0.0
        elif self._announced:
            self._after_announcement = self._vain.next()
        self._announced = False
        self._pause = 0.0 if got >= asked else self._idle.next()

    def failed(self, retry_after: float | None = None) -> None:
        """A claim failed; `retry_after` is what the server asked for, in seconds."""
        delay = self._failing.next()
        # Never earlier than the server said; a little later, so that a fleet spreads out.
        self._pause = delay if retry_after is None else retry_after + min(delay, 1.0)

    def set_push_active(self, active: bool) -> None:
        """Return whether something else tells of new jobs, so that an empty queue may be asked less often."""
        self._idle.cap = max(self._poll_interval, PUSH_PAUSE) if active else self._poll_interval
        self._pause = self._pause if active or self._failing.steps else min(self._pause, self._poll_interval)

    def wake(self) -> bool:
        """Something says that there is work: look at once. False when a failing server is rather left alone.

        It does not make the looks after it any quicker: another worker may have been faster, and then there is
        nothing more to find.
        """
        if self._failing.steps:
            return False
        self._pause = 0.0
        return True

    def announced(self) -> bool:
        """Something says that a new job came: look soon, and at once if such looks find something.

        Another worker may be quicker, so the looks that found nothing make the next ones later, each by chance.
        """
        if self._failing.steps:
            return False
        if not self._announced:
            self._announced = True
            self._pause = self._after_announcement * self._random()
        return True


AHEAD_LIMIT = 100
"""The most jobs that are held beyond the slots, however quick the handlers are."""

QUICK = 4.0
"""A handler is quick when it takes no longer than so many claims. A slower one loses little by waiting for a claim, and
what waited here for it would wait for long: handlers that began together end together."""

SHORTEST_CLAIM = 0.01
"""Seconds that a claim counts for at least: handlers that are far quicker than that cost few claims, and the jobs that
wait here for them wait for as long as that."""

ACKS_AT_ONCE = 100
"""The most ack requests of one worker that are under way at the same time, however far away the server is."""

SPARE_ACKS = 8
"""Requests for acks beyond one for each slot that may be under way in any case."""

ACK_RATE = 2000.0
"""Acks a second that the requests under way should be enough for."""

RESULTS_LIMIT = 16 * 2**20
"""Bytes of results that wait for their acks and stop claims, so that a server that is away costs bounded memory."""


class Tempo:
    """Learns how quick handlers and round trips are, and says how far to be ahead of both.

    It is quick to believe that handlers are slow, and slow to believe that they are quick: a job that is claimed too
    early waits here while another worker may be idle.

    Args:
        concurrency: The most handlers that may run at once.
        lease: Seconds of a lease.
    """

    def __init__(self, concurrency: int, lease: float) -> None:
        self._concurrency = concurrency
        self._lease = lease
        self._run: float | None = None
        self._claim: float | None = None
        self._ack: float | None = None
        self._more_waits = False
        self._to_end = 0

    def ran(self, seconds: float) -> None:
        """A handler has ended."""
        self._to_end -= 1
        if self._run is None:
            self._run = seconds
        else:
            self._run += (seconds - self._run) / (2 if seconds > self._run else 16)

    def claimed(self, asked: int, got: int, seconds: float) -> None:
        """A claim was answered after so many seconds."""
        self._claim = seconds
        self._more_waits = got >= asked
        self._to_end = min(got, self._concurrency)

    def failed(self) -> None:
        """A claim has failed: nothing is known about what waits."""
        self._more_waits = False

    def acked(self, seconds: float) -> None:
        """A request for an ack was answered after so many seconds."""
        # The quickest one counts, because waiting for the server to have time is no reason to ask for more at once;
        # it is forgotten slowly, for the way to the server may change.
        self._ack = seconds if self._ack is None else min(seconds, self._ack * 1.02)

    def ahead(self, ages: Iterable[float]) -> int:
        """Return how many jobs will begin while a claim is on its way; 0 when free slots are soon enough.

        Args:
            ages: For how many seconds each handler runs already. One that runs for much longer than others did gives
                no slot back soon.
        """
        # Before the first ack nothing says that the server takes any.
        if not self._more_waits or self._run is None or self._claim is None or self._ack is None:
            return 0
        # What the last claim brought may be of another kind than what came before it.
        if self._to_end > 0:
            return 0
        run, claim = max(self._run, 1e-6), max(self._claim, SHORTEST_CLAIM)
        if run > QUICK * claim:
            return 0
        usual = max(QUICK * run, SHORTEST_CLAIM)
        flowing = self._concurrency - sum(age > usual for age in ages)
        # Twice as many are held at most. The last of them begins before half of its lease is over.
        within_lease = flowing * (self._lease / 2 - claim) / run / 2
        jobs = min(flowing * claim / run, within_lease, AHEAD_LIMIT / 2)
        return max(0, math.floor(jobs))

    def acks_under_way(self) -> int:
        """Return how many requests for acks are under way at `ACK_RATE`; at most `ACKS_AT_ONCE`."""
        return 0 if self._ack is None else min(math.ceil(self._ack * ACK_RATE), ACKS_AT_ONCE)

    def acks_at_once(self) -> int:
        """Return how many requests for acks may be under way."""
        return max(self._concurrency + SPARE_ACKS, self.acks_under_way())


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker holds at a moment.

    Attributes:
        running: Handlers that run, abandoned threads included.
        waiting: Claimed jobs that have not begun.
        unsettled: Jobs whose handler has ended and whose ack was not accepted yet.
        results: Bytes of results among those.
        failing: Acks whose last attempt has failed.
    """

    running: int = 0
    waiting: int = 0
    unsettled: int = 0
    results: int = 0
    failing: int = 0


def claim_size(concurrency: int, load: Load, *, ahead: int = 0, acks_under_way: int = 0) -> int:
    """Return how many jobs to ask for now; 0 means wait.

    A slot is free when its handler has ended, so claims overlap with acks. Jobs are held beyond the slots when more
    than one will begin while a claim is on its way, and never while acks fail. Once as many acks wait as there are
    slots, or as may be under way, the server is too slow for more work, and claiming waits until most of them are
    through: one claim for many jobs then, instead of one for each ack.

    Args:
        concurrency: The most handlers that may run at once.
        load: What is held now.
        ahead: How many jobs begin while a claim is on its way.
        acks_under_way: How many requests for acks are under way when handlers are quick.
    """
    if load.failing:
        ahead = acks_under_way = 0
    if load.results > RESULTS_LIMIT or (load.waiting and load.waiting >= ahead):
        return 0
    slots = concurrency + 2 * ahead
    free = slots - load.running - load.waiting
    unsettled_limit = max(concurrency, acks_under_way) + 2 * ahead
    accepted = slots + unsettled_limit - load.running - load.waiting - load.unsettled
    if accepted < free and 4 * accepted < 3 * concurrency:
        return 0
    return max(0, min(free, accepted, CLAIM_LIMIT))


BATCH_WAIT = 0.001
"""Seconds after which a small claim that waits for company looks again; far less than a request takes."""

BATCH_WAITS = 5
"""How often it looks again before it goes out as it is."""


def should_batch(size: int, concurrency: int, unsettled: int) -> bool:
    """Return whether to wait a moment before a claim of `size` jobs.

    Acks on their way mean that handlers are quick: more slots are about to get free, and one claim for all of them
    costs what a claim for one does. Without any, a free slot is filled at once.
    """
    return unsettled > 0 and 4 * size < 3 * concurrency


BATCH_PATIENCE = 0.5
"""Seconds after which acks no longer wait for the answer to the batch before them."""


class BatchPacer:
    """Decides when the next batch of acks goes out.

    One is under way at a time, so that what ends meanwhile gathers. A batch that is not answered soon does not hold up
    the next, and neither does any when enough has gathered for a full one.
    """

    def __init__(self, full: int = 100, patience: float = BATCH_PATIENCE) -> None:
        self._full = full
        self._patience = patience
        self._under_way = 0
        self._sent_at = 0.0

    def may_send(self, now: float, gathered: int) -> bool:
        """Tell whether a batch with what has gathered may go out."""
        return not self._under_way or gathered >= self._full or now >= self._sent_at + self._patience

    def sent(self, now: float) -> None:
        """Know of a batch that goes out."""
        self._under_way += 1
        self._sent_at = now

    def answered(self) -> None:
        """Know of a batch that is answered, or given up."""
        self._under_way -= 1

    def patience(self, now: float) -> float:
        """Return the seconds until a batch may go out whatever is under way."""
        return max(0.0, self._sent_at + self._patience - now)
