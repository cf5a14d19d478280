"""One timer for many deadlines."""

from __future__ import annotations

import asyncio


class DeadlineTimer:
    """Wakes a single waiting task at the earliest moment that anybody asked for.

    Waking too early is harmless, and so is a deadline that no longer matters: the task looks at its own table
    and waits again. So adding a deadline costs a comparison, and none ever needs to be removed.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rung = asyncio.Event()

    def ring_at(self, when: float) -> None:
        """Make sure that the waiter wakes no later than `when` (the loop's time)."""
        if self._at is not None and self._at <= when:
            return
        self._at = when
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    async def wait(self) -> None:
        """Return at the next ring."""
        await self._rung.wait()
        self._rung.clear()

    def _ring(self) -> None:
        self._at = self._timer = None
        self._rung.set()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
