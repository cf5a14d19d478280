"""How often one address may try wrong keys at the page's log-in."""

from __future__ import annotations

import math

from spooled.clock import Clock

WINDOW = 60.0
MOST_FAILURES = 10
_MOST_ADDRESSES = 10_000


class LoginAttempts:
    """Counts failures by address in fixed windows of a minute.

    Keys are 256 random bits and cannot be guessed; this is for keys that somebody chose. Behind a proxy everybody has
    its address, and then waits together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, tuple[float, int]] = {}

    def wait(self, address: str) -> int:
        """Seconds until this address may try again; 0 for now."""
        started, count = self._failures.get(address, (0.0, 0))
        if count < MOST_FAILURES:
            return 0
        left = started + WINDOW - self._clock.monotonic()
        return max(0, math.ceil(left))

    def note_failure(self, address: str) -> None:
        now = self._clock.monotonic()
        started, count = self._failures.get(address, (now, 0))
        if now - started >= WINDOW:
            started, count = now, 0
        if len(self._failures) >= _MOST_ADDRESSES and address not in self._failures:
            self._failures.clear()
        self._failures[address] = (started, count + 1)
