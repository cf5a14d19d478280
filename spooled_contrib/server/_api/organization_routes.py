"""Organizations (contract section 8)."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._keys import new_api_key
from spooled_contrib.server._rules import organizations, quotas
from spooled_contrib.server._settings import Limits
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

UNLIMITED_RATE = 1_000_000
"""The usage report has no word for "no rate limit", so it gets a number that nobody reaches."""

WARN_FROM_PERCENT = 50.0
"""On the free tier a warning appears from half of a cap on."""


class NewOrganizationBody(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    slug: str
    billing_email: Annotated[str, Meta(max_length=255)] | None = None


_new = Decoder(NewOrganizationBody)


async def create_organization(call: Call) -> Reply:
    _check_registration(call)
    body = await call.json(_new)
    bodies.check_text(body.name, "name")
    organizations.check_slug(body.slug)
    email = body.billing_email
    bodies.check_text(email, "billing_email")
    if email is not None and not _looks_like_email(email):
        raise refuse.invalid("billing_email", "must be an e-mail address", code="format")
    key = new_api_key()
    webhook_token = "whk_" + base64.urlsafe_b64encode(secrets.token_bytes(24)).decode("ascii")
    organization, first_key = await call.write(
        lambda tx: organizations.create(tx, body.name, body.slug, email, key, webhook_token)
    )
    return json_reply(
        {
            "organization": _organization(organization),
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
    if call.services.registration_is_open:
        return
    wanted, sent = call.services.settings.admin_key, call.header(b"x-admin-key")
    if wanted is None or sent is None or not hmac.compare_digest(wanted.encode(), sent):
        raise refuse.access_denied("Registration is closed on this server; a valid X-Admin-Key is needed")


def _looks_like_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    return bool(local and at and domain) and not any(char.isspace() for char in text)


async def list_organizations(call: Call) -> Reply:
    row = await call.read(lambda tx: organizations.get(tx, call.principal.organization_id))
    found = _organization(row)
    return json_reply([{name: found[name] for name in ("id", "name", "slug", "plan_tier", "created_at")}])


async def get_organization(call: Call) -> Reply:
    if call.parameters[0] != call.principal.organization_id:
        raise refuse.not_found()
    return json_reply(
        _organization(await call.read(lambda tx: organizations.get(tx, call.principal.organization_id)))
    )


async def get_usage(call: Call) -> Reply:
    call.principal.require_unrestricted()
    counts = await call.read(lambda tx: organizations.usage(tx, call.principal.organization_id))
    return json_reply(
        usage_report(counts, call.services.settings.limits, call.services.settings.retention_days)
    )


def usage_report(counts: dict[str, int], limits: Limits, retention_days: float) -> dict[str, Any]:
    """What is used of each cap, and warnings for the ones that are close."""
    caps = {
        "jobs_today": limits.jobs_per_day,
        "active_jobs": limits.active_jobs,
        "queues": limits.queues,
        "workers": limits.workers,
        "api_keys": limits.api_keys,
        "schedules": limits.schedules,
        "workflows": limits.workflows,
        "webhooks": None,
    }
    usage = {name: _used(counts.get(name, 0), cap) for name, cap in caps.items()}
    warnings = [
        {
            "resource": name,
            "message": f"{used['current']} of {used['limit']} {name.replace('_', ' ')} are in use",
            "severity": "critical" if used["percentage"] >= 100.0 else "warning",
        }
        for name, used in usage.items()
        if used["percentage"] is not None and used["percentage"] >= WARN_FROM_PERCENT
    ]
    days = max(1, round(retention_days))
    return {
        "plan": quotas.PLAN,
        "plan_display_name": quotas.PLAN.title(),
        "limits": {
            "tier": quotas.PLAN,
            "display_name": quotas.PLAN.title(),
            "max_jobs_per_day": limits.jobs_per_day,
            "max_active_jobs": limits.active_jobs,
            "max_queues": limits.queues,
            "max_workers": limits.workers,
            "max_api_keys": limits.api_keys,
            "max_schedules": limits.schedules,
            "max_workflows": limits.workflows,
            "max_webhooks": None,
            "max_payload_size_bytes": limits.payload_bytes or bodies.MAX_PAYLOAD,
            "rate_limit_requests_per_second": round(limits.requests_per_second or UNLIMITED_RATE),
            "rate_limit_burst": limits.bucket or UNLIMITED_RATE,
            "job_retention_days": days,
            "history_retention_days": days,
        },
        "usage": usage,
        "warnings": warnings,
    }


def _used(current: int, limit: int | None) -> dict[str, Any]:
    percentage = None if not limit else round(100.0 * current / limit, 2)
    return {"current": current, "limit": limit, "percentage": percentage, "is_disabled": limit == 0}


def _organization(row: Row) -> dict[str, Any]:
    # The webhook token lives among the settings, but it is a secret.
    settings = {name: value for name, value in json.loads(row[5]).items() if name != "webhook_token"}
    return {
        "id": row[0],
        "name": row[1],
        "slug": row[2],
        "plan_tier": row[3],
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


ROUTES = [
    Route("POST", "/api/v1/organizations", create_organization, "public"),
    Route("GET", "/api/v1/organizations", list_organizations),
    Route("GET", "/api/v1/organizations/usage", get_usage),
    Route("GET", "/api/v1/organizations/{id}", get_organization),
]
