"""The engine: claims, keeps leases, acks and shuts down. One for both kinds of worker.

It runs on an I/O loop of its own, where no code of the user's ever runs. What to do is decided in pure modules
(`_pacing`, `_settlement`, `_lease_table`); this one carries it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from spooled._async._session import AsyncSession
from spooled.errors import NotFoundError, SpooledError
from spooled.models import ClaimedJob
from spooled.worker._acks import AckLane
from spooled.worker._alarm import Alarm
from spooled.worker._api import WorkerApi
from spooled.worker._backoff import Backoff
from spooled.worker._execution import Execution
from spooled.worker._lease_table import Lease
from spooled.worker._options import WorkerOptions
from spooled.worker._outcome import Failure, Outcome
from spooled.worker._pacing import ClaimPacer, claim_size
from spooled.worker._runners import Finished, Runner
from spooled.worker._settlement import is_fatal_for_claims
from spooled.worker._sinks import EventSink
from spooled.worker.events import (
    ErrorEvent,
    EventHandlers,
    JobClaimedEvent,
    JobLeaseLostEvent,
    JobStartedEvent,
    StartedEvent,
    StoppedEvent,
)
from spooled.worker.leases import LeaseKeeper
from spooled.worker.state import WorkerState

logger = logging.getLogger("spooled.worker")

ACK_GRACE = 10.0
"""Seconds that acks get after the shutdown deadline."""

DEREGISTER_TIMEOUT = 5.0
"""Seconds that a stopping worker spends on saying goodbye."""


class Engine:
    """One run of a worker, from registration to deregistration.

    Args:
        options: The worker's options.
        open_session: Makes the session for all requests; called on the I/O loop.
        runner: Where handlers run.
        handlers: Who listens to events, so that events nobody wants cost nothing.
        sink: Where event handlers run.
    """

    def __init__(
        self,
        options: WorkerOptions,
        open_session: Callable[[], AsyncSession],
        runner: Runner,
        handlers: EventHandlers,
        sink: EventSink,
    ) -> None:
        self.state = WorkerState.STARTING
        self.worker_id = options.new_worker_id()
        self._options = options
        self._open_session = open_session
        self._runner = runner
        self._handlers = handlers
        self._sink = sink
        self._executions: dict[Lease, Execution] = {}
        self._running = 0
        self._stopping = asyncio.Event()
        self._stop_at: float | None = None
        self._freed = asyncio.Event()
        self._hint = asyncio.Event()
        self._changed = asyncio.Event()
        self._timeouts = Alarm()
        self._fatal: SpooledError | None = None
        self._heartbeat_interval = 10.0
        # Both need the I/O loop and are made in `run`.
        self._api: WorkerApi
        self._acks: AckLane
        self._keeper = LeaseKeeper(
            self._beat,
            on_lost=self._lease_lost,
            on_trouble=self._beat_failed,
            fraction=options.heartbeat_fraction,
        )

    @property
    def active_job_count(self) -> int:
        """Jobs that are claimed and not settled."""
        return len(self._executions)

    # --- the life of the engine -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until a stop is requested.

        Raises:
            SpooledError: Going on was pointless: the key is refused, or the server refuses the arguments.
        """
        loop = asyncio.get_running_loop()
        self._runner.bind(loop, self._finished)
        self._api = WorkerApi(self._open_session(), self._options, self.worker_id)
        self._acks = AckLane(
            self._api, self._keeper, emit=self._emit, trouble=self._trouble, settled=self._settled
        )
        duties = [loop.create_task(self._keeper.run()), loop.create_task(self._watch_timeouts())]
        try:
            if await self._register():
                self.state = WorkerState.RUNNING
                logger.info(
                    "worker %s started on queue %s (concurrency %d)",
                    self.worker_id,
                    self._options.queue_name,
                    self._options.concurrency,
                )
                self._emit(StartedEvent(self.worker_id, self._options.queue_name))
                duties.append(loop.create_task(self._beat_worker()))
                await self._work(loop.create_task(self._claim_forever()))
        finally:
            self._runner.close()
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
            await self._say_goodbye()
            self._sink.finish()
        if self._fatal is not None:
            raise self._fatal

    def request_stop(self, timeout: float | None = None) -> None:
        """Stop claiming and drain for at most `timeout` seconds (default: `shutdown_timeout`).

        Called on the I/O loop. Asking again can only bring the deadline forward.
        """
        budget = self._options.shutdown_timeout if timeout is None else timeout
        stop_at = asyncio.get_running_loop().time() + budget
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        if self.state in (WorkerState.STARTING, WorkerState.RUNNING):
            self.state = WorkerState.STOPPING
            logger.info("worker %s is stopping with %d active jobs", self.worker_id, len(self._executions))
        for event in (self._stopping, self._hint, self._freed, self._changed):
            event.set()

    async def _register(self) -> bool:
        """Register, for as long as it takes; False when a stop was requested or the server refuses for good."""
        retries = Backoff(0.5, 15.0)
        while not self._stopping.is_set():
            try:
                registration = await self._unless_stopped(self._api.register())
            except SpooledError as error:
                if not error.is_retryable():
                    self._fatal = error
                    return False
                self._trouble(error, f"registering worker {self.worker_id} failed; trying again")
                await self._pause_until_stop(max(retries.next(), error.server_wait or 0.0))
                continue
            if registration is None:
                return False
            self.worker_id = registration.id
            self._heartbeat_interval = max(1.0, float(registration.heartbeat_interval_secs))
            return True
        return False

    async def _unless_stopped(self, request: Coroutine[Any, Any, Any]) -> Any:
        """The request's answer, or None when a stop was requested before it came."""
        task = asyncio.ensure_future(request)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            return await task if task.done() else None
        finally:
            task.cancel()
            stop.cancel()

    async def _work(self, claims: asyncio.Task[None]) -> None:
        """Claim until a stop is requested, then drain."""
        await self._stopping.wait()
        if self.state is WorkerState.RUNNING:
            self.state = WorkerState.STOPPING
        try:
            # A claim in flight brings jobs that are ours already: they are run, not handed back.
            await self._wait_until(claims.done, self._deadline)
            await self._wait_until(lambda: not self._executions, self._deadline)
            self._cut_off()
            give_up_at = asyncio.get_running_loop().time() + ACK_GRACE
            await self._wait_until(lambda: not self._executions, lambda: give_up_at)
        finally:
            claims.cancel()
            await asyncio.gather(claims, return_exceptions=True)
            await self._acks.close()
        for execution in self._executions.values():
            logger.error(
                "job %s could not be settled before the worker stopped; its lease will run out and it will run again",
                execution.job.id,
            )

    def _deadline(self) -> float:
        assert self._stop_at is not None
        return self._stop_at

    async def _wait_until(self, condition: Callable[[], bool], deadline: Callable[[], float]) -> None:
        """Wait for the condition; the deadline is asked again after each change, for it may be brought forward."""
        loop = asyncio.get_running_loop()
        while not condition() and (left := deadline() - loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _cut_off(self) -> None:
        """The deadline has passed: abort what still runs and give the jobs back."""
        for execution in tuple(self._executions.values()):
            if execution.running and not execution.abandoned:
                logger.warning(
                    "job %s did not finish before the shutdown deadline; aborting it", execution.job.id
                )
                self._abandon(execution, Failure("Worker shutdown timeout"))

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(SpooledError):
            await self._api.deregister(DEREGISTER_TIMEOUT)
        await self._api.close()
        self.state = WorkerState.STOPPED if self._fatal is None else WorkerState.ERROR
        reason = "error" if self._fatal else "forced" if self._executions else "graceful"
        logger.info("worker %s stopped (%s)", self.worker_id, reason)
        self._emit(StoppedEvent(self.worker_id, reason))

    # --- claiming -------------------------------------------------------------------------------------------

    async def _claim_forever(self) -> None:
        pacer = ClaimPacer(self._options.poll_interval)
        try:
            while not self._stopping.is_set():
                if not self._claim_size():
                    self._freed.clear()
                    await self._freed.wait()
                elif pacer.pause and await self._pause(pacer.pause):
                    pacer.hint()
                else:
                    await self._claim(pacer)
        finally:
            self._changed.set()

    def _claim_size(self) -> int:
        return claim_size(self._options.concurrency, self._running, len(self._acks))

    async def _claim(self, pacer: ClaimPacer) -> None:
        asked = self._claim_size()
        if not asked or self._stopping.is_set():
            return
        sent_at = asyncio.get_running_loop().time()
        try:
            jobs = await self._api.claim(asked)
        except SpooledError as error:
            if is_fatal_for_claims(error):
                logger.error("the server refuses this worker's claims; stopping: %s", error)
                self._fatal = error
                self._emit(ErrorEvent(error))
                self.request_stop()
                return
            pacer.failed(error.server_wait)
            self._trouble(
                error, f"claiming from {self._options.queue_name} failed; next try in {pacer.pause:.1f} s"
            )
        except Exception as error:
            # A bug of ours must not end the worker while its state says "running".
            pacer.failed()
            logger.exception("claiming failed unexpectedly; next try in %.1f s", pacer.pause)
            self._emit(ErrorEvent(error))
        else:
            pacer.claimed(asked, len(jobs))
            for job in jobs:
                self._begin(job, sent_at)

    async def _pause(self, seconds: float) -> bool:
        """Wait, but not when a stop was requested. True when the wait was cut short."""
        self._hint.clear()
        if self._stopping.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._hint.wait()
        except TimeoutError:
            return False
        return True

    async def _pause_until_stop(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # --- running --------------------------------------------------------------------------------------------

    def _begin(self, job: ClaimedJob, claimed_at: float) -> None:
        loop_time = asyncio.get_running_loop().time()
        lease = self._keeper.hold(
            job.id,
            job.lease_id or "",
            self.worker_id,
            duration=self._options.lease_duration,
            since=claimed_at,
        )
        context = self._runner.context(job, self._options.queue_name)
        execution = Execution(job, lease, context, loop_time + job.timeout_seconds)
        self._executions[lease] = execution
        self._running += 1
        if self._handlers.wants(JobClaimedEvent):
            self._emit(JobClaimedEvent(job.id, context.queue_name))
        if self._handlers.wants(JobStartedEvent):
            self._emit(JobStartedEvent(job.id, context.queue_name))
        self._timeouts.ring_at(execution.deadline)
        self._runner.submit(execution)

    def _finished(self, finished: Finished) -> None:
        execution, outcome = finished
        execution.running = False
        self._running -= 1
        if not execution.abandoned:
            self._acks.settle(execution, outcome)
        self._freed.set()
        self._changed.set()

    def _abandon(self, execution: Execution, outcome: Outcome | None) -> None:
        """Abort a running handler. What it returns is ignored; `outcome`, if any, is acked in its place."""
        execution.abandoned = True
        self._runner.abort(execution)
        if outcome is not None:
            self._acks.settle(execution, outcome)

    def _settled(self, execution: Execution) -> None:
        self._executions.pop(execution.lease, None)
        self._freed.set()
        self._changed.set()

    async def _watch_timeouts(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._timeouts.wait()
                now = loop.time()
                for execution in tuple(self._executions.values()):
                    if not execution.running or execution.abandoned:
                        continue
                    if execution.deadline <= now:
                        self._time_out(execution)
                    else:
                        self._timeouts.ring_at(execution.deadline)
        finally:
            self._timeouts.close()

    def _time_out(self, execution: Execution) -> None:
        logger.error(
            "job %s ran longer than its %d s; aborting it", execution.job.id, execution.job.timeout_seconds
        )
        self._abandon(execution, Failure("Job timeout exceeded"))
        stuck = self._running - sum(ex.running and not ex.abandoned for ex in self._executions.values())
        if stuck >= self._options.concurrency:
            logger.error(
                "all %d slots of worker %s hold handlers that ignored their time-out; "
                "it claims nothing until one of them returns",
                stuck,
                self.worker_id,
            )

    # --- leases and heartbeats ------------------------------------------------------------------------------

    async def _beat(self, lease: Lease, timeout: float) -> None:
        await self._api.heartbeat(lease.job_id, lease.lease_id, timeout)

    def _beat_failed(self, lease: Lease, error: SpooledError) -> None:
        self._trouble(error, f"heartbeat of job {lease.job_id} failed; trying again")

    def _lease_lost(self, lease: Lease, error: SpooledError | None) -> None:
        execution = self._executions.get(lease)
        if execution is None or execution.settling:
            # An ack is on its way: a heartbeat that finds the job settled or gone may well be the proof that it
            # has arrived. The answer to the ack itself decides.
            return
        text = str(error) if error else "the lease ran out while the server could not be reached"
        logger.warning("lost the lease of job %s; aborting it: %s", lease.job_id, text)
        self._abandon(execution, None)
        self._settled(execution)
        self._emit(
            JobLeaseLostEvent(lease.job_id, execution.context.queue_name, lease.lease_id, "heartbeat", text)
        )

    async def _beat_worker(self) -> None:
        while True:
            if self._stopping.is_set():
                await asyncio.sleep(self._heartbeat_interval)
            else:
                # A stop request cuts the wait short, so that "draining" is told at once.
                await self._pause_until_stop(self._heartbeat_interval)
            status = "draining" if self._stopping.is_set() else "healthy"
            try:
                await self._api.worker_heartbeat(status, len(self._executions))
            except NotFoundError:
                logger.warning(
                    "the server does not know worker %s any more; registering again", self.worker_id
                )
                with contextlib.suppress(SpooledError):
                    await self._api.register()
            except SpooledError as error:
                self._trouble(error, f"heartbeat of worker {self.worker_id} failed")

    # --- telling --------------------------------------------------------------------------------------------

    def _emit(self, event: Any) -> None:
        self._sink.emit(event)

    def _trouble(self, error: SpooledError, what: str) -> None:
        logger.warning("%s: %s", what, error)
        self._emit(ErrorEvent(error))
