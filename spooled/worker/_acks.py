"""Acks: each outcome is sent until the server has accepted it or the lease is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from spooled.errors import SpooledError
from spooled.worker._ack_policy import Operation
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._job_result import (
    Control,
    Discarded,
    Failure,
    JobResult,
    Reenqueue,
    describe_error,
    fit_error,
)
from spooled.worker._log import WorkerLogger
from spooled.worker._reenqueue import cancel_copy, make_copy, note
from spooled.worker._requests import WorkerRequests
from spooled.worker._results import Success, encode_result
from spooled.worker._running_job import RunningJob
from spooled.worker.acker import Acker
from spooled.worker.events import JobCompletedEvent, JobFailedEvent, JobLeaseLostEvent
from spooled.worker.leases import LeaseKeeper

logger = WorkerLogger("spooled.worker")

REVIVALS = 5
"""How often to try to take a job out of the dead-letter queue that must not be there."""


class JobAcks:
    """Turns outcomes into acks. The job's lease is renewed until its ack was accepted.

    Args:
        requests: Makes single attempts.
        keeper: Renews the leases.
        dispatcher: Told about settled jobs and about attempts that are repeated.
        settled: Told once about each execution that needs nothing more, however it ended.
        longest_wait: Bound in seconds for what the server asks to wait.
    """

    def __init__(
        self,
        requests: WorkerRequests,
        keeper: LeaseKeeper,
        dispatcher: EventDispatcher,
        settled: Callable[[RunningJob], None],
        longest_wait: float,
    ) -> None:
        self._requests = requests
        self._keeper = keeper
        self._event_dispatcher = dispatcher
        self._settled = settled
        self._tasks: set[asyncio.Task[None]] = set()
        self.results = 0
        """Bytes of results whose acks were not accepted yet."""
        self._acker = Acker(
            requests,
            keeper,
            longest_wait=longest_wait,
            on_trouble=lambda error, what: dispatcher.trouble(error, what, of="ack"),
            on_accepted=lambda: dispatcher.recovered("ack"),
        )

    def __len__(self) -> int:
        """Acks that were not accepted yet."""
        return len(self._tasks)

    @property
    def failing(self) -> int:
        """Acks that have failed and are tried again."""
        return self._acker.failing

    @property
    def limited(self) -> bool:
        """True while acks wait because the server limits rates: nothing else should be asked of it meanwhile."""
        return self._acker.limited > 0

    def ack(self, running_job: RunningJob, outcome: JobResult) -> None:
        """Begin to send the outcome. Called once for each execution, on the I/O loop."""
        running_job.settling = True
        if isinstance(outcome, Success):
            self.results += len(outcome.encoded)
        task = asyncio.get_running_loop().create_task(self._ack(running_job, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up on all acks that are still being sent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ack(self, running_job: RunningJob, outcome: JobResult) -> None:
        try:
            match outcome:
                case Success():
                    await self._complete(running_job, outcome)
                case Failure():
                    await self._fail(running_job, outcome.error)
                case Reenqueue():
                    await self._replace(running_job, outcome)
                case Discarded():
                    result = {"spooled": {"outcome": "discarded", "reason": outcome.reason}}
                    await self._close_with(running_job, result, outcome.error, "discarded")
        except Exception:
            logger.exception("settling job %s failed; its lease will run out", running_job.job.id)
        self._keeper.release(running_job.lease)
        # Out of the list before anyone counts: a callback of the task would come a turn of the loop later.
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)
        if isinstance(outcome, Success):
            self.results -= len(outcome.encoded)
        self._settled(running_job)

    # --- the kinds of outcome -------------------------------------------------------------------------------

    async def _complete(self, running_job: RunningJob, outcome: Success) -> None:
        sent = await self._send(running_job, Operation.COMPLETE, outcome.encoded)
        if sent == "accepted":
            self._event_dispatcher.emit(
                JobCompletedEvent(running_job.job.id, running_job.context.queue_name, outcome.result)
            )
        elif isinstance(sent, SpooledError):
            # The server will never take this result, but it still takes another, or a failure, which says why.
            logger.error("the result of job %s was refused: %s", running_job.job.id, sent)
            if outcome.fallback is not None:
                try:
                    value = outcome.fallback(sent)
                    instead = Success(value, encode_result(value))
                except Exception:
                    logger.exception("the fallback of job %s failed", running_job.job.id)
                else:
                    return await self._complete(running_job, instead)
            await self._fail(
                running_job, fit_error(f"the job ran, but its result was refused: {describe_error(sent)}")
            )
        return None

    async def _fail(self, running_job: RunningJob, error: str) -> bool:
        """Return whether the server has taken the failure."""
        sent = await self._send(running_job, Operation.FAIL, error, error)
        if sent == "accepted":
            will_retry = running_job.job.retry_count < running_job.job.max_retries
            self._tell_failed(running_job, error, will_retry=will_retry)
        elif isinstance(sent, SpooledError):
            self._gave_up(running_job, sent)
        return sent == "accepted"

    async def _replace(self, running_job: RunningJob, wanted: Reenqueue) -> None:
        successor = await self._make_copy(running_job, wanted)
        if successor is not None:
            result = note(wanted, successor)
            if await self._close_with(running_job, result, wanted.error, wanted.outcome):
                return
            # The original belongs to somebody else now, and will be run by them.
            error = await cancel_copy(self._requests, successor)
            if error is not None:
                self._event_dispatcher.trouble(
                    error, f"job {successor}, a copy of {running_job.job.id}, is one too many"
                )
            return
        job = running_job.job
        failed = await self._fail(running_job, wanted.error)
        if failed and wanted.revive and job.retry_count >= job.max_retries:
            await self._revive(running_job)

    async def _close_with(
        self, running_job: RunningJob, result: object, error: str, control: Control
    ) -> bool:
        """Complete a job that was not done, with a result that says what became of it."""
        sent = await self._send(running_job, Operation.COMPLETE, msgspec.json.encode(result), error, control)
        if sent == "accepted":
            self._tell_failed(running_job, error, will_retry=control != "discarded")
        elif isinstance(sent, SpooledError):
            self._gave_up(running_job, sent)
        return sent == "accepted"

    # --- requests -------------------------------------------------------------------------------------------

    async def _send(
        self,
        running_job: RunningJob,
        operation: Operation,
        content: bytes | str,
        told: str | None = None,
        control: Control | None = None,
    ) -> Literal["accepted", "lost"] | SpooledError:
        """Send until it is decided. The error is that of an outcome which the server refuses for good.

        Args:
            running_job: Whose outcome this is.
            operation: Complete or fail.
            content: The result as JSON, or the error text.
            told: The error to tell middleware, if the job was not done.
            control: Why the job was not done, if that was decided and not suffered.
        """
        acked = await self._acker.ack(running_job.lease, content)
        if acked.outcome == "refused":
            assert acked.error is not None
            return acked.error
        answer = None
        if acked.outcome == "lost":
            assert acked.error is not None
            self._lost(running_job, operation, acked.error)
            answer, control = str(acked.error), None
        kind: Literal["complete", "fail"] = "complete" if operation is Operation.COMPLETE else "fail"
        self._event_dispatcher.acked(
            running_job,
            asyncio.get_running_loop().time(),
            kind,
            acked.outcome,
            attempts=acked.attempts,
            error=told,
            answer=answer,
            control=control,
        )
        return acked.outcome

    async def _make_copy(self, running_job: RunningJob, wanted: Reenqueue) -> str | None:
        job, lease = running_job.job, running_job.lease
        payload = running_job.context.reenqueue_payload
        loop = asyncio.get_running_loop()
        try:
            return await self._acker.repeat(
                lambda: make_copy(self._requests, job, wanted, payload),
                f"copying job {job.id}",
                give_up=lambda: lease.expires_at <= loop.time(),
            )
        except SpooledError as error:
            self._event_dispatcher.trouble(error, f"job {job.id} cannot be copied, so it fails instead")
            return None

    async def _revive(self, running_job: RunningJob) -> None:
        """Take a job out of the dead-letter queue that was cut off by a shutdown."""
        job_id = running_job.job.id
        tries = iter(range(REVIVALS - 1))
        try:
            await self._acker.repeat(
                lambda: self._requests.jobs.retry(job_id),
                f"reviving job {job_id}",
                give_up=lambda: next(tries, None) is None,
            )
        except SpooledError as error:
            self._event_dispatcher.trouble(error, f"job {job_id} is dead-lettered by this shutdown")

    # --- events ---------------------------------------------------------------------------------------------

    def _tell_failed(self, running_job: RunningJob, error: str, *, will_retry: bool) -> None:
        self._event_dispatcher.emit(
            JobFailedEvent(running_job.job.id, running_job.context.queue_name, error, will_retry)
        )

    def _gave_up(self, running_job: RunningJob, error: SpooledError) -> None:
        self._event_dispatcher.trouble(
            error, f"job {running_job.job.id} could not be settled; its lease will run out"
        )
        now = asyncio.get_running_loop().time()
        self._event_dispatcher.acked(running_job, now, "fail", "refused", answer=str(error))

    def _lost(self, running_job: RunningJob, operation: Operation, error: SpooledError) -> None:
        lease, queue_name = running_job.lease, running_job.context.queue_name
        logger.warning("job %s was no longer ours when its %s was sent: %s", lease.job_id, operation, error)
        self._event_dispatcher.emit(
            JobLeaseLostEvent(lease.job_id, queue_name, lease.lease_id, operation.value, str(error))
        )
