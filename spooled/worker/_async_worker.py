"""`AsyncSpooledWorker`: handlers are coroutine functions and run on the caller's loop."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

from spooled.worker._base_worker import BaseWorker
from spooled.worker._engine_transport import EngineTransport
from spooled.worker._io_thread import IoThread
from spooled.worker._launch import launch
from spooled.worker._run_limits import RunLimits
from spooled.worker._runners import LoopRunner, MixedRunner
from spooled.worker._sinks import LoopSink
from spooled.worker._worker_run import WorkerRun
from spooled.worker.context import AsyncJobContext

H = TypeVar(
    "H", bound=Callable[[AsyncJobContext[Any]], Awaitable[object]] | Callable[[AsyncJobContext[Any]], object]
)


class AsyncSpooledWorker(BaseWorker):
    """Claims jobs from one queue and runs a coroutine for each, on the loop that `start()` is awaited on.

    Leases are kept from another thread: a handler that blocks its loop delays the other handlers, but loses no
    job. Plain functions may be handlers too; they run in threads, or in child processes with `isolation="process"`.

    Options, delivery and limits are those of `SpooledWorker`.
    """

    _announced: weakref.ref[WorkerRun] | None = None

    def process(self, handler: H) -> H:
        """Register the coroutine function that runs the jobs. Use it as a decorator.

        Its return value becomes the job's result; an exception fails the job, which is retried while it has
        retries left. A job that is aborted (time-out, lost lease, shutdown deadline) has its task cancelled.
        Declared as `async def send(ctx: AsyncJobContext[Email])`, it gets the payload as an `Email`.

        Raises:
            RuntimeError: The worker is running.
        """
        self._add_handler(handler, None)
        return handler

    def handler(self, job_type: str, *, payload: Any = None) -> Callable[[H], H]:
        """Register the function for jobs of one type: those with `{"job_type": job_type}` in their payload.

        Jobs of other types go to the `@worker.process` handler; without one they fail, saying which types there are.

        Args:
            job_type: The type.
            payload: The payload's type. Default: what the annotation `AsyncJobContext[...]` says.
        """

        def register(function: H) -> H:
            self._add_handler(function, job_type, payload)
            return function

        return register

    def start(self, *, burst: bool = False, max_jobs: int | None = None) -> Coroutine[Any, Any, None]:
        """Work until `stop()` is called.

        When the task that awaits this is cancelled, which is what Ctrl-C does under `asyncio.run`, the worker
        drains before the cancellation goes on; cancelled once more, it stops at once.

        The worker begins with the first step of the coroutine that this returns. A `stop()` before that, but after
        this call, makes the coroutine return without beginning.

        Args:
            burst: Stop by itself when nothing that is due is left and nothing is running. What is scheduled for
                later, retries included, is not waited for. Default False.
            max_jobs: Stop by itself when so many executions have ended; no more are claimed. Default: no limit.

        Raises:
            RuntimeError: No handler is registered, or the worker runs already.
            SpooledError: The server refuses this worker for good, for example its API key.
        """
        run = WorkerRun()
        # Weak, because a coroutine that is never awaited, or cancelled before its first step, does not begin.
        self._announced = weakref.ref(run)
        return self._start(run, RunLimits(burst=burst, max_jobs=max_jobs))

    def stop(self, timeout: float | None = None) -> Stopping:
        """Stop claiming now; await the result to wait for the active jobs and the end of the worker.

        The request is made by the call itself, so `loop.add_signal_handler(SIGTERM, worker.stop)` works. Awaited
        in one of the worker's own handlers it returns at once, because the worker waits for that handler.

        Args:
            timeout: Seconds that active jobs get. Default: `shutdown_timeout`. 0 cuts them off; they are given
                back and run again elsewhere.
        """
        self._request_stop(timeout)
        run = self._run
        return Stopping(lambda: self._stopped(run))

    async def __aenter__(self) -> Self:
        """Start in the background."""
        self._launch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None:
            self._raise_failure()

    async def _start(self, run: WorkerRun, limits: RunLimits) -> None:
        if not run.stop_requested:
            self._launch(run, limits)
            await self._finish(run)

    def _request_stop(self, timeout: float | None) -> None:
        announced = None if self._announced is None else self._announced()
        if announced is not None and announced is not self._run:
            announced.request_stop(timeout)
        super()._request_stop(timeout)

    def _launch(self, run: WorkerRun | None = None, limits: RunLimits | None = None) -> None:
        run = run or WorkerRun()
        run.user_loop = asyncio.get_running_loop()
        self._begin(run)
        name = f"spooled-{self.queue_name}-io"
        launch([self], [run], limits or RunLimits(), name=name, stop=lambda: run.request_stop(0.0))

    def _prepare(self, run: WorkerRun, io: IoThread, transports: EngineTransport, limits: RunLimits) -> None:
        loop = run.user_loop
        assert loop is not None
        runner = MixedRunner(self._plain_runner(f"spooled-{self._options.queue_name}"), LoopRunner(loop))
        done = loop.create_future()
        run.done = done
        self._enter(run, io, transports, runner, LoopSink(self._events, loop), limits)
        run.ending.on_finished(lambda: _resolve_on(loop, done))

    async def _finish(self, run: WorkerRun) -> None:
        assert run.done is not None
        cancelled: asyncio.CancelledError | None = None
        while not run.done.done():
            try:
                await asyncio.shield(run.done)
            except asyncio.CancelledError as error:
                run.request_stop(None if cancelled is None else 0.0)
                cancelled = error
        await run.sink.wait()
        if cancelled is not None:
            raise cancelled
        if run.ending.error is not None:
            raise run.ending.error

    async def _stopped(self, run: WorkerRun | None) -> None:
        if run is None or run.done is None or run.runner is None or run.runner.is_current():
            return
        await asyncio.shield(run.done)
        await run.sink.wait()


class Stopping:
    """A stop that was requested; await it to wait for the worker's end. Need not be awaited."""

    __slots__ = ("_stopped",)

    def __init__(self, stopped: Callable[[], Awaitable[None]]) -> None:
        self._stopped = stopped

    def __await__(self) -> Generator[Any, None, None]:
        return self._stopped().__await__()


def _resolve_on(loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    # The user's loop may be closed by now; then nobody waits either.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))
