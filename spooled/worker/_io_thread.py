"""The thread on which an engine does its I/O, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("spooled.worker")

SIGNAL_LATENCY = 0.2
"""The longest time in seconds that a signal handler may have to wait for the main thread."""


class IoThread:
    """Runs one coroutine on a new loop in a daemon thread.

    Waiting for the end is safe in a signal handler that interrupts another wait for the same end: every waiter
    has a lock of its own, so there is none that both could want.
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.error: BaseException | None = None
        self._main = main
        self._finished = False
        self._waiters: list[Any] = []
        self._callbacks: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call on the loop, soon. Does nothing once the thread has ended. Safe in signal handlers."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the thread when it ends, or at once if it has."""
        self._callbacks.append(callback)
        if self._finished:
            self._run_callbacks()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the coroutine has ended; False when `timeout` seconds pass first."""
        lock = threading.Lock()
        lock.acquire()
        self._waiters.append(lock)
        give_up_at = math.inf if timeout is None else time.monotonic() + timeout
        # Looked at after joining the list: whoever ends between the two finds us in it.
        while not self._finished:
            left = give_up_at - time.monotonic()
            if left <= 0:
                return False
            # In slices, because a signal may be delivered to another thread while this one waits. Python then
            # runs its handler in the main thread only when the main thread's wait returns.
            if lock.acquire(timeout=min(left, SIGNAL_LATENCY)):
                return True
        return True

    def _run(self) -> None:
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._main())
        except BaseException as error:
            self.error = error
        finally:
            try:
                _close(self.loop)
            except Exception:
                logger.exception("closing the worker's I/O loop failed")
            self._finished = True
            self._run_callbacks()
            while self._waiters:
                self._waiters.pop().release()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            # Two threads may be here at once, the list's own pop decides who calls which.
            with contextlib.suppress(IndexError):
                self._callbacks.pop()()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
