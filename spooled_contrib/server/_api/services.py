"""What handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from spooled.clock import Clock
from spooled_contrib.server._api.access import Gate
from spooled_contrib.server._database_health import DatabaseHealth
from spooled_contrib.server._events import Hub
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._metrics import Metrics
from spooled_contrib.server._plans import Plans
from spooled_contrib.server._settings import ServerSettings
from spooled_contrib.server._storage import Storage
from spooled_contrib.server._webhooks.sender import Sender


@dataclass(frozen=True)
class Services:
    """The parts of one running server."""

    settings: ServerSettings
    storage: Storage
    health: DatabaseHealth
    hub: Hub
    clock: Clock
    gate: Gate
    sender: Sender
    plans: Plans
    metrics: Metrics
    started_at: float
    """`clock.monotonic()` at the start."""

    def limits_of(self, organization_id: str) -> Limits:
        """Return what an organization may use."""
        return self.plans.of(organization_id)

    @property
    def uptime_seconds(self) -> int:
        """Whole seconds since the start."""
        return int(self.clock.monotonic() - self.started_at)

    @property
    def now(self) -> int:
        """Microseconds since the epoch."""
        return round(self.clock.now() * 1_000_000)
