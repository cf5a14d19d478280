"""Schedules (contract section 6)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_creation import MaxRetries, Priority, Timeout, job_type
from spooled_contrib.server._api.job_objects import raw
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import cron, schedule_runs, schedules
from spooled_contrib.server._rules.names import check_queue_name
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

_CRON = {
    "pattern": cron.PATTERN,
    "examples": ["*/5 * * * *", "30 0 9-17 * * 1,3,5"],
}
_ZONE = {
    "anyOf": [
        {"enum": ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]},
        {"pattern": r"^[+-]([01][0-9]|2[0-3]):[0-5][0-9]$"},
        {"pattern": r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"},
    ]
}

Name = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema=bodies.NO_NUL)]
Description = Annotated[str, Meta(max_length=1000, extra_json_schema=bodies.NO_NUL)]
CronText = Annotated[str, Meta(min_length=9, max_length=100, extra_json_schema=_CRON)]
ZoneText = Annotated[str, Meta(max_length=100, extra_json_schema=_ZONE)]
_TEXTS = ("name", "description", "cron_expression", "timezone")


class NewScheduleBody(Struct):
    name: Name
    cron_expression: CronText
    queue_name: bodies.QueueName
    payload_template: Raw
    description: Description | None = None
    timezone: ZoneText | None = None
    priority: Priority | None = None
    max_retries: MaxRetries | None = None
    timeout_seconds: Timeout | None = None
    tags: Raw = bodies.NULL
    metadata: Raw = bodies.NULL


class ScheduleChangeBody(Struct):
    """None keeps. A `queue_name` is ignored, like every unknown field."""

    name: Name | None = None
    description: Description | None = None
    cron_expression: CronText | None = None
    timezone: ZoneText | None = None
    payload_template: Raw = bodies.NULL
    priority: Priority | None = None
    max_retries: MaxRetries | None = None
    timeout_seconds: Timeout | None = None
    is_active: bool | None = None
    tags: Raw = bodies.NULL
    metadata: Raw = bodies.NULL


_new = Decoder(NewScheduleBody)
_change = Decoder(ScheduleChangeBody)


async def create_schedule(call: Call) -> Reply:
    body = await call.json(_new)
    _check_texts(body)
    check_queue_name(body.queue_name)
    payload, value = bodies.required_json_text(body.payload_template, "payload_template", bodies.MAX_PAYLOAD)
    tags = bodies.json_text(body.tags, "tags", bodies.MAX_JSON_MEMBER)
    metadata = bodies.json_text(body.metadata, "metadata", bodies.MAX_JSON_MEMBER)
    new = schedules.NewSchedule(
        name=body.name,
        description=body.description,
        cron_expression=body.cron_expression,
        timezone="UTC" if body.timezone is None else body.timezone,
        queue_name=body.queue_name,
        payload_template=payload,
        job_type=job_type(value),
        priority=body.priority or 0,
        max_retries=body.max_retries,
        timeout_seconds=body.timeout_seconds,
        tags=None if tags is None else tags[0],
        metadata=None if metadata is None else metadata[0],
    )
    principal, limits = call.principal, call.limits
    row = await call.write(lambda tx: schedules.create(tx, principal, limits, new))
    return json_reply(
        {"id": row[0], "name": row[2], "cron_expression": row[4], "next_run_at": moment(row[14])}, 201
    )


async def list_schedules(call: Call) -> Reply:
    principal = call.principal
    queue_name = call.text("queue_name", 100)
    is_active = _flag(call, "is_active")
    limit, offset = call.integer("limit", 100, 1, 500), call.integer("offset", 0, 0, 10**15)
    rows = await call.read(
        lambda tx: schedules.list_schedules(
            tx, principal, queue_name=queue_name, is_active=is_active, limit=limit, offset=offset
        )
    )
    return json_reply([_schedule(row) for row in rows])


async def get_schedule(call: Call) -> Reply:
    principal, schedule_id = call.principal, call.parameters[0]
    return json_reply(_schedule(await call.read(lambda tx: schedules.get(tx, principal, schedule_id))))


async def update_schedule(call: Call) -> Reply:
    body = await call.json(_change)
    _check_texts(body)
    changes: dict[str, object] = {
        name: value
        for name in (*_TEXTS, "priority", "max_retries", "timeout_seconds")
        if (value := getattr(body, name)) is not None
    }
    if body.is_active is not None:
        changes["is_active"] = int(body.is_active)
    payload = bodies.json_text(body.payload_template, "payload_template", bodies.MAX_PAYLOAD)
    if payload is not None:
        changes |= {"payload_template": payload[0], "job_type": job_type(payload[1])}
    for name, sent in (("tags", body.tags), ("metadata", body.metadata)):
        member = bodies.json_text(sent, name, bodies.MAX_JSON_MEMBER)
        if member is not None:
            changes[name] = member[0]
    principal, limits, schedule_id = call.principal, call.limits, call.parameters[0]
    return json_reply(
        _schedule(await call.write(lambda tx: schedules.update(tx, principal, limits, schedule_id, changes)))
    )


async def delete_schedule(call: Call) -> Reply:
    principal, schedule_id = call.principal, call.parameters[0]
    await call.write(lambda tx: schedules.delete(tx, principal, schedule_id))
    return Reply(NO_CONTENT)


async def pause_schedule(call: Call) -> Reply:
    principal, schedule_id = call.principal, call.parameters[0]
    return json_reply(_schedule(await call.write(lambda tx: schedules.pause(tx, principal, schedule_id))))


async def resume_schedule(call: Call) -> Reply:
    principal, limits, schedule_id = call.principal, call.limits, call.parameters[0]
    return json_reply(
        _schedule(await call.write(lambda tx: schedules.resume(tx, principal, limits, schedule_id)))
    )


async def trigger_schedule(call: Call) -> Reply:
    principal, limits, schedule_id = call.principal, call.limits, call.parameters[0]
    job_id, now = await call.write(
        lambda tx: (schedule_runs.trigger(tx, principal, limits, schedule_id), tx.now)
    )
    return json_reply({"job_id": job_id, "triggered_at": moment(now)})


async def list_runs(call: Call) -> Reply:
    principal, schedule_id = call.principal, call.parameters[0]
    limit = call.integer("limit", 50, 1, 500)
    rows = await call.read(lambda tx: schedule_runs.list_runs(tx, principal, schedule_id, limit))
    return json_reply([_run(row) for row in rows])


def _check_texts(body: NewScheduleBody | ScheduleChangeBody) -> None:
    for field in _TEXTS:
        bodies.check_text(getattr(body, field), field)


def _flag(call: Call, name: str) -> bool | None:
    value = call.text(name, 100)
    if value is None:
        return None
    if value not in ("true", "false"):
        raise refuse.invalid(name, "must be true or false", code="format")
    return value == "true"


def _schedule(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "organization_id": row[1],
        "name": row[2],
        "description": row[3],
        "cron_expression": row[4],
        "timezone": row[5],
        "queue_name": row[6],
        "payload_template": raw(row[7]),
        "priority": row[9],
        "max_retries": row[10],
        "timeout_seconds": row[11],
        "is_active": bool(row[12]),
        "last_run_at": moment(row[13]),
        "next_run_at": moment(row[14]),
        "run_count": row[15],
        "tags": raw(row[16]),
        "metadata": raw(row[17]),
        "created_at": moment(row[18]),
        "updated_at": moment(row[19]),
    }


def _run(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "schedule_id": row[1],
        "job_id": row[2],
        "status": row[3],
        "error_message": row[4],
        "started_at": moment(row[5]),
        "completed_at": moment(row[6]),
        "job_status": row[7],
    }


ROUTES = [
    Route("GET", "/api/v1/schedules", list_schedules),
    Route("POST", "/api/v1/schedules", create_schedule),
    Route("GET", "/api/v1/schedules/{id}", get_schedule),
    Route("PUT", "/api/v1/schedules/{id}", update_schedule),
    Route("DELETE", "/api/v1/schedules/{id}", delete_schedule),
    Route("POST", "/api/v1/schedules/{id}/pause", pause_schedule),
    Route("POST", "/api/v1/schedules/{id}/resume", resume_schedule),
    Route("POST", "/api/v1/schedules/{id}/trigger", trigger_schedule),
    Route("GET", "/api/v1/schedules/{id}/history", list_runs),
]
