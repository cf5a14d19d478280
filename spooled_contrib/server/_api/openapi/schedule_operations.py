"""Schedules in words and types (contract section 6)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from spooled_contrib.server._api import bodies, schedule_routes
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import Integer, page
from spooled_contrib.server._api.openapi.replies import Count


class ScheduleCreated(Struct):
    id: str
    name: str
    cron_expression: str
    next_run_at: datetime | None


class Schedule(Struct):
    id: str
    organization_id: str
    name: str
    description: str | None
    cron_expression: str
    timezone: str
    queue_name: str
    payload_template: Any
    priority: int
    max_retries: Count
    timeout_seconds: Count
    is_active: bool
    last_run_at: datetime | None
    next_run_at: datetime | None
    run_count: Count
    tags: Any
    metadata: Any
    created_at: datetime
    updated_at: datetime


class ScheduleRun(Struct):
    id: str
    schedule_id: str
    job_id: str | None
    status: Literal["pending", "running", "completed", "failed"]
    error_message: str | None
    started_at: datetime
    completed_at: datetime | None
    job_status: str | None


class ScheduleTriggered(Struct):
    job_id: str
    triggered_at: datetime


_QUEUE_NAME = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/schedules": returns(
        "List schedules",
        list[Schedule],
        query=(
            Query("queue_name", _QUEUE_NAME, "Only of this queue"),
            Query("is_active", Literal["true", "false"], "Only active or only paused ones"),
            *page(100, 500),
        ),
    ),
    "POST /api/v1/schedules": returns(
        "Create a schedule",
        ScheduleCreated,
        status=201,
        body=schedule_routes.NewScheduleBody,
        errors=(403, 413),
    ),
    "GET /api/v1/schedules/{id}": returns("One schedule", Schedule),
    "PUT /api/v1/schedules/{id}": returns(
        "Change a schedule; what is left out keeps its value",
        Schedule,
        body=schedule_routes.ScheduleChangeBody,
    ),
    "DELETE /api/v1/schedules/{id}": returns("Delete a schedule", Empty, status=204),
    "POST /api/v1/schedules/{id}/pause": returns("Stop firing", Schedule),
    "POST /api/v1/schedules/{id}/resume": returns("Fire again, from now on", Schedule),
    "POST /api/v1/schedules/{id}/trigger": returns("Fire once, now", ScheduleTriggered, errors=(413,)),
    "GET /api/v1/schedules/{id}/history": returns(
        "Past runs, newest first",
        list[ScheduleRun],
        query=[Query("limit", Integer, "50 unless told; moved into 1 to 500")],
    ),
}
