"""Where time comes from, so that tests can move it instead of sleeping."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the embedded server and the worker ask for the time."""

    def now(self) -> float:
        """Wall-clock time in seconds since the Unix epoch (UTC)."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards, for durations. The zero point is arbitrary."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move. Safe to share between threads.

    Args:
        start: Seconds since the Unix epoch that `now()` starts from. Default: 2026-01-01T00:00:00Z.
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: `seconds` is negative; a clock does not run backwards.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not run backwards: advance({seconds!r})")
        with self._lock:
            self._elapsed += seconds
