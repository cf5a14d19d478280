"""Logins: exchanging an API key for tokens (contract section 8)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.bodies import decode
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._keys import key_hash
from spooled_contrib.server._rate import LOGINS_PER_MINUTE, MINUTE
from spooled_contrib.server._rules import organizations
from spooled_contrib.server._sessions import ACCESS_SECONDS, REFRESH_SECONDS, Claims
from spooled_contrib.server._times import SECOND, moment

Credential = Annotated[str, Meta(min_length=10)]


class LoginBody(Struct):
    api_key: Credential


class RefreshBody(Struct):
    refresh_token: Credential


class LogoutBody(Struct):
    refresh_token: str | None = None


class ValidateBody(Struct):
    token: str


_login = Decoder(LoginBody)
_refresh = Decoder(RefreshBody)
_logout = Decoder(LogoutBody)
_validate = Decoder(ValidateBody)


async def login(call: Call) -> Reply:
    body = await call.json(_login)
    if body.api_key.startswith("eyJ"):
        raise refuse.unauthorized("Log in with an API key, not with a token")
    gate = call.services.gate
    gate.limiter.check_window("login", key_hash(body.api_key), LOGINS_PER_MINUTE, MINUTE)
    key = await gate.authenticate(body.api_key)
    sid = str(uuid.uuid4())
    return json_reply(
        {
            "access_token": gate.mint(key, "access", sid),
            "refresh_token": gate.mint(key, "refresh", sid),
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
            "refresh_expires_in": REFRESH_SECONDS,
        }
    )


async def refresh(call: Call) -> Reply:
    body = await call.json(_refresh)
    gate = call.services.gate
    claims = gate.claims(body.refresh_token)
    if claims.token_type != "refresh":  # noqa: S105
        raise refuse.unauthorized("An access token cannot be refreshed; send the refresh token")
    key = await gate.key_of(claims)
    return json_reply(
        {
            "access_token": gate.mint(key, "access", claims.sid),
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
        }
    )


async def logout(call: Call) -> Reply:
    """Ends the whole login, refresh token included; a refresh token in the body ends its login too."""
    body = await call.body()
    refresh_token = decode(_logout, body).refresh_token if body else None
    gate = call.services.gate
    claims = gate.claims(call.bearer)
    await gate.revoke_session(claims)
    if refresh_token is not None:
        try:
            other = gate.claims(refresh_token)
        except refuse.RefusalError:
            other = claims
        if other.sid != claims.sid and other.org_id == claims.org_id:
            await gate.revoke_session(other)
    return Reply(NO_CONTENT)


async def me(call: Call) -> Reply:
    claims = call.services.gate.claims(call.bearer)
    key = await call.services.gate.key_of(claims)
    row = await call.read(lambda tx: organizations.get(tx, claims.org_id))
    return json_reply(
        {
            "organization_id": claims.org_id,
            "api_key_id": claims.api_key_id,
            "queues": key.queues,
            "issued_at": moment(claims.iat * SECOND),
            "expires_at": moment(claims.exp * SECOND),
            "organization": {
                "id": row[0],
                "name": row[1],
                "slug": row[2],
                "plan_tier": call.limits.tier,
                "billing_email": row[4],
            },
        }
    )


async def validate(call: Call) -> Reply:
    body = await call.json(_validate)
    gate = call.services.gate
    try:
        claims: Claims = gate.claims(body.token)
        await gate.key_of(claims)
    except refuse.RefusalError as refusal:
        return json_reply({"valid": False, "error": refusal.message})
    return json_reply({"valid": True, "claims": _claims(claims)})


def _claims(claims: Claims) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(claims)
    # Not in the contract, and of no use to the client.
    del found["bound"]
    return found


ROUTES = [
    Route("POST", "/api/v1/auth/login", login, "public"),
    Route("POST", "/api/v1/auth/refresh", refresh, "public"),
    Route("POST", "/api/v1/auth/logout", logout, "jwt"),
    Route("GET", "/api/v1/auth/me", me, "jwt"),
    Route("POST", "/api/v1/auth/validate", validate, "public"),
]
