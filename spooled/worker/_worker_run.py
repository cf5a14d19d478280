"""One run of a worker, which can be asked to stop from the moment that its start was called."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from spooled.worker._completion import Completion

if TYPE_CHECKING:
    from spooled.worker._engine import Engine
    from spooled.worker._io_thread import IoThread
    from spooled.worker._runners import CallerThreadQueue, Runner


class WorkerRun:
    """From the call of `start` to the end of the worker.

    `request_stop` may be called at any moment, from any thread and from a signal handler: before there is an engine,
    requests are kept for it. Nothing here takes a lock, which a signal handler could find taken by what it interrupts.

    Args:
        user_loop: The loop that an asynchronous worker was started on.
        caller_queue: Where plain handlers run, if not in threads or processes.

    Attributes:
        ending: Finished when the run has ended, or has not come about.
        engine: What runs; None until it is made.
        runner: Where its handlers run.
        sink: Where its event handlers run.
        done: Resolved on the user's loop when an asynchronous worker has ended.
        stop_requested: Whether a stop was requested.
        before: The worker's last run.
    """

    def __init__(
        self,
        user_loop: asyncio.AbstractEventLoop | None = None,
        caller_queue: CallerThreadQueue | None = None,
    ) -> None:
        self.user_loop = user_loop
        self.caller_queue = caller_queue
        self.ending = Completion()
        self.engine: Engine | None = None
        self.runner: Runner | None = None
        self.sink: Any = None
        self.done: asyncio.Future[None] | None = None
        self.stop_requested = False
        self.before: WorkerRun | None = None
        self._io: IoThread | None = None
        self._requests: deque[float | None] = deque()
        self._launching_in: int | None = None

    def begin(self, before: WorkerRun | None) -> None:
        """Say that the calling thread launches this run now."""
        # A worker that is started often must not keep all its engines.
        if before is not None:
            before.before = None
        self.before = before
        self._launching_in = threading.get_ident()

    def bind(self, engine: Engine, io: IoThread) -> None:
        """Take the engine, and pass on what was requested before."""
        self.engine = engine
        self._io = io
        self._pass_on()

    def launched(self) -> None:
        """Say that the engine has been started."""
        self._launching_in = None

    def is_launching_here(self) -> bool:
        """Return whether the calling thread is in the middle of launching, so that it must not wait for the end.

        That is so in a signal handler that interrupts `start`.
        """
        return self._launching_in == threading.get_ident()

    def is_own_thread(self) -> bool:
        """Return whether the caller is a handler, or an event handler, of this run, which waits for it to return."""
        return (self.runner is not None and self.runner.is_current()) or (
            self.sink is not None and self.sink.is_current_thread()
        )

    def request_stop(self, timeout: float | None) -> None:
        """Have the engine stop, now or as soon as there is one. Does nothing when the run has ended."""
        self.stop_requested = True
        # First stored and then passed on, whereas `bind` stores the engine first: one of both sees the other's.
        self._requests.append(timeout)
        self._pass_on()

    def _pass_on(self) -> None:
        engine, io = self.engine, self._io
        if engine is None or io is None:
            return
        with contextlib.suppress(IndexError):
            while True:
                io.call(engine.request_stop, self._requests.popleft())
