"""The claim loop: asks for jobs whenever there is room for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from spooled.errors import SpooledError
from spooled.models import ClaimedJob
from spooled.worker._assignment import Assignment, Member
from spooled.worker._log import WorkerLogger
from spooled.worker._pacing import LINGER, LINGERS, ClaimPacer, Tempo
from spooled.worker._settlement import Operation, Verdict, judge
from spooled.worker._telling import Telling
from spooled.worker.events import ErrorEvent
from spooled.worker.middleware import ClaimInfo

logger = WorkerLogger("spooled.worker")


class ClaimLoop:
    """Claims until told to stop. Lives on the I/O loop.

    Args:
        claim: Sends one claim for so many jobs.
        worker_id: Returns the id that claims are made with, for what is told.
        queue_name: Named in what is told.
        pacer: Decides about pauses.
        tempo: Learns how long claims take.
        room: How many jobs could be taken now.
        linger: Whether to wait for more room before a claim of so many jobs.
        begin: Takes a claimed job, and the loop's time when its claim was sent. False when it has the job under that
            lease already.
        refused: Told when the server refuses for good; the loop ends by itself.
        assignment: Told about claims.
        member: Who claims, for the assignment.
        telling: Told about claims and failures.
    """

    def __init__(
        self,
        claim: Callable[[int], Awaitable[list[ClaimedJob]]],
        worker_id: Callable[[], str],
        queue_name: str,
        pacer: ClaimPacer,
        tempo: Tempo,
        *,
        room: Callable[[], int],
        linger: Callable[[int], bool],
        begin: Callable[[ClaimedJob, float], bool],
        refused: Callable[[SpooledError], None],
        assignment: Assignment,
        member: Member,
        telling: Telling,
    ) -> None:
        self._ask = claim
        self._worker_id = worker_id
        self._queue_name = queue_name
        self._pacer = pacer
        self._tempo = tempo
        self._room = room
        self._linger = linger
        self._begin = begin
        self._refused = refused
        self._assignment = assignment
        self._member = member
        self._telling = telling
        self._stopping = False
        self._freed = asyncio.Event()
        self._hinted = asyncio.Event()
        self._at_once = False
        self.last_answer_at: float | None = None
        """Wall-clock seconds since the epoch of the last claim that was answered."""
        self.last_error: str | None = None
        self._last_failure: SpooledError | None = None

    @property
    def failures(self) -> int:
        """Claims that failed in a row."""
        return self._pacer.failures

    def stop(self) -> None:
        """Claim no more. A claim in flight is not cut off: its jobs are leased to us already."""
        self._stopping = True
        self._freed.set()
        self._hinted.set()

    def freed(self) -> None:
        """There may be more room than before."""
        self._freed.set()

    def hint(self) -> None:
        """There may be work; do not wait for the end of the pause."""
        self._at_once = True
        self._hinted.set()

    def announced(self) -> None:
        """There is a new job, if no other worker has taken it; look as soon as the pacer finds right."""
        self._hinted.set()

    def relax(self, relaxed: bool) -> None:
        """Poll rarely, because all new jobs are announced (True), or as the poll interval says (False)."""
        self._pacer.relax(relaxed)
        if not relaxed:
            self.hint()

    async def run(self) -> None:
        while not self._stopping:
            if not self._room():
                self._freed.clear()
                await self._freed.wait()
                continue
            await self._sit_out_the_pause()
            try:
                await self._claim()
            except Exception:
                # A bug of ours must not end the worker while its state says "running".
                self._pacer.failed()
                logger.exception("claiming failed unexpectedly; next try in %.1f s", self._pacer.pause)

    async def _sit_out_the_pause(self) -> None:
        """Wait before the next claim, for as long as the pacer says or until a hint that it heeds."""
        now = asyncio.get_running_loop().time
        until = now() + self._pacer.pause
        while not self._stopping and (left := until - now()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._hinted.wait()
            except TimeoutError:
                return
            self._hinted.clear()
            if self._at_once:
                self._at_once = False
                self._pacer.hint()
            else:
                self._pacer.announced()
            until = min(until, now() + self._pacer.pause)

    async def _claim(self) -> None:
        for _ in range(LINGERS):
            if not self._linger(self._room()):
                break
            await asyncio.sleep(LINGER)
        asked = self._room()
        if not asked or self._stopping:
            return
        # What is hinted at from here on may come too late for this claim; it cuts the pause after it short.
        self._hinted.clear()
        self._at_once = False
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        jobs: list[ClaimedJob] = []
        failure: Exception | None = None
        self._assignment.asking(asked)
        try:
            jobs = _each_once(await self._ask(asked))
        except asyncio.CancelledError:
            # The engine gives up. Others may want what this claim had reserved.
            self._assignment.unanswered(asked)
            raise
        except SpooledError as error:
            failure = error
            self._tempo.failed()
            self._failed(error)
        except Exception as error:
            # A bug of ours must not end the worker while its state says "running".
            failure = error
            self._pacer.failed()
            logger.exception("claiming failed unexpectedly; next try in %.1f s", self._pacer.pause)
            self._telling.emit(ErrorEvent(error))
        else:
            self.last_answer_at = time.time()
            self.last_error = None
            self._last_failure = None
            self._telling.recovered(Operation.CLAIM)
            self._pacer.claimed(asked, len(jobs))
            self._tempo.claimed(asked, len(jobs), loop.time() - sent_at)
        if self._telling.claims_wanted:
            seconds = loop.time() - sent_at
            self._telling.claimed(
                ClaimInfo(self._queue_name, self._worker_id(), asked, len(jobs), seconds, failure)
            )
        begun = sum(self._begin(job, sent_at) for job in jobs)
        # Last, because it may end the run, and these jobs belong to it.
        if failure is None:
            self._assignment.answered(self._member, asked, begun, sent_at)
        else:
            self._assignment.unanswered(asked)

    def _failed(self, error: SpooledError) -> None:
        self.last_error = str(error)
        before, self._last_failure = self._last_failure, error
        if judge(Operation.CLAIM, error, before=before) is Verdict.REFUSED:
            logger.error("the server refuses this worker's claims; stopping: %s", error)
            self._telling.emit(ErrorEvent(error))
            self._stopping = True
            self._refused(error)
            return
        self._pacer.failed(error.server_wait)
        self._telling.trouble(
            error,
            f"claiming from {self._queue_name} failed; next try in {self._pacer.pause:.1f} s",
            of=Operation.CLAIM,
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
