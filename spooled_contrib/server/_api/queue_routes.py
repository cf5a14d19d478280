"""Queues (contract section 4)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_creation import MaxRetries, Timeout
from spooled_contrib.server._api.job_objects import raw
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import queues
from spooled_contrib.server._rules.names import check_queue_name
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import moment


class ConfigBody(Struct):
    max_retries: MaxRetries | None = None
    default_timeout: Timeout | None = None
    rate_limit: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    enabled: bool | None = None
    settings: Raw = bodies.NULL


class PauseBody(Struct):
    reason: Annotated[str, Meta(max_length=500, extra_json_schema=bodies.NO_NUL)] | None = None


_config = Decoder(ConfigBody)
_pause = Decoder(PauseBody)


async def list_queues(call: Call) -> Reply:
    principal = call.principal
    rows = await call.read(lambda tx: queues.list_queues(tx, principal))
    return json_reply(
        [
            {
                "queue_name": row[0],
                "max_retries": row[1],
                "default_timeout": row[2],
                "rate_limit": row[3],
                "enabled": bool(row[4]),
            }
            for row in rows
        ]
    )


async def get_queue(call: Call) -> Reply:
    principal, name = call.principal, _name(call)
    return json_reply(_config_object(await call.read(lambda tx: queues.get_queue(tx, principal, name))))


async def configure_queue(call: Call) -> Reply:
    name = _name(call)
    body = await call.strict_json(_config)
    settings = bodies.json_text(body.settings, "settings", bodies.MAX_JSON_MEMBER)
    change = queues.QueueChange(
        max_retries=body.max_retries,
        default_timeout=body.default_timeout,
        rate_limit=body.rate_limit,
        enabled=body.enabled,
        settings=None if settings is None else settings[1],
    )
    principal, limits = call.principal, call.limits
    row = await call.write(lambda tx: queues.configure(tx, principal, limits, name, change))
    return json_reply(_config_object(row))


async def queue_stats(call: Call) -> Reply:
    principal, name = call.principal, _name(call)
    return json_reply(await call.read(lambda tx: queues.stats(tx, principal, name)))


async def pause_queue(call: Call) -> Reply:
    name = _name(call)
    reason = await _reason(call)
    principal = call.principal

    def pause(tx: Tx) -> int:
        queues.pause(tx, principal, name, reason)
        return tx.now

    paused_at = await call.write(pause)
    return json_reply({"queue_name": name, "paused": True, "paused_at": moment(paused_at), "reason": reason})


async def _reason(call: Call) -> str | None:
    if not call.has_json_type:
        if await call.body() == b"":
            return None
        raise refuse.invalid_json("send the header Content-Type: application/json, or no body")
    reason = (await call.json(_pause)).reason
    bodies.check_text(reason, "reason")
    return reason


async def resume_queue(call: Call) -> Reply:
    principal, name = call.principal, _name(call)
    seconds = await call.write(lambda tx: queues.resume(tx, principal, name))
    return json_reply({"queue_name": name, "resumed": True, "paused_duration_secs": seconds})


async def delete_queue(call: Call) -> Reply:
    principal, name = call.principal, _name(call)
    flag = call.query.get("delete_jobs") or "false"
    if flag not in ("true", "false"):
        raise refuse.invalid("delete_jobs", "must be true or false", code="format")
    await call.write(lambda tx: queues.delete(tx, principal, name, delete_jobs=flag == "true"))
    return Reply(NO_CONTENT)


def _name(call: Call) -> str:
    name = call.parameters[0]
    check_queue_name(name)
    return name


def _config_object(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "organization_id": row[1],
        "queue_name": row[2],
        "max_retries": row[3],
        "default_timeout": row[4],
        "rate_limit": row[5],
        "enabled": bool(row[6]),
        "settings": raw(row[7]),
        "created_at": moment(row[8]),
        "updated_at": moment(row[9]),
    }


ROUTES = [
    Route("GET", "/api/v1/queues", list_queues),
    Route("GET", "/api/v1/queues/{name}", get_queue),
    Route("DELETE", "/api/v1/queues/{name}", delete_queue),
    Route("PUT", "/api/v1/queues/{name}/config", configure_queue),
    Route("GET", "/api/v1/queues/{name}/stats", queue_stats),
    Route("POST", "/api/v1/queues/{name}/pause", pause_queue),
    Route("POST", "/api/v1/queues/{name}/resume", resume_queue),
]
