"""`AsyncSpooledWorker`: handlers are coroutine functions and run on the caller's loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

from spooled.worker._bridge import session_opener
from spooled.worker._engine import Engine
from spooled.worker._front_door import FrontDoor
from spooled.worker._io_thread import IoThread
from spooled.worker._runners import LoopRunner, Runner, ThreadRunner
from spooled.worker._sinks import LoopSink
from spooled.worker.context import AsyncJobContext

H = TypeVar(
    "H", bound=Callable[[AsyncJobContext[Any]], Awaitable[object]] | Callable[[AsyncJobContext[Any]], object]
)


class AsyncSpooledWorker(FrontDoor):
    """Claims jobs from one queue and runs a coroutine for each, on the loop that `start()` is awaited on.

    Leases are kept from another thread: a handler that blocks its loop delays the other handlers, but loses no
    job. Plain functions may be handlers too; they run in threads.

    Options, delivery and limits are those of `SpooledWorker`.
    """

    _runner: Runner | None = None
    _sink: LoopSink | None = None
    _done: asyncio.Future[None] | None = None

    def process(self, handler: H) -> H:
        """Register the coroutine function that runs the jobs. Use it as a decorator.

        Its return value becomes the job's result; an exception fails the job, which is retried while it has
        retries left. A job that is aborted (time-out, lost lease, shutdown deadline) has its task cancelled.

        Raises:
            RuntimeError: The worker is running.
            ValueError: The worker has another handler already.
        """
        self._set_handler(handler)
        return handler

    async def start(self) -> None:
        """Work until `stop()` is called.

        When the task that awaits this is cancelled, which is what Ctrl-C does under `asyncio.run`, the worker
        drains before the cancellation goes on; cancelled once more, it stops at once.

        Raises:
            RuntimeError: No handler is registered, or the worker runs already.
            SpooledError: The server refuses this worker for good, for example its API key.
        """
        self._launch()
        await self._finish()

    def stop(self, timeout: float | None = None) -> Stopping:
        """Stop claiming now; await the result to wait for the active jobs and the end of the worker.

        The request is made by the call itself, so `loop.add_signal_handler(SIGTERM, worker.stop)` works. Awaited
        in one of the worker's own handlers it returns at once, because the worker waits for that handler.

        Args:
            timeout: Seconds that active jobs get. Default: `shutdown_timeout`. 0 cuts them off; they are given
                back and run again elsewhere.
        """
        if self._io is not None and self._engine is not None:
            self._io.call(self._engine.request_stop, timeout)
        return Stopping(self)

    async def __aenter__(self) -> Self:
        """Start in the background."""
        self._launch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None and self._io is not None and self._io.error is not None:
            raise self._io.error

    def _launch(self) -> None:
        handler = self._startable()
        loop = asyncio.get_running_loop()
        options = self._options
        label = f"spooled-{options.queue_name}"
        runner: Runner
        if _is_plain_function(handler):
            runner = ThreadRunner(handler, options.concurrency, label)
        else:
            runner = LoopRunner(handler, loop)
        sink = LoopSink(self._events, loop)
        open_session = session_opener(self._client, options.concurrency, loop)
        engine = Engine(options, open_session, runner, self._events, sink)
        io = IoThread(engine.run, f"{label}-io")
        done = loop.create_future()
        io.on_finished(lambda: _resolve_on(loop, done))
        self._runner, self._sink, self._engine, self._io, self._done = runner, sink, engine, io, done
        io.start()

    async def _finish(self) -> None:
        io, engine, done, sink = self._io, self._engine, self._done, self._sink
        assert io is not None
        assert engine is not None
        assert done is not None
        assert sink is not None
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as error:
                io.call(engine.request_stop, None if cancelled is None else 0.0)
                cancelled = error
        await sink.wait()
        if cancelled is not None:
            raise cancelled
        if io.error is not None:
            raise io.error

    async def _stopped(self) -> None:
        if self._done is None or (self._runner is not None and self._runner.is_current()):
            return
        await asyncio.shield(self._done)
        if self._sink is not None:
            await self._sink.wait()


class Stopping:
    """A stop that was requested; await it to wait for the worker's end. Need not be awaited."""

    __slots__ = ("_worker",)

    def __init__(self, worker: AsyncSpooledWorker) -> None:
        self._worker = worker

    def __await__(self) -> Generator[Any, None, None]:
        return self._worker._stopped().__await__()


def _resolve_on(loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    # The user's loop may be closed by now; then nobody waits either.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))


def _is_plain_function(handler: Callable[[Any], Any]) -> bool:
    return (inspect.isfunction(handler) or inspect.ismethod(handler)) and not inspect.iscoroutinefunction(
        handler
    )
