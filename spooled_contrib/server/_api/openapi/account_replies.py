"""The same as `replies`, for organizations, API keys and logins (contract section 8)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from spooled_contrib.server._api.openapi.replies import Count
from spooled_contrib.server._sessions import Claims


class OrganizationSummary(Struct):
    id: str
    name: str
    slug: str
    plan_tier: str
    created_at: datetime


class Organization(OrganizationSummary):
    billing_email: str | None
    settings: dict[str, Any]
    custom_limits: Any
    stripe_customer_id: str | None
    stripe_subscription_id: str | None
    stripe_subscription_status: str | None
    stripe_current_period_end: datetime | None
    stripe_cancel_at_period_end: bool | None
    updated_at: datetime


class FirstKey(Struct):
    id: str
    key: str
    name: str
    created_at: datetime


class OrganizationCreated(Struct):
    organization: Organization
    api_key: FirstKey


class PlanLimits(Struct):
    tier: str
    display_name: str
    max_jobs_per_day: Count | None
    max_active_jobs: Count | None
    max_queues: Count | None
    max_workers: Count | None
    max_api_keys: Count | None
    max_schedules: Count | None
    max_workflows: Count | None
    max_webhooks: Count | None
    max_payload_size_bytes: Count
    rate_limit_requests_per_second: Count
    rate_limit_burst: Count
    job_retention_days: Count
    history_retention_days: Count


class Used(Struct):
    current: Count
    limit: Count | None
    percentage: float | None
    is_disabled: bool


class UsageWarning(Struct):
    resource: str
    message: str
    severity: Literal["warning", "critical"]


class Usage(Struct):
    jobs_today: Used
    active_jobs: Used
    queues: Used
    workers: Used
    api_keys: Used
    schedules: Used
    workflows: Used
    webhooks: Used


class UsageReply(Struct):
    plan: str
    plan_display_name: str
    limits: PlanLimits
    usage: Usage
    warnings: list[UsageWarning]


class ApiKey(Struct):
    id: str
    name: str
    key_prefix: str | None
    queues: list[str]
    rate_limit: int | None
    is_active: bool
    created_at: datetime
    last_used: datetime | None
    expires_at: datetime | None


class ApiKeyCreated(Struct):
    id: str
    key: str
    name: str
    queues: list[str]
    created_at: datetime
    expires_at: datetime | None


class LoginReply(Struct):
    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: Count
    refresh_expires_in: Count


class RefreshReply(Struct):
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Count


class MyOrganization(Struct):
    id: str
    name: str
    slug: str
    plan_tier: str
    billing_email: str | None


class MeReply(Struct):
    organization_id: str
    api_key_id: str
    queues: list[str]
    issued_at: datetime
    expires_at: datetime
    organization: MyOrganization | None


class ValidateReply(Struct):
    """`claims` when it is valid, `error` when it is not."""

    valid: bool
    error: str | None = None
    claims: Claims | None = None


class Member(Struct):
    id: str
    user_id: str
    email: str
    name: str
    role: Literal["owner", "member"]
    joined_at: datetime
    invited_by: str | None


class SlugReply(Struct):
    """`error` unless it is available, `suggestion` when it is taken."""

    available: bool
    valid: bool
    error: str | None = None
    suggestion: str | None = None


class SlugMade(Struct):
    slug: str


class EmailReply(Struct):
    exists: bool
    available: bool | None
    signup_enabled: bool | None
    has_organizations: bool | None
