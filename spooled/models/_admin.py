"""What the operator of a server sees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from spooled.models._model import Model
from spooled.models._organizations import Usage


class AdminOrganization(Model, frozen=True):
    """An organisation as the operator sees it. `deleted_at` is set after a delete that can be undone.

    Attributes:
        custom_limits: Overrides of the plan's numbers.
        usage: Only in the answer to `get_organization`, and only from servers that send it.
    """

    id: str
    name: str = ""
    slug: str = ""
    plan_tier: str = ""
    billing_email: str | None = None
    settings: Any = None
    custom_limits: Any = None
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None
    stripe_subscription_status: str | None = None
    usage: Usage | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None


class AdminOrganizationList(Model, frozen=True):
    """One page of all organisations, to iterate over; `total` counts those on every page."""

    organizations: list[AdminOrganization] = []
    total: int = 0
    limit: int = 0
    offset: int = 0

    def __iter__(self) -> Iterator[AdminOrganization]:
        return iter(self.organizations)

    def __len__(self) -> int:
        return len(self.organizations)

    def __getitem__(self, index: int) -> AdminOrganization:
        return self.organizations[index]


class AdminOrganizationStats(Model, frozen=True):
    """Organisations. `by_plan` is what the server sends: one entry a plan."""

    total: int = 0
    by_plan: Any = None
    created_today: int = 0
    created_this_week: int = 0


class AdminJobStats(Model, frozen=True):
    """Jobs of all organisations."""

    total_active: int = 0
    pending: int = 0
    processing: int = 0
    completed_24h: int = 0
    failed_24h: int = 0


class AdminWorkerStats(Model, frozen=True):
    """Workers of all organisations."""

    total: int = 0
    healthy: int = 0
    degraded: int = 0


class AdminSystemStats(Model, frozen=True):
    """The server itself."""

    api_version: str = ""
    uptime_seconds: int = 0


class AdminStats(Model, frozen=True):
    """Answer to `admin.get_stats`."""

    organizations: AdminOrganizationStats = AdminOrganizationStats()
    jobs: AdminJobStats = AdminJobStats()
    workers: AdminWorkerStats = AdminWorkerStats()
    system: AdminSystemStats = AdminSystemStats()
