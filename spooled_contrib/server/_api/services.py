"""What handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from spooled.clock import Clock
from spooled_contrib.server._api.access import Gate
from spooled_contrib.server._attempts import LoginAttempts
from spooled_contrib.server._events import Hub
from spooled_contrib.server._settings import ServerSettings
from spooled_contrib.server._storage import Storage


@dataclass(frozen=True)
class Services:
    """The parts of one running server."""

    settings: ServerSettings
    attempts: LoginAttempts
    registration_is_open: bool
    storage: Storage
    hub: Hub
    clock: Clock
    gate: Gate
    started_at: float
    """`clock.monotonic()` at the start."""

    @property
    def now(self) -> int:
        """Microseconds since the epoch."""
        return round(self.clock.now() * 1_000_000)
