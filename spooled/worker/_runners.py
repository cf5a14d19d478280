"""Where handlers run: in a pool of threads, or on the user's event loop. Never on the I/O loop.

Both take executions from the I/O loop and bring back each outcome exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from spooled.models import ClaimedJob
from spooled.worker._execution import Execution
from spooled.worker._handoff import Handoff
from spooled.worker._outcome import Failure, Outcome, outcome_of_error, outcome_of_value, run_handler
from spooled.worker._routing import Route
from spooled.worker.context import AsyncJobContext, AsyncSignal, JobContext, running_as

Finished = tuple[Execution, Outcome]
Deliver = Callable[[Finished], None]
"""Called on the I/O loop with an execution that has ended and how."""


class Runner(Protocol):
    """Runs handlers for the engine. All methods are called on the I/O loop."""

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        """Say where outcomes go; called once, before anything else."""

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:
        """Make the context that fits the handler."""

    def submit(self, execution: Execution) -> None:
        """Start the handler. The engine never has more running than the runner has room for."""

    def abort(self, execution: Execution) -> None:
        """Set the signal, and cancel what can be cancelled. The outcome is delivered all the same."""

    def close(self) -> None:
        """Take no more work. Does not wait for handlers that are still running."""

    def is_current(self) -> bool:
        """Whether the caller is one of the handlers. Called from anywhere."""


class ThreadRunner:
    """Runs plain functions in at most `size` daemon threads, started as they are needed.

    Daemon, because a handler that hangs must not keep the process alive after the worker has stopped.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._done: Handoff[Finished] | None = None
        self._deliver: Deliver | None = None

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._deliver = deliver
        self._done = Handoff(loop, self._finished)

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return _fill(JobContext, job, queue_name, threading.Event())

    def submit(self, execution: Execution) -> None:
        self._busy += 1
        if self._busy > len(self._threads) < self._size:
            name = f"{self._name}-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._work.put(execution)

    def abort(self, execution: Execution) -> None:
        execution.context.signal.set()

    def close(self) -> None:
        for _ in self._threads:
            self._work.put(None)

    def is_current(self) -> bool:
        return threading.current_thread() in self._threads

    def _serve(self) -> None:
        assert self._done is not None
        while (execution := self._work.get()) is not None:
            assert execution.route is not None
            self._done.put((execution, run_handler(execution.route.call, execution.context)))
            del execution  # an idle thread must not keep the last payload alive

    def _finished(self, finished: Finished) -> None:
        assert self._deliver is not None
        self._busy -= 1
        self._deliver(finished)


class CallerRunner:
    """Runs plain functions one after the other in the thread that calls `serve`. For tests.

    Several workers may share a desk, and so the thread.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._done: Handoff[Finished] | None = None

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._done = Handoff(loop, deliver)

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return _fill(JobContext, job, queue_name, threading.Event())

    def submit(self, execution: Execution) -> None:
        self._desk.put((self, execution))

    def abort(self, execution: Execution) -> None:
        execution.context.signal.set()

    def close(self) -> None:
        """Nothing to release: whoever serves leaves the desk when the workers have ended."""

    def is_current(self) -> bool:
        return False

    def run(self, execution: Execution) -> None:
        """Run one handler, here.

        What is raised to end the whole program or test, such as KeyboardInterrupt, fails the job and goes on.
        """
        assert self._done is not None
        assert execution.route is not None
        if execution.context.signal.is_set():
            # Timed out or given back while others had their turn.
            self._done.put((execution, Failure("aborted")))
            return
        call = execution.route.call
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

        self._done.put((execution, run_handler(watched, execution.context)))
        if interruption is not None:
            raise interruption


Desk = queue.SimpleQueue[tuple[CallerRunner, Execution] | None]


def serve(desk: Desk) -> None:
    """Run what is put on the desk, until that is None."""
    while (item := desk.get()) is not None:
        runner, execution = item
        runner.run(execution)


class LoopRunner:
    """Runs coroutine functions as tasks on the user's own loop, which is never the I/O loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._start: Handoff[Execution] = Handoff(loop, self._start_task)
        self._done: Handoff[Finished] | None = None
        # Touched on the user's loop only. The loop itself keeps weak references to tasks.
        self._tasks: dict[Execution, asyncio.Task[None]] = {}

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._done = Handoff(loop, deliver)

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:  # noqa: ARG002
        return _fill(AsyncJobContext, job, queue_name, AsyncSignal())

    def submit(self, execution: Execution) -> None:
        if not self._start.put(execution):
            self._report(execution, Failure("the worker's event loop was closed before the job could start"))

    def abort(self, execution: Execution) -> None:
        cast("AsyncSignal", execution.context.signal).abort(self._loop)  # `context` has put it there
        # A closed loop has nothing left to cancel.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel, execution)

    def close(self) -> None:
        """Nothing to release: tasks end by themselves, on a loop that is not ours."""

    def is_current(self) -> bool:
        try:
            return asyncio.current_task() in self._tasks.values()
        except RuntimeError:
            return False

    def _start_task(self, execution: Execution) -> None:
        self._tasks[execution] = self._loop.create_task(self._run(execution), name=f"job {execution.job.id}")

    def _cancel(self, execution: Execution) -> None:
        task = self._tasks.get(execution)
        if task is not None:
            task.cancel()

    async def _run(self, execution: Execution) -> None:
        ctx, route = execution.context, execution.route
        assert route is not None
        # Everything is caught here, because a SystemExit that leaves a task stops the user's whole loop.
        outcome: Outcome
        with running_as(ctx):
            try:
                outcome = outcome_of_value(await route.call(ctx), ctx)
            except asyncio.CancelledError as error:
                # Ours when the execution was aborted. Otherwise the handler or its loop's owner cancelled it, and
                # the job must not be left without an ack.
                outcome = Failure("aborted") if execution.abandoned else outcome_of_error(error, ctx)
            except BaseException as error:
                outcome = outcome_of_error(error, ctx)
            finally:
                self._tasks.pop(execution, None)
        self._report(execution, outcome)

    def _report(self, execution: Execution, outcome: Outcome) -> None:
        assert self._done is not None
        self._done.put((execution, outcome))


class MixedRunner:
    """Runs plain functions in threads and coroutine functions on the user's loop."""

    def __init__(self, threads: ThreadRunner, coroutines: LoopRunner) -> None:
        self._threads = threads
        self._coroutines = coroutines

    def bind(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._threads.bind(loop, deliver)
        self._coroutines.bind(loop, deliver)

    def context(self, job: ClaimedJob, queue_name: str, route: Route | None) -> JobContext[Any]:
        return self._for(route).context(job, queue_name, route)

    def submit(self, execution: Execution) -> None:
        self._for(execution.route).submit(execution)

    def abort(self, execution: Execution) -> None:
        self._for(execution.route).abort(execution)

    def close(self) -> None:
        self._threads.close()
        self._coroutines.close()

    def is_current(self) -> bool:
        return self._threads.is_current() or self._coroutines.is_current()

    def _for(self, route: Route | None) -> Runner:
        return self._threads if route is not None and route.plain else self._coroutines


def _fill(kind: type[JobContext[Any]], job: ClaimedJob, queue_name: str, signal: Any) -> JobContext[Any]:
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
