"""Running the server: every organization, by the admin key (contract section 11)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.api_key_routes import create_key_for
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.organization_routes import (
    Email,
    Name,
    NewOrganizationBody,
    check_email,
    create,
    organization_object,
)
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._api.usage_routes import limits_object
from spooled_contrib.server._plans import PLANS, REPORTED
from spooled_contrib.server._rules import administration, organizations
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

API_VERSION = "1"


PlanName = Literal["free", "starter", "pro", "enterprise"]

_MOST = 2**53 - 1
"""The largest number that every reader of JSON keeps as it is."""
CustomLimits = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "properties": {
                name: {
                    "type": ["integer", "null"],
                    "minimum": int(not name.startswith("max_")),
                    "maximum": _MOST,
                }
                for name in REPORTED
            },
            "additionalProperties": False,
        }
    ),
]


class NewBody(NewOrganizationBody):
    plan_tier: PlanName | None = None


class ChangeBody(Struct):
    name: Name | None = None
    billing_email: Email | None = None
    plan_tier: PlanName | UnsetType | None = UNSET
    custom_limits: CustomLimits | UnsetType | None = UNSET


_new = Decoder(NewBody)
_change = Decoder(ChangeBody)


async def list_organizations(call: Call) -> Reply:
    limit, offset = call.integer("limit", 50, 1, 100), call.integer("offset", 0, 0, 2**31)
    wanted = administration.OrganizationFilter(
        search=call.text("search", 100),
        sort_by=_choice(call, "sort_by", administration.ORDERS, "created_at"),
        descending=_choice(call, "sort_order", {"asc", "desc"}, "desc") == "desc",
        limit=limit,
        offset=offset,
    )
    rows, total = await call.read(lambda tx: administration.list_organizations(tx, wanted))
    found = [_organization(call, row) for row in rows]
    return json_reply({"organizations": found, "total": total, "limit": limit, "offset": offset})


def _choice(call: Call, name: str, choices: set[str] | frozenset[str], default: str) -> str:
    value = call.text(name, 50) or default
    if value not in choices:
        raise refuse.bad_request(f"{name} must be one of {', '.join(sorted(choices))}")
    return value


async def create_organization(call: Call) -> Reply:
    body = await call.json(_new)
    return await create(call, body, body.plan_tier)


async def get_organization(call: Call) -> Reply:
    organization_id = call.parameters[0]
    return json_reply(
        _organization(call, await call.read(lambda tx: administration.get(tx, organization_id)))
    )


async def change_organization(call: Call) -> Reply:
    organization_id = call.parameters[0]
    body = await call.json(_change)
    bodies.check_text(body.name, "name")
    check_email(body.billing_email)
    if isinstance(body.custom_limits, dict):
        _check_limits(body.custom_limits)
    change = administration.Change(
        name=body.name,
        billing_email=body.billing_email,
        plan=body.plan_tier,
        custom_limits=body.custom_limits,
    )
    row = await call.write(lambda tx: administration.change(tx, organization_id, change))
    call.services.plans.set(organization_id, row[8], _limits(row))
    return json_reply(_organization(call, row))


def _check_limits(limits: dict[str, Any]) -> None:
    for name, value in limits.items():
        if name not in REPORTED:
            raise refuse.invalid(f"custom_limits.{name}", f"must be one of {', '.join(sorted(REPORTED))}")
        least = 0 if name.startswith("max_") else 1
        if value is not None and (type(value) is not int or not least <= value <= _MOST):
            raise refuse.invalid(f"custom_limits.{name}", f"must be null or an integer from {least} on")


async def delete_organization(call: Call) -> Reply:
    organization_id = call.parameters[0]
    flag = call.query.get("hard_delete") or "false"
    if flag not in ("true", "false"):
        raise refuse.invalid("hard_delete", "must be true or false", code="format")
    rule = administration.delete_for_good if flag == "true" else organizations.delete
    await call.write(lambda tx: rule(tx, organization_id))
    call.services.plans.set(organization_id, None, None)
    return Reply(NO_CONTENT)


async def create_api_key(call: Call) -> Reply:
    organization_id = call.parameters[0]
    await call.read(lambda tx: organizations.get(tx, organization_id))
    return await create_key_for(call, organization_id)


async def reset_usage(call: Call) -> Reply:
    organization_id = call.parameters[0]
    await call.write(lambda tx: administration.reset_usage(tx, organization_id))
    return json_reply({"success": True})


async def stats(call: Call) -> Reply:
    found = await call.read(administration.stats)
    ids = await call.read(administration.organization_ids)
    tiers = Counter(call.services.limits_of(organization_id).tier for organization_id in ids)
    found["organizations"]["by_plan"] = [
        {"plan": tier, "count": count} for tier, count in sorted(tiers.items())
    ]
    uptime = call.services.uptime_seconds
    return json_reply({**found, "system": {"api_version": API_VERSION, "uptime_seconds": uptime}})


async def list_plans(_: Call) -> Reply:
    return json_reply([limits_object(limits) for limits in PLANS.values()])


def _limits(row: Row) -> dict[str, Any] | None:
    return None if row[9] is None else json.loads(row[9])


def _organization(call: Call, row: Row) -> dict[str, Any]:
    """`row` is `administration.COLUMNS`."""
    return {
        **organization_object(row, call.services.limits_of(row[0]).tier),
        "custom_limits": _limits(row),
        "deleted_at": moment(row[10]),
    }


ROUTES = [
    Route("GET", "/api/v1/admin/organizations", list_organizations, "admin"),
    Route("POST", "/api/v1/admin/organizations", create_organization, "admin"),
    Route("GET", "/api/v1/admin/organizations/{id}", get_organization, "admin"),
    Route("PATCH", "/api/v1/admin/organizations/{id}", change_organization, "admin"),
    Route("DELETE", "/api/v1/admin/organizations/{id}", delete_organization, "admin"),
    Route("POST", "/api/v1/admin/organizations/{id}/api-keys", create_api_key, "admin"),
    Route("POST", "/api/v1/admin/organizations/{id}/reset-usage", reset_usage, "admin"),
    Route("GET", "/api/v1/admin/stats", stats, "admin"),
    Route("GET", "/api/v1/admin/plans", list_plans, "admin"),
]
