"""What was measured of one kind of call."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Times:
    """Latencies in seconds, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def milliseconds(self, part: float) -> float | None:
        """The latency that `part` of the calls (0 to 1) did not exceed."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True)
class Bar:
    """A promise and what became of it."""

    text: str
    value: float | None
    wanted: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted
