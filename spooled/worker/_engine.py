"""The engine: claims, keeps leases, acks and shuts down. One for both kinds of worker.

It runs on an I/O loop of its own, where no code of the user's ever runs. What to do is decided in pure modules
(`_pacing`, `_ack_policy`, `_lease_table`); `_claims`, `_acks` and `_worker_heartbeat` carry out a part each, and this
module holds the executions and the order of things.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from spooled._async._session import AsyncSession
from spooled.errors import SpooledError
from spooled.models import ClaimedJob
from spooled.worker._ack_policy import Operation
from spooled.worker._acks import JobAcks
from spooled.worker._claims import WorkerClaims
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._job_result import Failure, JobResult, Reenqueue, describe_error, fit_error
from spooled.worker._lease_table import Lease
from spooled.worker._log import WorkerLogger
from spooled.worker._options import WorkerOptions
from spooled.worker._pacing import Load, Tempo, claim_size, should_batch
from spooled.worker._requests import WorkerRequests
from spooled.worker._routing import BoundRoutes
from spooled.worker._run_limits import RunLimits
from spooled.worker._runners import Finished, Runner
from spooled.worker._running_job import RunningJob
from spooled.worker._time_limits import TimeLimits
from spooled.worker._wakeups import Wakeups
from spooled.worker._worker_heartbeat import WorkerHeartbeat
from spooled.worker.claimer import Claimer
from spooled.worker.events import (
    JobClaimedEvent,
    JobLeaseLostEvent,
    JobStartedEvent,
    StartedEvent,
    StoppedEvent,
)
from spooled.worker.health import WorkerHealth, moment
from spooled.worker.leases import LeaseKeeper
from spooled.worker.state import StuckWorkerError, WorkerState

logger = WorkerLogger("spooled.worker")

OpenWakeups = Callable[[AsyncSession, Callable[[str | None], None], Callable[[bool], None]], Wakeups]
"""Given the engine's session, what to call when there may be work, and what to tell the stream's state."""

ACK_GRACE = 10.0
"""Seconds that acks get after the shutdown deadline."""

THREAD_CHECK = 1.0
"""Seconds between two looks whether a handler's thread has died."""

_ABORTED = "Worker shutdown timeout"
_RELEASED = Reenqueue("released", None, costs_attempt=False, reason=_ABORTED, error=_ABORTED, revive=True)

_TIMED_OUT = "Job timeout exceeded"
"""The error text of a job that ran longer than its `timeout_seconds` (contract lifecycle §8)."""

_ORDERLY = ("aborted", "CancelledError", "JobAbortedError")
"""Beginnings of the errors with which an aborted handler ends as it should."""


