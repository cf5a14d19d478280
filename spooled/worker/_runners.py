"""Where handlers run: in a pool of threads or of child processes, or on the user's event loop. Never on the I/O loop.

All take executions from the I/O loop and bring back each outcome exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from spooled.models import ClaimedJob
from spooled.worker._isolation import JobScopes
from spooled.worker._job_result import Failure, JobResult, outcome_of_error, outcome_of_value, run_handler
from spooled.worker._loop_queue import LoopQueue
from spooled.worker._routing import Route
from spooled.worker._running_job import RunningJob
from spooled.worker.context import AsyncJobContext, AsyncSignal, JobContext, running_as

Finished = tuple[RunningJob, JobResult]
Deliver = Callable[[Finished], None]
"""Called on the I/O loop with an execution that has ended and how."""
Begun = Callable[[RunningJob], None]
"""Called on the I/O loop with an execution whose handler begins now, which may be later than it was submitted."""
Recovered = Callable[[], None]
"""Called on the I/O loop when the capacity has grown."""


class Runner(Protocol):
    """Runs handlers for the engine. All methods are called on the I/O loop."""

    overtime: float
    """Seconds after the grace for its clean-up in which a handler may yet be ended by force."""

    def bind(
        self, loop: asyncio.AbstractEventLoop, deliver: Deliver, begun: Begun, recovered: Recovered
    ) -> None:
        """Say where outcomes go; called once, before anything else."""

    async def open(self) -> None:
        """Get ready to run handlers. Called once, before the worker is registered.

        Raises:
            RuntimeError: No handler could run.
        """

    def capacity(self) -> int:
        """Return how many handlers can run at once; no more than that should be submitted."""

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:
        """Make the context that fits the handler."""

    def submit(self, running_job: RunningJob) -> None:
        """Start the handler. The engine never has more running than the runner has room for."""

    def abort(self, running_job: RunningJob) -> None:
        """Set the signal, and cancel what can be cancelled. The outcome is delivered all the same."""

    def time_to_force(self, running_job: RunningJob) -> float:
        """Return the seconds after an abort within which the handler is ended by force; 0 when it never is."""

    def replace_dead_threads(self) -> int:
        """Start a new thread for each that has died, and report its job as failed.

        Returns:
            How many threads are dead and could not be replaced.
        """

    def close(self) -> None:
        """Take no more work. Does not wait for handlers that are still running."""

    async def wait_closed(self) -> None:
        """Wait until what was made to run handlers has ended, where that can be waited for."""

    def is_current(self) -> bool:
        """Return whether the caller is one of the handlers. Called from anywhere."""


class _Waiting:
    """Handlers that have not begun. Exactly one of those who take a handler gets it; may be used in any thread."""

    def __init__(self) -> None:
        self._running_jobs: dict[RunningJob, None] = {}

    def add(self, running_job: RunningJob) -> None:
        self._running_jobs[running_job] = None

    def take(self, running_job: RunningJob) -> bool:
        """Return whether it was waiting until now."""
        return self._running_jobs.pop(running_job, running_job) is None


class CallerThreadRunner:
    """Runs plain functions one after the other in the thread that calls `CallerThreadQueue.serve`. For tests.

    Several workers may share a desk, and so the thread.
    """

    overtime = 0.0

    def __init__(self, caller_queue: CallerThreadQueue) -> None:
        self._desk = caller_queue
        self._done: LoopQueue[Finished] | None = None
        self._scopes = JobScopes(on_loop=False)
        self._waiting = _Waiting()

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver, *_: object) -> None:
        self._done = LoopQueue(loop, deliver)

    async def open(self) -> None:
        """Nothing to do."""

    def capacity(self) -> int:
        return sys.maxsize

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return new_context(JobContext, job, queue_name, threading.Event())

    def submit(self, running_job: RunningJob) -> None:
        self._waiting.add(running_job)
        self._desk.put(self, running_job)

    def abort(self, running_job: RunningJob) -> None:
        running_job.context.signal.set()
        self.decline(running_job)

    def time_to_force(self, running_job: RunningJob) -> float:  # noqa: ARG002
        return 0.0

    def replace_dead_threads(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to release: whoever serves leaves the desk when the workers have ended."""

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def is_current(self) -> bool:
        return False

    def decline(self, running_job: RunningJob) -> None:
        """Report a handler that will not be run any more, unless it runs already."""
        assert self._done is not None
        if self._waiting.take(running_job):
            self._done.put((running_job, Failure("aborted")))

    def run(self, running_job: RunningJob) -> None:
        """Run one handler, here.

        What is raised to end the whole program or test, such as KeyboardInterrupt, fails the job and goes on.
        """
        assert self._done is not None
        assert running_job.route is not None
        if not self._waiting.take(running_job):
            return  # timed out or given back while others had their turn
        call = running_job.route.call
        interruption: BaseException | None = None

        def watched(ctx: JobContext[Any]) -> object:
            nonlocal interruption
            try:
                return call(ctx)
            except (Exception, SystemExit, asyncio.CancelledError):
                raise
            except BaseException as error:
                interruption = error
                raise

        outcome: JobResult = Failure("interrupted")
        try:
            outcome = self._scopes.new().run(run_handler, watched, running_job.context)
        finally:
            self._done.put((running_job, outcome))
        if interruption is not None:
            raise interruption


