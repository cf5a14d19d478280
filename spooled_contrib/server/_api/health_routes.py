"""Health (contract section 2)."""

from __future__ import annotations

import asyncio

from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route

PATIENCE = 5.0
"""Seconds within which a healthy database answers a trivial question."""


async def _database_answers(call: Call) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            await call.read(lambda tx: tx.select_one("SELECT 1"))
    except Exception:
        return False
    return True


async def health(call: Call) -> Reply:
    """200 even when degraded. There is no cache that could fail, so `cache` is always true."""
    database = await _database_answers(call)
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
    return Reply(200 if await _database_answers(call) else 503)


ROUTES = [
    Route("GET", "/health", health, "open"),
    Route("GET", "/health/live", live, "open"),
    Route("GET", "/health/ready", ready, "open"),
]
