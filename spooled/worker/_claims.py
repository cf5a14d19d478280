"""The claims of a worker's engine: how they are asked for, counted and told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from spooled.errors import SpooledError
from spooled.models import ClaimedJob
from spooled.worker._ack_policy import Operation
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._log import WorkerLogger
from spooled.worker._pacing import BATCH_WAIT, BATCH_WAITS, Tempo
from spooled.worker._run_limits import Participant, RunLimits
from spooled.worker.events import ErrorEvent
from spooled.worker.middleware import ClaimInfo

logger = WorkerLogger("spooled.worker")


class WorkerClaims:
    """Makes the claims of one engine, for its `Claimer`. Lives on the I/O loop.

    Args:
        claim: Sends one claim for so many jobs.
        worker_id: Returns the id that claims are made with, for what is told.
        queue_name: Named in what is told.
        tempo: Learns how long claims take.
        room: How many jobs could be taken now.
        should_wait: Whether to wait for more room before a claim of so many jobs.
        begin: Takes a claimed job, and the loop's time when its claim was sent. False when it has the job under that
            lease already.
        refused: Told when the server refuses for good.
        limits: Told about claims.
        participant: Who claims, for the limits.
        dispatcher: Told about claims and failures.
    """

    def __init__(
        self,
        claim: Callable[[int], Awaitable[list[ClaimedJob]]],
        worker_id: Callable[[], str],
        queue_name: str,
        tempo: Tempo,
        *,
        room: Callable[[], int],
        should_wait: Callable[[int], bool],
        begin: Callable[[ClaimedJob, float], bool],
        refused: Callable[[SpooledError], None],
        limits: RunLimits,
        participant: Participant,
        dispatcher: EventDispatcher,
    ) -> None:
        self._ask = claim
        self._worker_id = worker_id
        self._queue_name = queue_name
        self._tempo = tempo
        self._room = room
        self._should_wait = should_wait
        self._begin = begin
        self._refused = refused
        self._run_limits = limits
        self._member = participant
        self._event_dispatcher = dispatcher
        self.last_answer_at: float | None = None
        """Wall-clock seconds since the epoch of the last claim that was answered."""
        self.last_error: str | None = None

    def room(self) -> int:
        """See `ClaimSource`."""
        return self._room()

    async def gather(self) -> None:
        """See `ClaimSource`."""
        for _ in range(BATCH_WAITS):
            if not self._should_wait(self._room()):
                break
            await asyncio.sleep(BATCH_WAIT)

    async def claim(self, limit: int) -> int:
        """See `ClaimSource`."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        self._run_limits.asking(limit)
        try:
            jobs = _each_once(await self._ask(limit))
        except BaseException as error:
            if isinstance(error, Exception):
                self._tempo.failed()
                self._tell(limit, 0, loop.time() - sent_at, error)
            # Others may want what this claim had reserved.
            self._run_limits.unanswered(limit)
            raise
        self.last_answer_at = time.time()
        self.last_error = None
        self._event_dispatcher.recovered(Operation.CLAIM)
        self._tempo.claimed(limit, len(jobs), loop.time() - sent_at)
        self._tell(limit, len(jobs), loop.time() - sent_at, None)
        begun = sum(self._begin(job, sent_at) for job in jobs)
        # Last, because it may end the run, and these jobs belong to it.
        self._run_limits.answered(self._member, limit, begun, sent_at)
        return len(jobs)

    def claim_failed(self, error: Exception, when: str, *, refused: bool) -> None:
        """See `ClaimSource`."""
        if not isinstance(error, SpooledError):
            self._event_dispatcher.emit(ErrorEvent(error))
            return
        self.last_error = str(error)
        if refused:
            logger.error("the server refuses this worker's claims; stopping: %s", error)
            self._event_dispatcher.emit(ErrorEvent(error))
            self._refused(error)
            return
        self._event_dispatcher.trouble(
            error, f"claiming from {self._queue_name} failed; next try in {when}", of=Operation.CLAIM
        )

    def _tell(self, asked: int, got: int, seconds: float, failure: Exception | None) -> None:
        if self._event_dispatcher.claims_wanted:
            self._event_dispatcher.claimed(
                ClaimInfo(self._queue_name, self._worker_id(), asked, got, seconds, failure)
            )


def _each_once(jobs: list[ClaimedJob]) -> list[ClaimedJob]:
    """Drop a job that stands more than once in an answer: it must not run twice at the same time.

    Of several leases for one job, a server could only mean the last.
    """
    distinct = {job.id: job for job in jobs}
    if len(distinct) < len(jobs):
        logger.warning(
            "a claim was answered with %d jobs, %d of them distinct; each runs once", len(jobs), len(distinct)
        )
    return list(distinct.values())
