"""The same as `replies`, for the dashboard, billing and administration (contract section 11)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from spooled_contrib.server._api.openapi import account_replies as account
from spooled_contrib.server._api.openapi.replies import Count


class SystemState(Struct):
    version: str
    uptime_seconds: Count
    started_at: datetime
    database_status: Literal["healthy"]
    cache_status: Literal["healthy"]
    environment: str


class DashboardJobs(Struct):
    total: Count
    pending: Count
    processing: Count
    completed_24h: Count
    failed_24h: Count
    deadletter: Count
    avg_wait_time_ms: float | None
    avg_processing_time_ms: float | None


class DashboardQueue(Struct):
    name: str
    pending: Count
    processing: Count
    paused: bool


class DashboardWorkers(Struct):
    total: Count
    healthy: Count
    unhealthy: Count


class RecentActivity(Struct):
    jobs_created_1h: Count
    jobs_completed_1h: Count
    jobs_failed_1h: Count


class Dashboard(Struct):
    system: SystemState
    jobs: DashboardJobs
    queues: list[DashboardQueue]
    workers: DashboardWorkers
    recent_activity: RecentActivity


class BillingStatus(Struct):
    plan_tier: str
    stripe_subscription_id: str | None
    stripe_subscription_status: str | None
    stripe_current_period_end: datetime | None
    stripe_cancel_at_period_end: bool | None
    has_stripe_customer: bool


class AnyOrganization(account.Organization):
    """An organization as those who run the server see it: a deleted one too."""

    deleted_at: datetime | None


class OrganizationPage(Struct):
    organizations: list[AnyOrganization]
    total: Count
    limit: Count
    offset: Count


class PlanCount(Struct):
    plan: str
    count: Count


class OrganizationNumbers(Struct):
    total: Count
    by_plan: list[PlanCount]
    created_today: Count
    created_this_week: Count


class JobNumbers(Struct):
    total_active: Count
    pending: Count
    processing: Count
    completed_24h: Count
    failed_24h: Count


class WorkerNumbers(Struct):
    total: Count
    healthy: Count
    degraded: Count


class ServerState(Struct):
    api_version: str
    uptime_seconds: Count


class ServerStats(Struct):
    organizations: OrganizationNumbers
    jobs: JobNumbers
    workers: WorkerNumbers
    system: ServerState
