"""Administration, dashboard, billing and metrics in words and types (contract sections 2, 8 and 11)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from spooled_contrib.server._api import (
    admin_routes,
    api_key_routes,
    bodies,
    dashboard_routes,
    organization_routes,
)
from spooled_contrib.server._api.openapi import account_replies as account
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import ORDER_DIR, page
from spooled_contrib.server._api.openapi.replies import Count, SuccessReply

_ADMIN = (401, 403, 429)


class AdminOrganization(account.Organization):
    deleted_at: datetime | None


class OrganizationPage(Struct):
    organizations: list[AdminOrganization]
    total: Count
    limit: Count
    offset: Count


class SlugChecked(Struct):
    available: bool
    valid: bool
    error: str | None = None
    suggestion: str | None = None


class Slug(Struct):
    slug: str


class EmailChecked(Struct):
    exists: bool
    available: bool
    signup_enabled: bool
    has_organizations: bool


class BillingStatus(Struct):
    plan_tier: str
    stripe_subscription_id: str | None
    stripe_subscription_status: str | None
    stripe_current_period_end: datetime | None
    stripe_cancel_at_period_end: bool | None
    has_stripe_customer: bool


_Search = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]
_CLOSED = Operation(about="Always refused: this server sends no e-mail", replies={}, errors=(403, 429))

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /metrics": returns("Numbers for Prometheus", str, media_type="text/plain", errors=(401,)),
    "GET /api/v1/dashboard": returns("The organization in numbers", dict[str, Any]),
    "GET /api/v1/billing/status": returns("What is paid for: nothing", BillingStatus),
    "POST /api/v1/billing/portal": Operation(
        about="Always refused", replies={}, body=dashboard_routes.PortalBody, errors=(403,)
    ),
    "GET /api/v1/organizations/check-slug": returns(
        "Whether a slug is free", SlugChecked, query=[Query("slug", Any, "The slug")], errors=(429,)
    ),
    "POST /api/v1/organizations/generate-slug": returns(
        "A free slug for a name", Slug, body=organization_routes.NameBody, errors=(429,)
    ),
    "PUT /api/v1/organizations/{id}": returns(
        "Change the caller's organization",
        account.Organization,
        body=organization_routes.ChangeBody,
        errors=(403, 409),
    ),
    "DELETE /api/v1/organizations/{id}": returns(
        "Delete the caller's organization", Empty, status=204, errors=(403, 409)
    ),
    "GET /api/v1/organizations/{id}/members": returns("Nobody", list[dict[str, Any]], errors=(403,)),
    "GET /api/v1/auth/check-email": returns(
        "Whether an address is known",
        EmailChecked,
        query=[Query("email", organization_routes.Email, "The address", required=True)],
        errors=(429,),
    ),
    "POST /api/v1/auth/email/start": _CLOSED,
    "POST /api/v1/auth/email/verify": _CLOSED,
    "POST /api/v1/auth/signup/complete": _CLOSED,
    "GET /api/v1/admin/organizations": returns(
        "List organizations",
        OrganizationPage,
        query=(
            Query("search", _Search, "Part of a name or slug"),
            Query("sort_by", Literal["created_at", "name", "slug", "updated_at"], "What to order by"),
            Query("sort_order", ORDER_DIR, "desc unless told"),
            *page(),
        ),
        errors=_ADMIN,
    ),
    "POST /api/v1/admin/organizations": returns(
        "Create an organization",
        account.OrganizationCreated,
        status=201,
        body=organization_routes.NewOrganizationBody,
        errors=(*_ADMIN, 409),
    ),
    "GET /api/v1/admin/organizations/{id}": returns("One organization", AdminOrganization, errors=_ADMIN),
    "PATCH /api/v1/admin/organizations/{id}": returns(
        "Change an organization, its plan and its limits",
        AdminOrganization,
        body=admin_routes.ChangeBody,
        errors=(*_ADMIN, 409),
    ),
    "DELETE /api/v1/admin/organizations/{id}": returns(
        "Delete an organization",
        Empty,
        status=204,
        query=[Query("hard_delete", Literal["true", "false"], "For good")],
        errors=(*_ADMIN, 409),
    ),
    "POST /api/v1/admin/organizations/{id}/api-keys": returns(
        "Create a key", account.ApiKeyCreated, status=201, body=api_key_routes.NewKeyBody, errors=_ADMIN
    ),
    "POST /api/v1/admin/organizations/{id}/reset-usage": returns(
        "Forget today's use", SuccessReply, errors=_ADMIN
    ),
    "GET /api/v1/admin/stats": returns("The server in numbers", dict[str, Any], errors=_ADMIN),
    "GET /api/v1/admin/plans": returns("Every plan", list[account.PlanLimits], errors=_ADMIN),
}
