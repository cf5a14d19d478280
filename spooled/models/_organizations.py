"""Organisations, their plans and what they use of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spooled.models._api_keys import CreatedApiKey
from spooled.models._model import Model


class OrganizationSummary(Model, frozen=True):
    """An organisation in a list."""

    id: str
    name: str = ""
    slug: str = ""
    plan_tier: str = ""
    billing_email: str | None = None
    created_at: datetime | None = None


class Organization(Model, frozen=True):
    """An organisation."""

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
    stripe_current_period_end: datetime | None = None
    stripe_cancel_at_period_end: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateOrganizationResponse(Model, frozen=True):
    """A new organisation and its first API key."""

    organization: Organization
    api_key: CreatedApiKey


class UsageItem(Model, frozen=True):
    """How much of one resource is in use. `limit` None means unlimited."""

    current: int = 0
    limit: int | None = None
    percentage: float | None = None
    is_disabled: bool = False


class Usage(Model, frozen=True):
    """Use of everything the plan counts."""

    jobs_today: UsageItem = UsageItem()
    active_jobs: UsageItem = UsageItem()
    queues: UsageItem = UsageItem()
    workers: UsageItem = UsageItem()
    api_keys: UsageItem = UsageItem()
    schedules: UsageItem = UsageItem()
    workflows: UsageItem = UsageItem()
    webhooks: UsageItem = UsageItem()


class PlanLimits(Model, frozen=True):
    """What a plan allows; None means unlimited."""

    tier: str = ""
    display_name: str = ""
    max_jobs_per_day: int | None = None
    max_active_jobs: int | None = None
    max_queues: int | None = None
    max_workers: int | None = None
    max_api_keys: int | None = None
    max_schedules: int | None = None
    max_workflows: int | None = None
    max_webhooks: int | None = None
    max_payload_size_bytes: int | None = None
    rate_limit_requests_per_second: int | None = None
    rate_limit_burst: int | None = None
    job_retention_days: int | None = None
    history_retention_days: int | None = None


class UsageWarning(Model, frozen=True):
    """A resource that is close to its cap. `severity` is `warning` or `critical`."""

    resource: str
    message: str = ""
    severity: str = "warning"


class OrganizationUsage(Model, frozen=True):
    """Answer to `organizations.get_usage`."""

    plan: str
    plan_display_name: str = ""
    limits: PlanLimits = PlanLimits()
    usage: Usage = Usage()
    warnings: list[UsageWarning] = []


class OrganizationMember(Model, frozen=True):
    """A person in an organisation. `role` is `owner` or `participant`."""

    id: str
    user_id: str = ""
    email: str = ""
    name: str | None = None
    role: str = "member"
    joined_at: datetime | None = None
    invited_by: str | None = None


class CheckSlugResponse(Model, frozen=True):
    """Whether a slug can be had, and what else could."""

    available: bool
    valid: bool = True
    error: str | None = None
    suggestion: str | None = None


class GenerateSlugResponse(Model, frozen=True):
    """A slug made from a name."""

    slug: str


class WebhookToken(Model, frozen=True):
    """What `ingest` asks for. The token is not in the repr.

    Attributes:
        webhook_token: Sent as `X-Webhook-Token`; None when the organisation has none.
        webhook_url: Where messages are to be posted.
    """

    webhook_token: str | None = None
    webhook_url: str = ""

    def __repr__(self) -> str:
        shown = None if self.webhook_token is None else "***"
        return f"WebhookToken(webhook_token={shown!r}, webhook_url={self.webhook_url!r})"
