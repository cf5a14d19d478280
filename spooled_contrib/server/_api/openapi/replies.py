"""The bodies of replies that handlers write as plain objects, as types to describe them by.

A test holds every reply against these; the handlers do not use them, because an object costs more to make than a dict.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from spooled_contrib.server._api.job_objects import JobSummary

Count = Annotated[int, Meta(ge=0)]


class ErrorReply(Struct):
    """Every 4xx and 5xx. Some errors have further members (contract section 1.2)."""

    code: Annotated[str, Meta(pattern="^[A-Z][A-Z_]*$")]
    message: Annotated[str, Meta(min_length=1)]
    details: list[ErrorDetail] | dict[str, Any] | None = None


class ErrorDetail(Struct):
    field: str
    message: str
    code: str | None


class SuccessReply(Struct):
    success: bool


class HealthReply(Struct):
    status: Literal["healthy", "degraded"]
    database: bool
    cache: bool
    uptime_seconds: Count


JobList = list[JobSummary]


class JobStats(Struct):
    pending: Count
    scheduled: Count
    processing: Count
    completed: Count
    failed: Count
    deadletter: Count
    cancelled: Count
    total: Count


class JobStatus(Struct):
    id: str
    status: str
    queue_name: str
    retry_count: Count
    created_at: datetime
    completed_at: datetime | None


class HistoryEntry(Struct):
    id: str
    job_id: str
    event_type: str
    worker_id: str | None
    details: Any
    created_at: datetime


class RelatedJob(Struct):
    job_id: str
    queue_name: str
    status: str


class DependenciesReply(Struct):
    job_id: str
    dependencies: list[RelatedJob]
    dependents: list[RelatedJob]
    dependencies_met: bool
    dependency_mode: Literal["all", "any"] | None


class DependenciesAdded(Struct):
    dependencies_added: Count
    dependencies_met: bool
    job_id: str


class PriorityReply(Struct):
    job_id: str
    old_priority: int
    new_priority: int


class DeadLettersRetried(Struct):
    retried_count: Count
    retried_jobs: list[str]
    skipped_jobs: list[str]


class DeadLettersPurged(Struct):
    purged_count: Count


class QueueSummary(Struct):
    queue_name: str
    max_retries: int
    default_timeout: int
    rate_limit: int | None
    enabled: bool


class QueueConfig(QueueSummary):
    id: str
    organization_id: str
    settings: Any
    created_at: datetime
    updated_at: datetime


class QueueStats(Struct):
    queue_name: str
    pending_jobs: Count
    processing_jobs: Count
    completed_jobs_24h: Count
    failed_jobs_24h: Count
    avg_processing_time_ms: float | None
    max_job_age_seconds: Count | None
    active_workers: Count


class QueuePaused(Struct):
    queue_name: str
    paused: bool
    paused_at: datetime
    reason: str | None


class QueueResumed(Struct):
    queue_name: str
    resumed: bool
    paused_duration_secs: Count


class SettleOffer(Struct):
    """The server takes `POST /api/v1/jobs/settle`; `max` completes and fails in one request."""

    max: Count


class WorkerRegistered(Struct):
    id: str
    queue_name: str
    lease_duration_secs: Count
    heartbeat_interval_secs: Count
    settle: SettleOffer | UnsetType = UNSET


class WorkerSummary(Struct):
    id: str
    queue_name: str
    hostname: str
    status: Literal["healthy", "degraded", "draining", "offline"]
    current_jobs: Count
    max_concurrency: Count
    last_heartbeat: datetime
    jobs_processed: Count
    jobs_failed: Count


class Worker(WorkerSummary):
    organization_id: str
    queue_names: list[str]
    worker_type: str | None
    metadata: Any
    version: str | None
    registered_at: datetime
    updated_at: datetime
