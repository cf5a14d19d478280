"""How often and how patiently a lost connection is made again. Pure. Contract: realtime §5."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from spooled._http import _option_rules as rules
from spooled.errors import AuthenticationError, AuthorizationError, NotFoundError, SpooledError

STEADY = 10.0
"""Seconds that a connection must last for the next trouble to count as the first."""

_JITTER = 0.25

LONGEST_SERVER_WAIT = 60.0
"""Seconds that are waited when the server asks for more (`Retry-After`): a wrong header must not end the events."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReconnectOptions:
    """What a client is told about reconnecting.

    Attributes:
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row, 0 to 1000000.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    auto_reconnect: bool = True
    max_reconnect_attempts: int = 10
    reconnect_delay: float = 1.0
    max_reconnect_delay: float = 30.0

    def __post_init__(self) -> None:
        rules.boolean("auto_reconnect", self.auto_reconnect)
        rules.integer("max_reconnect_attempts", self.max_reconnect_attempts, 0, 1_000_000)
        rules.number("reconnect_delay", self.reconnect_delay, 0.0)
        rules.number("max_reconnect_delay", self.max_reconnect_delay, 0.0)


class ReconnectPolicy:
    """Counts attempts.

    Args:
        options: See `ReconnectOptions`.
        random: A source of numbers in [0, 1), for the jitter.
    """

    def __init__(self, options: ReconnectOptions, random: Callable[[], float] = random.random) -> None:
        self._options = options
        self._random = random
        self._attempts = 0

    def next(self, error: SpooledError) -> float | None:
        """Return seconds until the next attempt; None when there is to be none.

        Args:
            error: Why the connection was lost or did not come about.
        """
        options = self._options
        if not options.auto_reconnect or is_final(error) or self._attempts >= options.max_reconnect_attempts:
            return None
        # The exponent is bounded because a float overflows long after the cap was reached.
        wait = min(options.reconnect_delay * 2.0 ** min(self._attempts, 64), options.max_reconnect_delay)
        self._attempts += 1
        return max(wait * (1 + _JITTER * self._random()), min(error.server_wait or 0.0, LONGEST_SERVER_WAIT))

    def reset(self) -> None:
        """The connection works: the next trouble is the first."""
        self._attempts = 0


def is_final(error: SpooledError) -> bool:
    """Return whether trying again would give the same answer."""
    return isinstance(error, AuthenticationError | AuthorizationError | NotFoundError) or (
        400 <= error.status_code < 500 and error.status_code not in {408, 425, 429}
    )
