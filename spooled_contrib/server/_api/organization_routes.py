"""Organizations (contract section 8)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.admin_key import admin_key_matches
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._keys import new_api_key, new_webhook_token
from spooled_contrib.server._rate import HOUR, MINUTE, SLUG_CHECKS_PER_HOUR, SLUG_CHECKS_PER_MINUTE
from spooled_contrib.server._rules import organizations
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

_EMAIL = {"pattern": r"^[^\s\u0000-\u001f\u0085]+@[^@\s\u0000-\u001f\u0085]+$"}

Name = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=bodies.NO_NUL)]
Email = Annotated[str, Meta(max_length=255, extra_json_schema=_EMAIL)]


Slug = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 100,
            "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        }
    ),
]


class NewOrganizationBody(Struct):
    name: Name
    slug: Slug
    billing_email: Email | None = None


class ChangeBody(Struct):
    name: Name | None = None
    billing_email: Email | None = None
    settings: bodies.ObjectMember = bodies.NULL


class NameBody(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=200)]


_new = Decoder(NewOrganizationBody)
_change = Decoder(ChangeBody)
_name = Decoder(NameBody)


async def create_organization(call: Call) -> Reply:
    _check_registration(call)
    return await create(call, await call.json(_new))


async def create(call: Call, body: NewOrganizationBody, plan: str | None = None) -> Reply:
    """Make the organization that the body asks for, and its first key. Who asks was checked.

    Args:
        plan: The plan to put it on, instead of the server's.
    """
    bodies.check_text(body.name, "name")
    organizations.check_slug(body.slug)
    email = body.billing_email
    check_email(email)
    key = new_api_key()
    organization, first_key = await call.write(
        lambda tx: organizations.create(tx, body.name, body.slug, email, key, new_webhook_token(), plan)
    )
    if plan is not None:
        call.services.plans.set(organization[0], plan, None)
    return json_reply(
        {
            "organization": _shown(call, organization),
            "api_key": {
                "id": first_key[0],
                "key": key,
                "name": first_key[2],
                "created_at": moment(first_key[8]),
            },
        },
        201,
    )


def _check_registration(call: Call) -> None:
    if not call.services.settings.open_registration and not admin_key_matches(call):
        raise refuse.access_denied("Registration is closed on this server; a valid X-Admin-Key is needed")


def check_email(email: str | None, field: str = "billing_email") -> None:
    """Refuse what cannot be an e-mail address. None is none."""
    if email is None:
        return
    bodies.check_text(email, field)
    local, at, domain = email.rpartition("@")
    if not (local and at and domain) or any(char.isspace() for char in email):
        raise refuse.invalid(field, "must be an e-mail address", code="format")


def _shown(call: Call, row: Row) -> dict[str, Any]:
    plans = call.services.plans
    return {**organization_object(row, plans.of(row[0]).tier), "custom_limits": plans.custom.get(row[0])}


async def list_organizations(call: Call) -> Reply:
    row = await call.read(lambda tx: organizations.get(tx, call.principal.organization_id))
    found = _shown(call, row)
    return json_reply([{name: found[name] for name in ("id", "name", "slug", "plan_tier", "created_at")}])


async def get_organization(call: Call) -> Reply:
    if call.parameters[0] != call.principal.organization_id:
        raise refuse.not_found()
    row = await call.read(lambda tx: organizations.get(tx, call.principal.organization_id))
    return json_reply(_shown(call, row))


def organization_object(row: Row, tier: str) -> dict[str, Any]:
    """Return an organization as responses show it.

    Args:
        row: `organizations.COLUMNS`.
        tier: The plan that it is on.
    """
    # The webhook token lives among the settings, but it is a secret.
    settings = {name: value for name, value in json.loads(row[5]).items() if name != "webhook_token"}
    return {
        "id": row[0],
        "name": row[1],
        "slug": row[2],
        "plan_tier": tier,
        "billing_email": row[4],
        "settings": settings,
        "custom_limits": None,
        "stripe_customer_id": None,
        "stripe_subscription_id": None,
        "stripe_subscription_status": None,
        "stripe_current_period_end": None,
        "stripe_cancel_at_period_end": None,
        "created_at": moment(row[6]),
        "updated_at": moment(row[7]),
    }


async def change_organization(call: Call) -> Reply:
    organization_id = _own(call)
    body = await call.json(_change)
    bodies.check_text(body.name, "name")
    check_email(body.billing_email)
    found = bodies.json_text(body.settings, "settings", bodies.MAX_JSON_MEMBER)
    settings = None if found is None else found[1]
    if settings is not None and not isinstance(settings, dict):
        raise refuse.invalid("settings", "must be an object")
    row = await call.write(
        lambda tx: organizations.change(tx, organization_id, body.name, body.billing_email, settings)
    )
    return json_reply(_shown(call, row))


async def delete_organization(call: Call) -> Reply:
    organization_id = _own(call)
    await call.write(lambda tx: organizations.delete(tx, organization_id))
    return Reply(NO_CONTENT)


async def list_members(call: Call) -> Reply:
    """This server knows keys, not persons, so nobody is a member."""
    organization_id = _own(call)
    await call.read(lambda tx: organizations.get(tx, organization_id))
    return json_reply([])


def _own(call: Call) -> str:
    """Return the organization in the path, when it is the caller's and the key may administer it."""
    call.principal.require_unrestricted()
    if call.parameters[0] != call.principal.organization_id:
        raise refuse.not_found()
    return call.principal.organization_id


async def check_slug(call: Call) -> Reply:
    limiter = call.services.gate.limiter
    limiter.check_window("slug-minute", call.address, SLUG_CHECKS_PER_MINUTE, MINUTE)
    limiter.check_window("slug-hour", call.address, SLUG_CHECKS_PER_HOUR, HOUR)
    slug = call.query.get("slug", "")
    try:
        organizations.check_slug(slug)
    except refuse.RefusalError as refusal:
        return json_reply({"available": False, "valid": False, "error": refusal.message})
    suggestion = await call.read(lambda tx: organizations.free_slug(tx, slug))
    if suggestion == slug:
        return json_reply({"available": True, "valid": True})
    return json_reply(
        {"available": False, "valid": True, "error": "The slug is taken", "suggestion": suggestion}
    )


async def generate_slug(call: Call) -> Reply:
    body = await call.json(_name)
    slug = organizations.slug_of(body.name)
    return json_reply({"slug": await call.read(lambda tx: organizations.free_slug(tx, slug))})


ROUTES = [
    Route("POST", "/api/v1/organizations", create_organization, "public"),
    Route("GET", "/api/v1/organizations", list_organizations),
    Route("GET", "/api/v1/organizations/check-slug", check_slug, "public"),
    Route("POST", "/api/v1/organizations/generate-slug", generate_slug, "public"),
    Route("GET", "/api/v1/organizations/{id}", get_organization),
    Route("PUT", "/api/v1/organizations/{id}", change_organization),
    Route("DELETE", "/api/v1/organizations/{id}", delete_organization),
    Route("GET", "/api/v1/organizations/{id}/members", list_members),
]
