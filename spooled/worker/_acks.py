"""Acks: each outcome is sent until the server has accepted it or the lease is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spooled.errors import SpooledError
from spooled.worker._api import WorkerApi
from spooled.worker._backoff import Backoff
from spooled.worker._execution import Execution
from spooled.worker._outcome import Failure, Outcome, Success, describe_error, fit_error
from spooled.worker._settlement import Operation, Verdict, judge, may_have_arrived
from spooled.worker.events import JobCompletedEvent, JobFailedEvent, JobLeaseLostEvent, WorkerEvent
from spooled.worker.leases import LeaseKeeper

logger = logging.getLogger("spooled.worker")

ATTEMPT_TIMEOUT = 10.0
"""Seconds for one attempt. Short, because the lease is renewed meanwhile and another attempt follows."""


class AckLane:
    """Sends complete and fail. The job's lease is renewed until its ack was accepted.

    Args:
        api: Sends single requests.
        keeper: Renews the leases.
        emit: Takes the events about settled jobs.
        trouble: Told about attempts that failed and are repeated.
        settled: Told once about each execution that needs nothing more, however it ended.
    """

    def __init__(
        self,
        api: WorkerApi,
        keeper: LeaseKeeper,
        *,
        emit: Callable[[WorkerEvent], None],
        trouble: Callable[[SpooledError, str], None],
        settled: Callable[[Execution], None],
    ) -> None:
        self._api = api
        self._keeper = keeper
        self._emit = emit
        self._trouble = trouble
        self._settled = settled
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Acks that were not accepted yet."""
        return len(self._tasks)

    def settle(self, execution: Execution, outcome: Outcome) -> None:
        """Begin to send the outcome. Called once for each execution, on the I/O loop."""
        execution.settling = True
        task = asyncio.get_running_loop().create_task(self._settle(execution, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up on all acks that are still being sent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, execution: Execution, outcome: Outcome) -> None:
        try:
            error = await self._send(execution, outcome)
            if error is not None and isinstance(outcome, Success):
                # The server will never take this result, but it still takes a failure, which says why.
                logger.error("the result of job %s was refused: %s", execution.job.id, error)
                outcome = Failure(
                    fit_error(f"the job ran, but its result was refused: {describe_error(error)}")
                )
                error = await self._send(execution, outcome)
            if error is not None:
                self._trouble(error, f"job {execution.job.id} could not be settled; its lease will run out")
        except Exception:
            logger.exception("settling job %s failed; its lease will run out", execution.job.id)
        self._keeper.release(execution.lease)
        self._settled(execution)

    async def _send(self, execution: Execution, outcome: Outcome) -> SpooledError | None:
        """Send until it is decided. Returns the error of an outcome that the server refuses for good."""
        operation = Operation.COMPLETE if isinstance(outcome, Success) else Operation.FAIL
        backoff = Backoff(0.1, 5.0)
        loop = asyncio.get_running_loop()
        replay = False
        while True:
            try:
                await self._attempt(execution, outcome)
                verdict = Verdict.DONE
                error = None
            except SpooledError as failure:
                error = failure
                verdict = judge(operation, failure, replay=replay)
                replay = replay or may_have_arrived(failure)
            if verdict is Verdict.DONE:
                self._keeper.release(execution.lease)
                self._tell(execution, outcome)
                return None
            assert error is not None
            if verdict is Verdict.REFUSED:
                return error
            if verdict is Verdict.LOST or execution.lease.expires_at <= loop.time():
                self._lost(execution, operation, error)
                return None
            delay = max(backoff.next(), error.server_wait or 0.0)
            self._trouble(
                error, f"{operation} of job {execution.job.id} failed; trying again in {delay:.1f} s"
            )
            await asyncio.sleep(delay)

    async def _attempt(self, execution: Execution, outcome: Outcome) -> None:
        job_id, lease_id = execution.lease.job_id, execution.lease.lease_id
        if isinstance(outcome, Success):
            await self._api.complete(job_id, lease_id, outcome.encoded, ATTEMPT_TIMEOUT)
        else:
            await self._api.fail(job_id, lease_id, outcome.error, ATTEMPT_TIMEOUT)

    def _tell(self, execution: Execution, outcome: Outcome) -> None:
        job, queue_name = execution.job, execution.context.queue_name
        if isinstance(outcome, Success):
            self._emit(JobCompletedEvent(job.id, queue_name, outcome.result))
        else:
            will_retry = job.retry_count < job.max_retries
            self._emit(JobFailedEvent(job.id, queue_name, outcome.error, will_retry))

    def _lost(self, execution: Execution, operation: Operation, error: SpooledError) -> None:
        lease = execution.lease
        logger.warning("job %s was no longer ours when its %s was sent: %s", lease.job_id, operation, error)
        self._emit(
            JobLeaseLostEvent(
                lease.job_id, execution.context.queue_name, lease.lease_id, operation.value, str(error)
            )
        )
