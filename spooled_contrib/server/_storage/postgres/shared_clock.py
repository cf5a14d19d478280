"""The database's time, which all of its servers share."""

from __future__ import annotations

from spooled.clock import Clock


class SharedClock:
    """The machine's clock, corrected by how far it is from the database's.

    A lease that one machine grants ends at the same moment for every other one, however wrong their clocks are.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._ahead = 0.0

    def now(self) -> float:
        return self._own.now() + self._ahead

    def monotonic(self) -> float:
        return self._own.monotonic()

    def own_now(self) -> float:
        """Return the machine's own time."""
        return self._own.now()

    def compare(self, asked_at: float, database: float, answered_at: float) -> None:
        """Take in one look at the database's time: between two readings of the machine's clock."""
        self._ahead = database - (asked_at + answered_at) / 2
