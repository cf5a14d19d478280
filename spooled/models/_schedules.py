"""Schedules: jobs that a cron expression creates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spooled.models._model import Model


class Schedule(Model, frozen=True):
    """A schedule. `next_run_at` is None when it will not fire any more."""

    id: str
    name: str = ""
    cron_expression: str = ""
    queue_name: str = ""
    organization_id: str = ""
    description: str | None = None
    timezone: str = "UTC"
    payload_template: Any = None
    priority: int = 0
    max_retries: int = 3
    timeout_seconds: int = 300
    is_active: bool = True
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    run_count: int = 0
    tags: Any = None
    metadata: Any = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateScheduleResponse(Model, frozen=True):
    """Answer to `schedules.create`."""

    id: str
    name: str = ""
    cron_expression: str = ""
    next_run_at: datetime | None = None


class TriggerScheduleResponse(Model, frozen=True):
    """Answer to `schedules.trigger`: the job that was created."""

    job_id: str
    triggered_at: datetime | None = None


class ScheduleRun(Model, frozen=True):
    """One run of a schedule.

    Attributes:
        status: Whether the job could be enqueued: `completed` or `failed`.
        job_status: How that job is doing now.
    """

    id: str
    schedule_id: str = ""
    job_id: str | None = None
    status: str = ""
    error_message: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    job_status: str | None = None
