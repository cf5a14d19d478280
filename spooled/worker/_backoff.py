"""How long to wait before trying again, as numbers only: the caller does the waiting."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Doubling delays with jitter, from `first` up to `cap` seconds.

    Half of each delay is fixed and half is random, so that a fleet that failed together does not
    come back together and yet no one comes back at once.
    """

    first: float
    cap: float
    factor: float = 2.0
    random: Callable[[], float] = random.random
    _steps: int = field(default=0, init=False)

    def next(self) -> float:
        """Return the delay before the next try, in seconds."""
        # The exponent is bounded because a float overflows long after the cap was reached.
        ceiling = min(self.cap, self.first * self.factor ** min(self._steps, 64))
        self._steps += 1
        return ceiling * (0.5 + 0.5 * self.random())

    def reset(self) -> None:
        self._steps = 0

    @property
    def steps(self) -> int:
        """How many delays were handed out since the last reset."""
        return self._steps
