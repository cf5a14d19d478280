"""The ASGI application: find the route, let the caller in, run the handler, answer in JSON whatever happens.

It is plain ASGI without a middleware stack: every layer around a handler costs each request, and the few things that
all responses share are done here in one place. A handler may return a `Talk`, which does the sending itself; streams
and the WebSocket do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import failures
from spooled_contrib.server._api.admin_key import require_admin_key
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.hosts import Hosts, require_own_page
from spooled_contrib.server._api.page_routes import ROUTES as PAGE_ROUTES
from spooled_contrib.server._api.page_session import bearer_of_cookie
from spooled_contrib.server._api.reply import Header, Reply, refusal_reply
from spooled_contrib.server._api.routing import Route, Router, Talk
from spooled_contrib.server._api.services import Services
from spooled_contrib.server._ids import new_id
from spooled_contrib.server._rate import ADMIN_PER_MINUTE, MINUTE, RateState
from spooled_contrib.server._settings import ServerSettings

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}")
_RATE_HEADERS = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"x-ratelimit-scope")
_API_VERSION: Header = (b"x-api-version", b"1")


class SpooledApp:
    """Serves the routes it is given, and the page unless it is switched off."""

    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._services = services
        self._hosts = Hosts(services.settings)
        self._router = Router([*routes, *(PAGE_ROUTES if services.settings.page else ())])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if scope["type"] == "websocket":
            # A handshake is a GET request like any other, until somebody accepts it.
            scope = {**scope, "method": "GET"}
            send = _refusing_handshakes(send)
        headers: list[Header] = []
        raw_path: bytes = scope["raw_path"]
        if raw_path.startswith(b"/api/v1"):
            headers.append(_API_VERSION)
        try:
            response = await self._answer(scope, receive, raw_path, headers)
        except Exception as error:
            what = f"{scope['method']} {raw_path!r}"
            response = refusal_reply(failures.refusal_of(self._services.health, error, what))
        status = response.status if isinstance(response, Reply) else response.status_code
        if isinstance(response, Reply):
            await _send(response, headers, scope, send)
        elif scope["method"] == "HEAD":
            # A stream has no end that a HEAD could wait for.
            await _send(Reply(status), headers, scope, send)
        else:
            self._count(scope, status, started)
            await response(scope, receive, _with_headers(send, headers))
            return
        self._count(scope, status, started)

    def _count(self, scope: Scope, status: int, started: float) -> None:
        # A stream counts when it begins: how long somebody listens says nothing about the server.
        self._services.metrics.answered(scope["method"], status, time.perf_counter() - started)

    async def _answer(
        self, scope: Scope, receive: Receive, raw_path: bytes, headers: list[Header]
    ) -> Reply | Talk:
        request_id = api_version = authorization = host = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                # Of two, a proxy in front may have checked the other one.
                authorization = value if authorization is None else b""
            elif name == b"x-request-id":
                request_id = value
            elif name == b"x-api-version":
                api_version = value
            elif name == b"host":
                host = value
        if request_id is None or not _REQUEST_ID.fullmatch(request_id):
            request_id = new_id().encode()
        headers.append((b"x-request-id", request_id))
        if host is not None and self._hosts.checks:
            self._hosts.check(host)
        route, parameters = self._router.find(scope["method"], raw_path)
        if api_version is not None and api_version != b"1" and api_version.isdigit():
            raise refuse.bad_request(
                f"API version {api_version.decode()} is not supported; send 1 or no version"
            )
        call = Call(self._services, scope, receive, parameters)
        rate = await self._admit(call, route, authorization)
        if rate is not None:
            headers += _rate_headers(rate)
        return await route.handler(call)

    async def _admit(self, call: Call, route: Route, authorization: bytes | None) -> RateState | None:
        gate = self._services.gate
        if route.access == "open":
            return None
        if route.access == "public":
            return gate.limiter.check_address(call.address)
        if route.access == "admin":
            gate.limiter.check_window("admin", call.address, ADMIN_PER_MINUTE, MINUTE)
            require_admin_key(call)
            return None
        self._services.health.require_usable()
        bearer = _bearer(call, route, authorization)
        if route.access == "jwt" and not bearer.startswith("eyJ"):
            raise refuse.unauthorized("This call needs an access token from /auth/login, not an API key")
        key = await gate.authenticate(bearer)
        call.principal = key.principal
        call.bearer = bearer
        rate = gate.limiter.check_organization(key.principal.organization_id, call.limits)
        if key.rate_limit is not None:
            gate.limiter.check_key(key.id, key.rate_limit)
        return rate


def for_browsers(app: ASGIApp, settings: ServerSettings) -> ASGIApp:
    """Let pages of the sites that the settings allow read answers (CORS)."""
    if not settings.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST", "PUT", "DELETE"),
        allow_headers=("authorization", "content-type", "x-admin-key", "x-api-version", "x-request-id"),
        expose_headers=(
            "retry-after",
            "x-has-more",
            "x-request-id",
            *(name.decode() for name in _RATE_HEADERS),
        ),
    )


def _bearer(call: Call, route: Route, authorization: bytes | None) -> str:
    if authorization is not None:
        if not authorization.startswith(b"Bearer "):
            raise refuse.unauthorized("The Authorization header must read: Bearer <API key or access token>")
        return authorization[7:].decode("latin-1")
    if route.access == "stream":
        for name, value in call.query.items():
            if name in ("token", "api_key"):
                require_own_page(call)
                return value
    token = bearer_of_cookie(call)
    if token is not None:
        return token
    raise refuse.unauthorized("Send the header Authorization: Bearer <API key or access token>")


def _rate_headers(rate: RateState) -> list[Header]:
    values = (str(rate.limit), str(rate.remaining), str(rate.reset_at), rate.scope)
    return [(name, value.encode()) for name, value in zip(_RATE_HEADERS, values, strict=True)]


async def _send(reply: Reply, headers: list[Header], scope: Scope, send: Send) -> None:
    body = reply.body
    headers += reply.headers
    if reply.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _with_headers(send: Send, headers: list[Header]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            message["headers"] = [*headers, *message.get("headers", [])]
        await send(message)

    return sending


def _refusing_handshakes(send: Send) -> Send:
    """Sends a response of HTTP to a handshake: nothing is upgraded then, and the client reads why."""

    async def sending(message: Message) -> None:
        if message["type"].startswith("http."):
            message["type"] = f"websocket.{message['type']}"
        await send(message)

    return sending