class CallerThreadQueue:
    """Passes handlers to the thread that serves."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[CallerThreadRunner, RunningJob] | None] = queue.SimpleQueue()
        self._closed = False

    def put(self, runner: CallerThreadRunner, running_job: RunningJob) -> None:
        """Have a handler run. Called on the I/O loop."""
        self._queue.put((runner, running_job))
        if self._closed:
            self.close()

    def finish(self) -> None:
        """Let `serve` return when what was put has run."""
        self._queue.put(None)

    def serve(self) -> None:
        """Run what is put here, until `finish`."""
        while (item := self._queue.get()) is not None:
            runner, running_job = item
            runner.run(running_job)

    def close(self) -> None:
        """Decline what was put here, and what will be: no thread serves any more."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    item[0].decline(item[1])


class LoopRunner:
    """Runs coroutine functions as tasks on the user's own loop, which is never the I/O loop."""

    overtime = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._start: LoopQueue[RunningJob] = LoopQueue(loop, self._start_task)
        self._done: LoopQueue[Finished] | None = None
        self._scopes = JobScopes(on_loop=True)
        self._waiting = _Waiting()
        # Touched on the user's loop only. The loop itself keeps weak references to tasks.
        self._tasks: dict[RunningJob, asyncio.Task[JobResult]] = {}

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver, *_: object) -> None:
        self._done = LoopQueue(loop, deliver)

    async def open(self) -> None:
        """Nothing to do."""

    def capacity(self) -> int:
        return sys.maxsize

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return new_context(AsyncJobContext, job, queue_name, AsyncSignal())

    def submit(self, running_job: RunningJob) -> None:
        self._waiting.add(running_job)
        if not self._start.put(running_job) and self._waiting.take(running_job):
            self._report(
                running_job, Failure("the worker's event loop was closed before the job could start")
            )

    def abort(self, running_job: RunningJob) -> None:
        cast("AsyncSignal", running_job.context.signal).abort(self._loop)  # `context` has put it there
        if self._waiting.take(running_job):
            # The loop has not got to it, and may be blocked for long.
            self._report(running_job, Failure("aborted"))
            return
        try:
            self._loop.call_soon_threadsafe(self._cancel, running_job)
        except RuntimeError:
            # A closed loop has nothing left to cancel, and will not say how the handler ended.
            self._report(running_job, Failure("the worker's event loop was closed while the job ran"))

    def time_to_force(self, running_job: RunningJob) -> float:  # noqa: ARG002
        return 0.0

    def replace_dead_threads(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to release: tasks end by themselves, on a loop that is not ours."""

    async def wait_closed(self) -> None:
        """Nothing to wait for: see `close`."""

    def is_current(self) -> bool:
        try:
            return asyncio.current_task() in self._tasks.values()
        except RuntimeError:
            return False

    def _start_task(self, running_job: RunningJob) -> None:
        if not self._waiting.take(running_job):
            return
        coroutine = self._run(running_job)
        try:
            # By way of `run`, because a task factory of the user's need not know about contexts.
            task = self._scopes.new().run(self._loop.create_task, coroutine, name=f"job {running_job.job.id}")
        except BaseException as error:
            coroutine.close()
            self._report(running_job, outcome_of_error(error, running_job.context))
            return
        self._tasks[running_job] = task
        task.add_done_callback(lambda task: self._ended(running_job, task))

    def _cancel(self, running_job: RunningJob) -> None:
        task = self._tasks.get(running_job)
        if task is not None:
            task.cancel()

    async def _run(self, running_job: RunningJob) -> JobResult:
        ctx, route = running_job.context, running_job.route
        assert route is not None
        # Everything is caught here, because a SystemExit that leaves a task stops the user's whole loop.
        with running_as(ctx):
            try:
                value = route.call(ctx)
                return outcome_of_value(await value if inspect.isawaitable(value) else value, ctx)
            except BaseException as error:
                # A cancellation is ours when the execution was aborted. Otherwise the handler or its loop's owner
                # cancelled it, and the job must not be left without an ack.
                return outcome_of_error(error, ctx)

    def _ended(self, running_job: RunningJob, task: asyncio.Task[JobResult]) -> None:
        self._tasks.pop(running_job, None)
        # One that is cancelled before its first step never gets into `_run`.
        self._report(running_job, Failure("aborted") if task.cancelled() else task.result())

    def _report(self, running_job: RunningJob, outcome: JobResult) -> None:
        assert self._done is not None
        self._done.put((running_job, outcome))


class MixedRunner:
    """Runs plain functions by one runner, and coroutine functions by another."""

    def __init__(self, plain: Runner, coroutines: Runner) -> None:
        self._plain = plain
        self._coroutines = coroutines
        self.overtime = max(plain.overtime, coroutines.overtime)

    def bind(
        self, loop: asyncio.AbstractEventLoop, deliver: Deliver, begun: Begun, recovered: Recovered
    ) -> None:
        self._plain.bind(loop, deliver, begun, recovered)
        self._coroutines.bind(loop, deliver, begun, recovered)

    async def open(self) -> None:
        await self._plain.open()
        await self._coroutines.open()

    def capacity(self) -> int:
        return min(self._plain.capacity(), self._coroutines.capacity())

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:
        return self._for(route).context(job, queue_name, route)

    def submit(self, running_job: RunningJob) -> None:
        self._for(running_job.route).submit(running_job)

    def abort(self, running_job: RunningJob) -> None:
        self._for(running_job.route).abort(running_job)

    def time_to_force(self, running_job: RunningJob) -> float:
        return self._for(running_job.route).time_to_force(running_job)

    def replace_dead_threads(self) -> int:
        return self._plain.replace_dead_threads()

    def close(self) -> None:
        self._plain.close()
        self._coroutines.close()

    async def wait_closed(self) -> None:
        await self._plain.wait_closed()
        await self._coroutines.wait_closed()

    def is_current(self) -> bool:
        return self._plain.is_current() or self._coroutines.is_current()

    def _for(self, route: Route | None) -> Runner:
        return self._plain if route is not None and route.plain else self._coroutines


def new_context(
    kind: type[JobContext[Any]], job: ClaimedJob, queue_name: str, signal: Any
) -> JobContext[Any]:
    """Return what a handler is given for a claimed job."""
    return kind(
        job_id=job.id,
        queue_name=job.queue_name or queue_name,
        payload=job.payload,
        retry_count=job.retry_count,
        max_retries=job.max_retries,
        timeout_seconds=job.timeout_seconds,
        lease_id=job.lease_id or "",
        signal=signal,
    )
