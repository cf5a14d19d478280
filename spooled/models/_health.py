"""Whether the server is well."""

from __future__ import annotations

from spooled.models._model import Model


class HealthResponse(Model, frozen=True):
    """The server's own opinion of itself: `healthy` or `degraded`."""

    status: str
    version: str | None = None
    database: bool = False
    cache: bool = False
    uptime_seconds: int | None = None
