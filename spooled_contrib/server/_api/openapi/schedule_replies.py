"""The same as `replies`, for schedules and workflows (contract sections 6 and 7)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from spooled_contrib.server._api.openapi.replies import Count

WorkflowStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class ScheduleCreated(Struct):
    id: str
    name: str
    cron_expression: str
    next_run_at: datetime | None


class Schedule(ScheduleCreated):
    organization_id: str
    description: str | None
    timezone: str
    queue_name: str
    payload_template: Any
    priority: int
    max_retries: Count
    timeout_seconds: Count
    is_active: bool
    last_run_at: datetime | None
    run_count: Count
    tags: Any
    metadata: Any
    created_at: datetime
    updated_at: datetime


class ScheduleTriggered(Struct):
    job_id: str
    triggered_at: datetime


class ScheduleRun(Struct):
    """`status` is that of making the job, `job_status` the job's present one; null when the job is gone."""

    id: str
    schedule_id: str
    job_id: str | None
    status: Literal["pending", "running", "completed", "failed"]
    error_message: str | None
    started_at: datetime
    completed_at: datetime | None
    job_status: str | None


class StepCreated(Struct):
    key: str
    job_id: str


class WorkflowCreated(Struct):
    workflow_id: str
    job_ids: list[StepCreated]
    status: WorkflowStatus


class WorkflowSummary(Struct):
    id: str
    name: str
    description: str | None
    status: WorkflowStatus
    total_jobs: Count
    completed_jobs: Count
    failed_jobs: Count
    progress_percent: Annotated[float, Meta(ge=0, le=100)]
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    metadata: Any


class StepError(Struct):
    type: Literal["JobError"]
    message: str
    stack: None


class WorkflowJob(Struct):
    id: str
    organization_id: str
    queue: str
    job_type: Literal["job"]
    payload: Any
    status: str
    priority: int
    attempt: Count
    max_retries: Count
    backoff_type: Literal["exponential"]
    timeout_ms: Count | None
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: None
    next_retry_at: None
    result: Any
    error: StepError | None
    metadata: Any
    workflow_id: str | None
    parent_job_id: str | None


class WorkflowDependency(Struct):
    parent_job_id: str
    child_job_id: str
    dependency_type: Literal["all", "any"]


class WorkflowProgress(Struct):
    total: Count
    completed: Count
    failed: Count
    pending: Count
    processing: Count


class Workflow(Struct):
    id: str
    organization_id: str
    name: str
    description: str | None
    status: WorkflowStatus
    jobs: list[WorkflowJob]
    dependencies: list[WorkflowDependency]
    progress: WorkflowProgress
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    metadata: Any
