"""Logins by e-mail (contract section 8). This server sends no mail, so they are closed."""

from __future__ import annotations

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.organization_routes import check_email
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import organizations


async def check_address(call: Call) -> Reply:
    email = call.text("email", 255)
    if email is None:
        raise refuse.invalid("email", "is required", code="missing_field")
    check_email(email, "email")
    known = await call.read(lambda tx: organizations.email_is_known(tx, email))
    return json_reply(
        {"exists": known, "available": not known, "signup_enabled": False, "has_organizations": known}
    )


async def closed(_: Call) -> Reply:
    raise refuse.access_denied("This server sends no e-mail; log in with an API key at /auth/login")


ROUTES = [
    Route("GET", "/api/v1/auth/check-email", check_address, "public"),
    Route("POST", "/api/v1/auth/email/start", closed, "public"),
    Route("POST", "/api/v1/auth/email/verify", closed, "public"),
    Route("POST", "/api/v1/auth/signup/complete", closed, "public"),
]
