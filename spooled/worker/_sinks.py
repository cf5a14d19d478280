"""Where event handlers run: never on the I/O loop, so that a slow one delays no claim, beat or ack."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from typing import Protocol

from spooled.worker._log import WorkerLogger
from spooled.worker._loop_queue import LoopQueue
from spooled.worker.events import EventHandlers, WorkerEvent, log_handler_failure

logger = WorkerLogger("spooled.worker.events")

FLUSH_TIMEOUT = 5.0
"""Seconds that a stopping worker waits for event handlers that are still busy."""


class EventSink(Protocol):
    """Runs event handlers in the order in which the events were emitted."""

    def emit(self, event: WorkerEvent) -> None:
        """Pass an event on. Called on the I/O loop; never blocks, never raises."""

    def finish(self) -> None:
        """No more events will come."""


class ThreadSink:
    """Runs event handlers in one daemon thread, started with the first event that anyone wants."""

    def __init__(self, handlers: EventHandlers, name: str) -> None:
        self._handlers = handlers
        self._name = name
        self._queue: queue.SimpleQueue[WorkerEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, event: WorkerEvent) -> None:
        if not self._handlers.of(event):
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(event)

    def finish(self) -> None:
        self._queue.put(None)

    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def wait(self) -> None:
        """Wait until all handlers have run, for at most `FLUSH_TIMEOUT` seconds."""
        if self._thread is None or self.is_current_thread():
            return
        self._thread.join(FLUSH_TIMEOUT)
        if self._thread.is_alive():
            logger.warning(
                "a worker event handler is still running %gs after the worker stopped", FLUSH_TIMEOUT
            )

    def _serve(self) -> None:
        while (event := self._queue.get()) is not None:
            for handler in self._handlers.of(event):
                try:
                    handler(event)
                except BaseException as error:  # SystemExit in a handler must not silence all later events
                    log_handler_failure(event, error)


class LoopSink:
    """Runs event handlers on the user's loop, one event after the other; coroutine handlers are awaited."""

    def __init__(self, handlers: EventHandlers, loop: asyncio.AbstractEventLoop) -> None:
        self._handlers = handlers
        self._queue: asyncio.Queue[WorkerEvent | None] = asyncio.Queue()
        self._door: LoopQueue[WorkerEvent | None] = LoopQueue(loop, self._queue.put_nowait)
        self._task = loop.create_task(self._serve())

    def emit(self, event: WorkerEvent) -> None:
        if self._handlers.of(event):
            self._door.put(event)

    def finish(self) -> None:
        self._door.put(None)

    async def wait(self) -> None:
        """Wait until all handlers have run, for at most `FLUSH_TIMEOUT` seconds."""
        if asyncio.current_task() is self._task:
            return
        _, late = await asyncio.wait([self._task], timeout=FLUSH_TIMEOUT)
        if late:
            logger.warning(
                "a worker event handler is still running %gs after the worker stopped", FLUSH_TIMEOUT
            )
            self._task.cancel()

    async def _serve(self) -> None:
        while (event := await self._queue.get()) is not None:
            for handler in self._handlers.of(event):
                try:
                    answer = handler(event)
                    if inspect.isawaitable(answer):
                        await answer
                except BaseException as error:  # a SystemExit that leaves a task would stop the user's loop
                    if isinstance(error, asyncio.CancelledError) and self._task.cancelling():
                        raise
                    log_handler_failure(event, error)
