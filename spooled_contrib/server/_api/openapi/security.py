"""What callers must show, and how they are refused, by kind of access."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api.openapi.operation import Operation
from spooled_contrib.server._api.routing import Route

_SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    "key": [{"bearer": []}],
    "jwt": [{"bearer": []}],
    "stream": [{"bearer": []}, {"token": []}, {"apiKey": []}],
    "public": [],
    "open": [],
    "admin": [{"adminKey": []}],
}

ERRORS: Final[dict[str, tuple[int, ...]]] = {
    "key": (401, 429),
    "jwt": (401, 429),
    "stream": (401, 429),
    "public": (429,),
    "open": (),
    "admin": (401, 403, 429),
}
"""How each kind of access is refused. What is open is not even counted."""

SCHEMES: Final[dict[str, dict[str, str]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or an access token from /api/v1/auth/login",
    },
    "token": {"type": "apiKey", "in": "query", "name": "token", "description": "The same, for streams only"},
    "apiKey": {"type": "apiKey", "in": "query", "name": "api_key", "description": "Another name of `token`"},
    "adminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Admin-Key",
        "description": "The key of those who run the server",
    },
    "webhookToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Webhook-Token",
        "description": "The organization's token from /api/v1/organizations/webhook-token",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "Only on a server that was started with a metrics token",
    },
}


def security_of(route: Route, operation: Operation) -> list[dict[str, list[str]]]:
    """Return what a caller must show for a route: one of these. An empty one means nothing at all."""
    if operation.security:
        return [{name: []} for name in operation.security]
    if operation.extra_security:
        either: list[dict[str, list[str]]] = [{name: []} for name in operation.extra_security]
        return [{}, *either]
    return _SECURITY[route.access]
