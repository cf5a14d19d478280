"""Spooled's plans, and which one an organization is on (contract section 1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, Literal

from spooled_contrib.server._limits import Limits

Plan = Literal["free", "starter", "pro", "enterprise"]
PLAN_NAMES: tuple[Plan, ...] = ("free", "starter", "pro", "enterprise")

PLANS: Final[dict[str, Limits]] = {
    "free": Limits(
        plan="free",
        jobs_per_day=1_000,
        active_jobs=10,
        queues=2,
        workers=1,
        api_keys=2,
        schedules=1,
        workflows=0,
        webhooks=1,
        payload_bytes=65_536,
        requests_per_second=5,
        burst=10,
        job_retention_days=3,
        history_retention_days=1,
    ),
    "starter": Limits(
        plan="starter",
        jobs_per_day=10_000,
        active_jobs=500,
        queues=10,
        workers=5,
        api_keys=5,
        schedules=10,
        workflows=5,
        webhooks=5,
        payload_bytes=262_144,
        requests_per_second=25,
        burst=50,
        job_retention_days=14,
        history_retention_days=7,
    ),
    "pro": Limits(
        plan="pro",
        jobs_per_day=100_000,
        active_jobs=5_000,
        queues=50,
        workers=25,
        api_keys=25,
        schedules=50,
        workflows=25,
        webhooks=20,
        payload_bytes=1_048_576,
        requests_per_second=100,
        burst=200,
        job_retention_days=30,
        history_retention_days=30,
    ),
    "enterprise": Limits(
        plan="enterprise",
        payload_bytes=1_048_576,
        requests_per_second=500,
        burst=1_000,
        job_retention_days=90,
        history_retention_days=90,
    ),
}
"""From the smallest to the largest."""

REPORTED: Final[dict[str, str]] = {
    "max_jobs_per_day": "jobs_per_day",
    "max_active_jobs": "active_jobs",
    "max_queues": "queues",
    "max_workers": "workers",
    "max_api_keys": "api_keys",
    "max_schedules": "schedules",
    "max_workflows": "workflows",
    "max_webhooks": "webhooks",
    "max_payload_size_bytes": "payload_bytes",
    "rate_limit_requests_per_second": "requests_per_second",
    "rate_limit_burst": "burst",
    "job_retention_days": "job_retention_days",
    "history_retention_days": "history_retention_days",
}
"""What the API calls each limit, and what it is called here."""


def with_overrides(base: Limits, changes: Limits) -> Limits:
    """`base`, with everything that `changes` sets."""
    wanted = {field.name: getattr(changes, field.name) for field in fields(Limits)}
    return replace(base, **{name: value for name, value in wanted.items() if value is not None})


def with_custom_limits(base: Limits, custom: Mapping[str, Any]) -> Limits:
    """`base`, with an organization's own limits, which have the API's names. None means "no limit"."""
    return replace(base, **{REPORTED[name]: value for name, value in custom.items() if name in REPORTED})


def upgrade(limits: Limits, resource: str, needed: int) -> str | None:
    """Return the smallest larger plan under which `needed` of a resource would do; None outside the plans."""
    names = list(PLANS)
    if limits.plan not in PLANS:
        return None
    for name in names[names.index(limits.plan) + 1 :]:
        limit = getattr(PLANS[name], resource)
        if limit is None or limit >= needed:
            return name
    return None


PlanRow = tuple[str, str | None, Mapping[str, Any] | None]
"""An organization's id, the plan that it was put on, and the limits that it was given."""


class Plans:
    """Which limits apply to whom. Nearly every organization has the server's own; exceptions are kept in memory.

    Args:
        limits: The server's limits, for every organization that was not put on a plan of its own.
    """

    def __init__(self, limits: Limits) -> None:
        self.default = limits
        self.exceptions: dict[str, Limits] = {}
        self.custom: dict[str, Mapping[str, Any]] = {}
        """The limits that organizations were given, as they were given."""
        self.changes = 0
        """Counts calls of `set`."""

    def of(self, organization_id: str) -> Limits:
        return self.exceptions.get(organization_id, self.default)

    def load(self, rows: Iterable[PlanRow], changes: int) -> None:
        """Take over what the database says, unless something was `set` here since `changes` was looked up."""
        if changes == self.changes:
            self.exceptions, self.custom = {}, {}
            for organization_id, plan, custom in rows:
                self._put(organization_id, plan, custom)

    def set(self, organization_id: str, plan: str | None, custom: Mapping[str, Any] | None) -> None:
        """An organization's plan or its own limits were changed by this server."""
        self.changes += 1
        self._put(organization_id, plan, custom)

    def _put(self, organization_id: str, plan: str | None, custom: Mapping[str, Any] | None) -> None:
        self.custom.pop(organization_id, None)
        if custom:
            self.custom[organization_id] = custom
        if plan is None and not custom:
            self.exceptions.pop(organization_id, None)
            return
        base = self.default if plan is None else PLANS.get(plan, self.default)
        self.exceptions[organization_id] = with_custom_limits(base, custom or {})
