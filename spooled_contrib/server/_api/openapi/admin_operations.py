"""The dashboard, billing and administration in words and types (contract section 11)."""

from __future__ import annotations

from typing import Final, Literal

from spooled_contrib.server._api import admin_routes, api_key_routes, dashboard_routes
from spooled_contrib.server._api.openapi import account_replies as account
from spooled_contrib.server._api.openapi import admin_replies as replies
from spooled_contrib.server._api.openapi.operation import Empty, Link, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import BOOLEAN, ORDER_DIR, ShortText, page
from spooled_contrib.server._api.openapi.replies import SuccessReply

_ID: Final = {"id": "$response.body#/organization/id"}

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/dashboard": returns("What goes on, in numbers", replies.Dashboard),
    "GET /api/v1/billing/status": returns("What is paid for", replies.BillingStatus),
    "POST /api/v1/billing/portal": Operation(
        about="Always refused: this server charges nobody",
        replies={},
        body=dashboard_routes.PortalBody,
        errors=(403,),
    ),
    "GET /api/v1/admin/organizations": returns(
        "List every organization that is not deleted",
        replies.OrganizationPage,
        query=(
            Query("search", ShortText, "Part of a name or slug; case does not matter"),
            Query(
                "sort_by",
                Literal["created_at", "updated_at", "name", "slug"],
                "created_at unless told; another one is refused",
            ),
            Query("sort_order", ORDER_DIR, "desc unless told"),
            *page(),
        ),
    ),
    "POST /api/v1/admin/organizations": returns(
        "Create an organization, on a plan if one is given, and its first API key",
        account.OrganizationCreated,
        status=201,
        body=admin_routes.NewBody,
        errors=(409,),
        links={
            "get": Link("GET /api/v1/admin/organizations/{id}", _ID),
            "change": Link("PATCH /api/v1/admin/organizations/{id}", _ID),
            "key": Link("POST /api/v1/admin/organizations/{id}/api-keys", _ID),
            "reset": Link("POST /api/v1/admin/organizations/{id}/reset-usage", _ID),
            "delete": Link("DELETE /api/v1/admin/organizations/{id}", _ID),
        },
    ),
    "GET /api/v1/admin/organizations/{id}": returns(
        "One organization, also a deleted one", replies.AnyOrganization
    ),
    "PATCH /api/v1/admin/organizations/{id}": returns(
        "Change an organization; a null plan or null limits take its own away",
        replies.AnyOrganization,
        body=admin_routes.ChangeBody,
        errors=(409,),
    ),
    "DELETE /api/v1/admin/organizations/{id}": returns(
        "Close an organization, or delete it for good with everything that is its own",
        Empty,
        status=204,
        query=[Query("hard_delete", BOOLEAN, "false unless told")],
        errors=(409,),
    ),
    "POST /api/v1/admin/organizations/{id}/api-keys": returns(
        "Create an API key for an organization; it is shown this once",
        account.ApiKeyCreated,
        status=201,
        body=api_key_routes.NewKeyBody,
    ),
    "POST /api/v1/admin/organizations/{id}/reset-usage": returns(
        "Start an organization's daily count of jobs again", SuccessReply
    ),
    "GET /api/v1/admin/stats": returns("The whole server in numbers", replies.ServerStats),
    "GET /api/v1/admin/plans": returns("The plans and their limits", list[account.PlanLimits]),
}
