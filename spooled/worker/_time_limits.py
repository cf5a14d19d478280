"""Watch how long handlers run: one is aborted at its job's time-out, and one that goes on all the same is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from spooled.worker._deadline_timer import DeadlineTimer
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._log import WorkerLogger
from spooled.worker._options import WorkerOptions
from spooled.worker._runners import Runner
from spooled.worker._running_job import RunningJob
from spooled.worker.events import JobStuckEvent

logger = WorkerLogger("spooled.worker")

_WHEN_STUCK = {
    "keep": "its lease is kept",
    "fail": "the job fails although it runs",
    "exit": "the worker ends",
}


class TimeLimits:
    """Watches the handlers of one engine. Lives on the I/O loop.

    Args:
        options: The worker's.
        runner: Where handlers run; one that it will kill is not stuck.
        handlers: Those that have not returned yet.
        dispatcher: Told about stuck ones.
        time_out: Called with one that ran longer than its job may.
        stuck: Called with one that has not ended `timeout_grace` after its abort.
    """

    def __init__(
        self,
        options: WorkerOptions,
        runner: Runner,
        handlers: AbstractSet[RunningJob],
        dispatcher: EventDispatcher,
        *,
        time_out: Callable[[RunningJob], None],
        stuck: Callable[[RunningJob], None],
    ) -> None:
        self._options = options
        self._runner = runner
        self._handlers = handlers
        self._dispatcher = dispatcher
        self._time_out = time_out
        self._stuck = stuck
        self._timer = DeadlineTimer()
        self.reports_stuck = True
        """False when the shutdown's deadline has passed, which has limits of its own."""

    def begin(self, running_job: RunningJob) -> None:
        """Count a job's time from now on."""
        running_job.started_at = asyncio.get_running_loop().time()
        running_job.deadline = running_job.started_at + running_job.job.timeout_seconds
        self._timer.ring_at(running_job.deadline)

    def abort(self, running_job: RunningJob) -> None:
        """Count the time since a handler's abort from now on."""
        running_job.aborted_at = asyncio.get_running_loop().time()
        self._timer.ring_at(running_job.aborted_at + self._grace_of(running_job))

    def count_stuck(self) -> int:
        """Return how many handlers are stuck. May be called from any thread."""
        return sum(running_job.stuck for running_job in tuple(self._handlers))

    async def watch(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._timer.wait()
                now = loop.time()
                for running_job in tuple(self._handlers):
                    due = self._next_limit(running_job)
                    if due is None:
                        continue
                    if due > now:
                        self._timer.ring_at(due)
                    elif running_job.aborted_at is None:
                        self._time_out(running_job)
                    else:
                        self._report_stuck(running_job, now - running_job.aborted_at)
        finally:
            self._timer.close()

    def _next_limit(self, running_job: RunningJob) -> float | None:
        """Return the time by which a running handler should have ended; None when nothing more follows."""
        if running_job.aborted_at is None:
            return running_job.deadline
        if running_job.stuck or not self.reports_stuck:
            return None
        return running_job.aborted_at + self._grace_of(running_job)

    def _grace_of(self, running_job: RunningJob) -> float:
        """Return the seconds after its abort after which a handler is stuck: one that will be killed is not."""
        return max(self._options.timeout_grace, self._runner.time_to_force(running_job))

    def _report_stuck(self, running_job: RunningJob, seconds: float) -> None:
        running_job.stuck = True
        options, job_id, queue_name = self._options, running_job.job.id, running_job.context.queue_name
        logger.error(
            "job %s on %s still runs %.0f s after it was aborted: it is stuck, and %s (stuck slots: %d of %d)",
            job_id,
            queue_name,
            seconds,
            _WHEN_STUCK[options.on_stuck],
            self.count_stuck(),
            options.concurrency,
        )
        self._dispatcher.emit(JobStuckEvent(job_id, queue_name, seconds, options.on_stuck))
        self._stuck(running_job)
