"""What an organization uses of its plan (contract sections 1.3 and 8)."""

from __future__ import annotations

from typing import Any

from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._plans import REPORTED
from spooled_contrib.server._rules import organizations

UNLIMITED_RATE = 1_000_000
"""The report has no word for "no rate limit", so it gets a number that nobody reaches."""

WARN_FROM_PERCENT = 80.0
WARN_FROM_PERCENT_ON_FREE = 50.0
"""From how much of a cap on a warning appears."""


async def get_usage(call: Call) -> Reply:
    call.principal.require_unrestricted()
    counts = await call.read(lambda tx: organizations.usage(tx, call.principal.organization_id))
    return json_reply(usage_report(counts, call.limits))


def usage_report(counts: dict[str, int], limits: Limits) -> dict[str, Any]:
    """Return what is used of each cap, and warnings for the ones that are close."""
    caps = {
        "jobs_today": limits.jobs_per_day,
        "active_jobs": limits.active_jobs,
        "queues": limits.queues,
        "workers": limits.workers,
        "api_keys": limits.api_keys,
        "schedules": limits.schedules,
        "workflows": limits.workflows,
        "webhooks": limits.webhooks,
    }
    warn_from = WARN_FROM_PERCENT_ON_FREE if limits.tier == "free" else WARN_FROM_PERCENT
    usage = {name: _used(counts.get(name, 0), cap) for name, cap in caps.items()}
    warnings = [
        {
            "resource": name,
            "message": f"{used['current']} of {used['limit']} {name.replace('_', ' ')} are in use",
            "severity": "critical" if used["percentage"] >= 100.0 else "warning",
        }
        for name, used in usage.items()
        if used["percentage"] is not None and used["percentage"] >= warn_from
    ]
    return {
        "plan": limits.tier,
        "plan_display_name": limits.tier.title(),
        "limits": limits_object(limits),
        "usage": usage,
        "warnings": warnings,
    }


def limits_object(limits: Limits) -> dict[str, Any]:
    """Return a plan's limits under the API's names. None is unlimited."""
    found = {name: getattr(limits, field) for name, field in REPORTED.items()}
    return {
        "tier": limits.tier,
        "display_name": limits.tier.title(),
        **found,
        "max_payload_size_bytes": (
            bodies.MAX_PAYLOAD if limits.payload_bytes is None else limits.payload_bytes
        ),
        "rate_limit_requests_per_second": round(limits.requests_per_second or UNLIMITED_RATE),
        "rate_limit_burst": limits.bucket or UNLIMITED_RATE,
        "job_retention_days": max(1, round(limits.job_days)),
        "history_retention_days": max(1, round(limits.history_days)),
    }


def _used(current: int, limit: int | None) -> dict[str, Any]:
    percentage = None if not limit else round(100.0 * current / limit, 2)
    return {"current": current, "limit": limit, "percentage": percentage, "is_disabled": limit == 0}


ROUTES = [Route("GET", "/api/v1/organizations/usage", get_usage)]
