"""Queues."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spooled.models._model import Model


class QueueSummary(Model, frozen=True):
    """A queue in the list of queues."""

    queue_name: str
    max_retries: int = 3
    default_timeout: int = 300
    rate_limit: int | None = None
    enabled: bool = True


class QueueConfig(Model, frozen=True):
    """A queue's settings. One that only exists because it holds jobs has `settings={"implicit": True}`."""

    queue_name: str
    id: str = ""
    organization_id: str = ""
    max_retries: int = 3
    default_timeout: int = 300
    rate_limit: int | None = None
    enabled: bool = True
    settings: Any = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class QueueStats(Model, frozen=True):
    """A queue's numbers. `pending_jobs` leaves out scheduled ones, see `JobStats`."""

    queue_name: str
    pending_jobs: int = 0
    processing_jobs: int = 0
    completed_jobs_24h: int = 0
    failed_jobs_24h: int = 0
    avg_processing_time_ms: float | None = None
    max_job_age_seconds: int | None = None
    active_workers: int = 0


class PauseQueueResponse(Model, frozen=True):
    """Answer to `queues.pause`."""

    queue_name: str
    paused: bool = True
    paused_at: datetime | None = None
    reason: str | None = None


class ResumeQueueResponse(Model, frozen=True):
    """Answer to `queues.resume`."""

    queue_name: str
    resumed: bool = True
    paused_duration_secs: int = 0
