"""The end of something that runs in another thread, and how to wait for it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

SIGNAL_LATENCY = 0.2
"""The longest time in seconds that a signal handler may have to wait for the main thread."""


class Completion:
    """Something ends once, with or without an error.

    Waiting is safe in a signal handler that interrupts another wait for the same end: every waiter has a lock of
    its own, so there is none that both could want.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._finished = False
        self._waiters: list[Any] = []
        self._callbacks: list[Callable[[], None]] = []

    @property
    def finished(self) -> bool:
        return self._finished

    def finish(self, error: BaseException | None = None) -> None:
        """It has ended. Called once."""
        self.error = error
        self._finished = True
        self._run_callbacks()
        while self._waiters:
            self._waiters.pop().release()

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the thread that ends, or at once if it has ended."""
        self._callbacks.append(callback)
        if self._finished:
            self._run_callbacks()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the end; False when `timeout` seconds pass first."""
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

    def _run_callbacks(self) -> None:
        while self._callbacks:
            # Two threads may be here at once; the list's own pop decides who calls which.
            with contextlib.suppress(IndexError):
                self._callbacks.pop()()
