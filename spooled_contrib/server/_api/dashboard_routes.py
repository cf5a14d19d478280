"""The dashboard and what there is of billing (contract section 11)."""

from __future__ import annotations

from msgspec import Struct
from msgspec.json import Decoder

from spooled import __version__
from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import dashboard
from spooled_contrib.server._times import SECOND, moment


class PortalBody(Struct):
    return_url: str


_portal = Decoder(PortalBody)


async def get_dashboard(call: Call) -> Reply:
    principal, services = call.principal, call.services
    numbers = await call.read(lambda tx: dashboard.numbers(tx, principal))
    uptime = services.uptime_seconds
    system = {
        "version": __version__,
        "uptime_seconds": uptime,
        "started_at": moment(services.now - uptime * SECOND),
        "database_status": "healthy",
        "cache_status": "healthy",
        "environment": "development",
    }
    return json_reply({"system": system, **numbers})


async def billing_status(call: Call) -> Reply:
    return json_reply(
        {
            "plan_tier": call.limits.tier,
            "stripe_subscription_id": None,
            "stripe_subscription_status": None,
            "stripe_current_period_end": None,
            "stripe_cancel_at_period_end": None,
            "has_stripe_customer": False,
        }
    )


async def billing_portal(call: Call) -> Reply:
    call.principal.require_unrestricted()
    await call.json(_portal)
    raise refuse.bad_request("The organization has no billing account: this server charges nobody")


ROUTES = [
    Route("GET", "/api/v1/dashboard", get_dashboard),
    Route("GET", "/api/v1/billing/status", billing_status),
    Route("POST", "/api/v1/billing/portal", billing_portal),
]
