"""Health (contract section 2)."""

from __future__ import annotations

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route


async def health(call: Call) -> Reply:
    """200 even when degraded. There is no cache that could fail, so `cache` is always true."""
    database = await call.services.health.check() is None
    return json_reply(
        {
            "status": "healthy" if database else "degraded",
            "database": database,
            "cache": True,
            "uptime_seconds": call.services.uptime_seconds,
        }
    )


async def live(_: Call) -> Reply:
    return Reply(200)


async def ready(call: Call) -> Reply:
    reason = await call.services.health.check()
    if reason is not None:
        raise refuse.RefusalError(503, "SERVICE_UNAVAILABLE", f"Not ready: {reason}")
    return Reply(200)


ROUTES = [
    Route("GET", "/health", health, "open"),
    Route("GET", "/health/live", live, "open"),
    Route("GET", "/health/ready", ready, "open"),
]
