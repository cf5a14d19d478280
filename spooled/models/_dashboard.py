"""The dashboard: everything at a glance."""

from __future__ import annotations

from datetime import datetime

from spooled.models._model import Model


class SystemInfo(Model, frozen=True):
    """The server itself."""

    version: str = ""
    uptime_seconds: int = 0
    started_at: datetime | None = None
    database_status: str = ""
    cache_status: str = ""
    environment: str = ""


class JobTotals(Model, frozen=True):
    """Jobs by state. The two averages are milliseconds and None when nothing ran."""

    total: int = 0
    pending: int = 0
    processing: int = 0
    completed_24h: int = 0
    failed_24h: int = 0
    deadletter: int = 0
    avg_wait_time_ms: float | None = None
    avg_processing_time_ms: float | None = None


class QueueTotals(Model, frozen=True):
    """One queue."""

    name: str
    pending: int = 0
    processing: int = 0
    paused: bool = False


class WorkerTotals(Model, frozen=True):
    """Workers; healthy are those with a heartbeat in the last minute."""

    total: int = 0
    healthy: int = 0
    unhealthy: int = 0


class RecentActivity(Model, frozen=True):
    """The last hour."""

    jobs_created_1h: int = 0
    jobs_completed_1h: int = 0
    jobs_failed_1h: int = 0


class DashboardResponse(Model, frozen=True):
    """Answer to `dashboard.get`. At most 20 queues; a key that is limited to some queues sees only those."""

    system: SystemInfo = SystemInfo()
    jobs: JobTotals = JobTotals()
    queues: list[QueueTotals] = []
    workers: WorkerTotals = WorkerTotals()
    recent_activity: RecentActivity = RecentActivity()