class Engine:
    """One run of a worker, from registration to deregistration.

    Args:
        options: The worker's options.
        routes: The handlers.
        runner: Where handlers run.
        dispatcher: Where events and infos go.
        limits: How much there is to do.
        open_session: Makes the session for all requests; called on the I/O loop, closed at the end.
        longest_wait: Bound in seconds for what the server asks to wait.
        open_wakeups: Makes what listens for new jobs, given what to call; None without wake-ups.
    """

    def __init__(
        self,
        options: WorkerOptions,
        routes: BoundRoutes,
        runner: Runner,
        dispatcher: EventDispatcher,
        limits: RunLimits,
        *,
        open_session: Callable[[], AsyncSession],
        longest_wait: float,
        open_wakeups: OpenWakeups | None = None,
    ) -> None:
        self.state = WorkerState.STARTING
        self._options = options
        self._routes = routes
        self._runner = runner
        self._event_dispatcher = dispatcher
        self._run_limits = limits
        self._open_wakeups = open_wakeups
        self._open_session = open_session
        self._running_jobs: dict[Lease, RunningJob] = {}
        self._held: set[tuple[str, str | None]] = set()
        # Claimed ahead of the slots; each begins when a handler has ended.
        self._waiting: deque[RunningJob] = deque()
        # Those whose handler has not returned yet, also when nothing waits for what it returns any more.
        self._handlers: set[RunningJob] = set()
        self._dead_threads = 0
        self._cut = False
        self._cut_off_jobs = 0
        self._stopping = asyncio.Event()
        self._stop_at: float | None = None
        self._changed = asyncio.Event()
        self._time_limits = TimeLimits(
            options,
            runner,
            self._handlers,
            dispatcher,
            time_out=self._time_out,
            stuck=self._found_stuck,
        )
        self._fatal: BaseException | None = None
        self._tempo = Tempo(options.concurrency, options.lease_duration)
        self._requests = WorkerRequests(options, self._tempo)
        self._worker_heartbeat = WorkerHeartbeat(self._requests, self._count, dispatcher, longest_wait)
        self._keeper = LeaseKeeper(
            self._beat,
            on_lost=self._lease_lost,
            on_trouble=self._beat_failed,
            fraction=options.heartbeat_fraction,
        )
        self._acks = JobAcks(self._requests, self._keeper, dispatcher, self._settled, longest_wait)
        self._claims = WorkerClaims(
            self._requests.claim,
            lambda: self._requests.worker_id,
            options.queue_name,
            self._tempo,
            room=self._room,
            should_wait=lambda size: should_batch(size, options.concurrency, len(self._acks)),
            begin=self._begin,
            refused=self._refused,
            limits=limits,
            participant=self,
            dispatcher=dispatcher,
        )
        self._claimer = Claimer(self._claims, options.poll_interval, longest_wait=longest_wait)
        limits.join(self)

    @property
    def worker_id(self) -> str:
        return self._requests.worker_id

    @property
    def active_job_count(self) -> int:
        """Jobs that are claimed and not settled."""
        return len(self._running_jobs)

    def health(self) -> WorkerHealth:
        """Return a picture of this moment; may be taken from any thread."""
        claims, worker_heartbeat = self._claims, self._worker_heartbeat
        return WorkerHealth(
            self.state,
            self.worker_id,
            len(self._running_jobs),
            moment(claims.last_answer_at),
            moment(worker_heartbeat.last_beat_at),
            self._claimer.failures,
            claims.last_error,
            self._dead_threads,
            self._time_limits.count_stuck(),
            self._options.concurrency,
        )

    # --- the life of the engine -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until a stop is requested.

        Raises:
            SpooledError: Going on was pointless: the key is refused, or the server refuses the arguments.
        """
        loop = asyncio.get_running_loop()
        self._runner.bind(loop, self._finished, self._time_limits.begin, self._claimer.freed)
        session = self._open_session()
        self._requests.open(session)
        duties: list[asyncio.Task[None]] = []

        def begin(duty: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            duties.append(loop.create_task(duty))
            duties[-1].add_done_callback(self._duty_ended)
            return duties[-1]

        try:
            begin(self._keeper.run())
            begin(self._time_limits.watch())
            begin(self._watch_threads())
            if await self._open_runner() and await self._register():
                self._started()
                begin(self._worker_heartbeat.beat())
                if self._open_wakeups is not None:
                    begin(self._open_wakeups(session, self._announced, self._listening).run())
                await self._work(begin(self._claimer.run()))
        finally:
            self._runner.close()
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
            await self._runner.wait_closed()
            self._run_limits.leave(self, len(self._running_jobs), loop.time())
            await self._worker_heartbeat.deregister()
            await self._requests.close_session()
            self._stopped()
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
            logger.info("worker %s is stopping with %d active jobs", self.worker_id, len(self._running_jobs))
        self._stopping.set()
        self._claimer.stop()
        self._worker_heartbeat.stop()
        self._changed.set()

    def _announced(self, _queue_name: str | None) -> None:
        self._claimer.announced()

    def _listening(self, healthy: bool) -> None:
        """New jobs are announced from now on, or not any more."""
        if self._options.wakeups is True:
            self._claimer.set_push_active(healthy)

    def _duty_ended(self, duty: asyncio.Task[None]) -> None:
        """End a worker that has lost one of its parts: it would look alive, and keep leases, and not work."""
        if duty.cancelled() or duty.exception() is None:
            return
        logger.critical("a part of worker %s has failed; stopping", self.worker_id, exc_info=duty.exception())
        self._fatal = self._fatal or duty.exception()
        self.request_stop()

    def room_changed(self) -> None:
        """Claim again: the run may allow more than before."""
        self._claimer.freed()

    def poll_now(self) -> None:
        """Look at once whether the queue is still empty."""
        self._claimer.wake()

    async def _open_runner(self) -> bool:
        """Return whether handlers can run; False when a stop was requested first."""
        opening = asyncio.ensure_future(self._runner.open())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            return False
        self._fatal = self._fatal or opening.exception()
        return self._fatal is None

    async def _register(self) -> bool:
        try:
            return await self._worker_heartbeat.register()
        except SpooledError as error:
            self._fatal = error
            return False

    def _started(self) -> None:
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.RUNNING
        options = self._options
        logger.info(
            "worker %s started on queue %s (concurrency %d)",
            self.worker_id,
            options.queue_name,
            options.concurrency,
        )
        self._event_dispatcher.emit(StartedEvent(self.worker_id, options.queue_name))

    def _stopped(self) -> None:
        self.state = WorkerState.STOPPED if self._fatal is None else WorkerState.ERROR
        if self._fatal is not None:
            reason = "stuck" if isinstance(self._fatal, StuckWorkerError) else "error"
        elif self._running_jobs:
            reason = "forced"
        else:
            reason = "deadline" if self._cut_off_jobs else "graceful"
        logger.info("worker %s stopped (%s)", self.worker_id, reason)
        self._event_dispatcher.emit(StoppedEvent(self.worker_id, reason))
        self._event_dispatcher.finish()

    async def _work(self, claims: asyncio.Task[None]) -> None:
        """Claim until a stop is requested, then drain."""
        claims.add_done_callback(lambda _: self._changed.set())
        await self._stopping.wait()
        try:
            # A claim in flight brings jobs that are ours already: they are run, not released.
            await self._wait_until(claims.done, self._deadline)
            await self._wait_until(self._all_but_stuck_ended, self._deadline)
            self._cut_off()
            await self._wait_for_clean_up()
            give_up_at = asyncio.get_running_loop().time() + ACK_GRACE
            await self._wait_until(self._all_acks_accepted, lambda: give_up_at)
        finally:
            claims.cancel()
            await asyncio.gather(claims, return_exceptions=True)
            await self._acks.close()
            await self._requests.close()
        now = asyncio.get_running_loop().time()
        for running_job in self._running_jobs.values():
            logger.error(
                "job %s could not be settled before the worker stopped; "
                "its lease will run out and it will run again",
                running_job.job.id,
            )
            self._event_dispatcher.acked(running_job, now, "fail", "unsettled", answer="the worker stopped")

    def _all_but_stuck_ended(self) -> bool:
        return all(running_job.stuck for running_job in self._running_jobs.values())

    def _all_acks_accepted(self) -> bool:
        return not any(running_job.settling for running_job in self._running_jobs.values())

    def _deadline(self) -> float:
        assert self._stop_at is not None
        return self._stop_at

    async def _wait_until(self, condition: Callable[[], bool], deadline: Callable[[], float]) -> None:
        """Wait for the condition; the deadline is asked again after each change: it may be brought forward."""
        loop = asyncio.get_running_loop()
        while not condition() and (left := deadline() - loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _cut_off(self) -> None:
        """The deadline has passed: abort what still runs. The jobs are given back when their handlers have ended."""
        self._cut = True
        self._time_limits.reports_stuck = False
        if self._waiting:
            logger.info("handing back %d claimed jobs that have not begun", len(self._waiting))
        while self._waiting:
            self._release_unbegun(self._waiting.popleft())
        for running_job in tuple(self._running_jobs.values()):
            if running_job.running and not running_job.abandoned:
                logger.warning(
                    "job %s did not finish before the shutdown deadline; handing it back", running_job.job.id
                )
                running_job.decided = _RELEASED
                self._cut_off_jobs += 1
                self._abandon(running_job)

    async def _wait_for_clean_up(self) -> None:
        """Let aborted handlers end, for at most `cleanup_grace` seconds."""
        grace = self._options.cleanup_grace
        give_up_at = asyncio.get_running_loop().time() + grace + self._runner.overtime
        await self._wait_until(lambda: not self._handlers, lambda: give_up_at)
        for running_job in tuple(self._handlers):
            logger.error(
                "job %s: its handler was aborted and has not ended within %g s (cleanup_grace); leaving it behind",
                running_job.job.id,
                grace,
            )
            # It may go on in this process. The job must not run a second time for as long as a lease would last.
            if running_job.decided is _RELEASED:
                due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self._options.lease_duration)
                running_job.decided = dataclasses.replace(_RELEASED, due=due)
                self._give_back(running_job)

    def _give_back(self, running_job: RunningJob) -> None:
        """Send what was decided for an aborted job, unless its lease is lost."""
        if (
            running_job.decided is not None
            and not running_job.settling
            and running_job.lease in self._running_jobs
        ):
            self._acks.ack(running_job, running_job.decided)

    # --- running --------------------------------------------------------------------------------------------

    def _room(self) -> int:
        # Where the server limits rates, acks go first.
        if self._acks.limited:
            return 0
        now = asyncio.get_running_loop().time()
        size = claim_size(
            min(self._options.concurrency, self._runner.capacity()),
            Load(
                running=len(self._handlers),
                waiting=len(self._waiting),
                unsettled=len(self._acks),
                results=self._acks.results,
                failing=self._acks.failing,
            ),
            ahead=self._tempo.ahead(now - running_job.started_at for running_job in self._handlers),
            acks_under_way=self._tempo.acks_under_way(),
        )
        return self._run_limits.allowed(size)

    def _refused(self, error: SpooledError) -> None:
        self._fatal = error
        self.request_stop()

    def _begin(self, job: ClaimedJob, claimed_at: float) -> bool:
        """Take a claimed job; it runs when a slot is free. False when it is here under that lease already."""
        if (job.id, job.lease_id) in self._held:
            logger.warning("job %s was claimed again under the lease that it has here; it runs once", job.id)
            return False
        self._held.add((job.id, job.lease_id))
        now = asyncio.get_running_loop().time()
        lease = self._keeper.hold(
            job.id,
            job.lease_id or "",
            self.worker_id,
            duration=self._options.lease_duration,
            since=claimed_at,
        )
        route = self._routes.find(job.payload)
        context = self._runner.context(job, self._options.queue_name, route)
        running_job = RunningJob(job, lease, context, route, claimed_at, now)
        self._running_jobs[lease] = running_job
        if self._event_dispatcher.wants(JobClaimedEvent):
            self._event_dispatcher.emit(JobClaimedEvent(job.id, context.queue_name))
        if route is None:
            text = self._routes.explain(job.payload)
            logger.error("job %s on %s cannot be run: %s", job.id, context.queue_name, text)
            self._acks.ack(running_job, Failure(fit_error(text)))
        elif self._cut:
            # The answer to a claim has taken longer than the shutdown.
            self._release_unbegun(running_job)
        else:
            self._waiting.append(running_job)
            self._begin_waiting()
        return True

    def _begin_waiting(self) -> None:
        """Begin jobs that wait here, in the order in which they came, while there are free slots."""
        while self._waiting and len(self._handlers) < self._options.concurrency:
            self._start(self._waiting.popleft())

    def _start(self, running_job: RunningJob) -> None:
        job, queue_name = running_job.job, running_job.context.queue_name
        running_job.running = True
        self._time_limits.begin(running_job)
        self._handlers.add(running_job)
        if self._event_dispatcher.wants(JobStartedEvent):
            self._event_dispatcher.emit(JobStartedEvent(job.id, queue_name))
        try:
            self._runner.submit(running_job)
        except Exception as error:
            logger.exception("job %s on %s cannot be run", job.id, queue_name)
            text = f"the worker could not run the job: {describe_error(error)}"
            self._finished((running_job, Failure(fit_error(text))))

    def _release_unbegun(self, running_job: RunningJob) -> None:
        self._cut_off_jobs += 1
        self._acks.ack(running_job, _RELEASED)

    def _finished(self, finished: Finished) -> None:
        running_job, outcome = finished
        if running_job not in self._handlers:
            return
        self._handlers.discard(running_job)
        running_job.running = False
        running_job.ended_at = asyncio.get_running_loop().time()
        self._tempo.ran(running_job.ended_at - running_job.started_at)
        if running_job.abandoned:
            self._ended_late(running_job, outcome)
        else:
            self._acks.ack(running_job, outcome)
        self._begin_waiting()
        self._claimer.freed()
        self._changed.set()

    def _ended_late(self, running_job: RunningJob, outcome: JobResult) -> None:
        assert running_job.aborted_at is not None
        assert running_job.ended_at is not None
        how = outcome.error if isinstance(outcome, Failure) else ""
        level = logging.INFO if not how or how.startswith(_ORDERLY) else logging.WARNING
        logger.log(
            level,
            "job %s ended %.2f s after it was aborted; its outcome is ignored%s",
            running_job.job.id,
            running_job.ended_at - running_job.aborted_at,
            how and f": {how}",
        )
        self._give_back(running_job)

    def _abandon(self, running_job: RunningJob) -> None:
        """Abort a running handler. What it returns is ignored."""
        if not running_job.abandoned:
            running_job.abandoned = True
            self._time_limits.abort(running_job)
            self._runner.abort(running_job)

    def _settled(self, running_job: RunningJob) -> None:
        if self._running_jobs.pop(running_job.lease, None) is not None:
            self._held.discard((running_job.job.id, running_job.job.lease_id))
            self._run_limits.ended(running_job.job.id, asyncio.get_running_loop().time())
        self._claimer.freed()
        self._changed.set()

    def _count(self) -> int:
        return len(self._running_jobs)

    async def _watch_threads(self) -> None:
        while True:
            await asyncio.sleep(THREAD_CHECK)
            self._dead_threads = self._runner.replace_dead_threads()

    def _time_out(self, running_job: RunningJob) -> None:
        """Abort a handler. The job fails when that has ended: until then it must not run anywhere else."""
        logger.error(
            "job %s ran longer than its %d s; aborting it",
            running_job.job.id,
            running_job.job.timeout_seconds,
        )
        running_job.decided = Failure(_TIMED_OUT)
        self._abandon(running_job)

    def _found_stuck(self, running_job: RunningJob) -> None:
        match self._options.on_stuck:
            case "fail":
                self._give_back(running_job)
            case "exit":
                self._fatal = self._fatal or StuckWorkerError(
                    f"job {running_job.job.id} on {running_job.context.queue_name} still runs, "
                    f"{self._options.timeout_grace:g} s after it was aborted (on_stuck='exit')"
                )
                self.request_stop()
        self._changed.set()

    # --- leases ---------------------------------------------------------------------------------------------

    async def _beat(self, lease: Lease, timeout: float) -> None:
        await self._requests.heartbeat(lease, timeout)
        self._event_dispatcher.recovered(Operation.HEARTBEAT)

    def _beat_failed(self, lease: Lease, error: SpooledError) -> None:
        self._event_dispatcher.trouble(
            error, f"heartbeat of job {lease.job_id} failed; trying again", of=Operation.HEARTBEAT
        )

    def _lease_lost(self, lease: Lease, error: SpooledError | None) -> None:
        running_job = self._running_jobs.get(lease)
        if running_job is None or running_job.settling:
            # An ack is on its way: a heartbeat that finds the job settled or gone may well be the proof that it
            # has arrived. The answer to the ack itself decides.
            return
        text = str(error) if error else "the lease ran out while the server could not be reached"
        if running_job in self._waiting:
            logger.warning("lost the lease of job %s before it began: %s", lease.job_id, text)
            self._waiting.remove(running_job)
        else:
            logger.warning("lost the lease of job %s; aborting it: %s", lease.job_id, text)
            self._abandon(running_job)
        self._settled(running_job)
        self._event_dispatcher.emit(
            JobLeaseLostEvent(lease.job_id, running_job.context.queue_name, lease.lease_id, "heartbeat", text)
        )
        now = asyncio.get_running_loop().time()
        self._event_dispatcher.acked(running_job, now, "heartbeat", "lost", answer=text)
