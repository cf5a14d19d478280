"""Which handler answers a path. A tree of segments: a lookup costs one dictionary access a segment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from spooled_contrib.server import _refusals as refuse

if TYPE_CHECKING:
    from spooled_contrib.server._api.call import Call
    from spooled_contrib.server._api.reply import Reply


class Talk(Protocol):
    """An answer that is not written all at once: a stream, or a WebSocket. An ASGI application."""

    status_code: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None: ...


Handler = Callable[["Call"], Awaitable["Reply | Talk"]]
Access = Literal["key", "jwt", "stream", "public", "admin", "open"]


class Route(Struct, frozen=True):
    """One call of the contract.

    `access` says what a caller must show: "key" an API key or access token, "jwt" an access token, "stream" the same
    as "key" but also as a query parameter, "admin" the server's admin key, "public" nothing. "open" is public too, and
    is not counted: a health check must not be refused because somebody else asks a lot.
    """

    method: str
    path: str
    handler: Handler
    access: Access = "key"


class _Node:
    __slots__ = ("literals", "methods", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Route] = {}


class Router:
    """Finds routes. A literal segment wins over a parameter."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    if node.parameter is None:
                        node.parameter = _Node()
                    node = node.parameter
                else:
                    node = node.literals.setdefault(segment, _Node())
            node.methods[route.method] = route

    def find(self, method: str, raw_path: bytes) -> tuple[Route, list[str]]:
        """Return the route and its path parameters.

        The path is split before it is decoded, so an encoded slash belongs to its segment.

        Raises:
            RefusalError: 404 for an unknown path, 405 for a known one with another method.
        """
        node = self._root
        parameters: list[str] = []
        for encoded in raw_path.split(b"/")[1:]:
            segment = _decode(encoded)
            child = node.literals.get(segment)
            if child is None:
                child = node.parameter
                # No id has a NUL character, and not every database can be asked for one.
                if child is None or not segment or "\0" in segment:
                    raise no_route()
                parameters.append(segment)
            node = child
        route = node.methods.get("GET" if method == "HEAD" else method)
        if route is None:
            if not node.methods:
                raise no_route()
            allowed = sorted({*node.methods, *(("HEAD",) if "GET" in node.methods else ())})
            raise refuse.RefusalError(
                405,
                "METHOD_NOT_ALLOWED",
                f"This path does not answer {method}; it answers {', '.join(allowed)}",
                headers={"allow": ", ".join(allowed)},
            )
        return route, parameters


def no_route() -> refuse.RefusalError:
    return refuse.RefusalError(404, "NOT_FOUND", "No route matches this path")


def _decode(segment: bytes) -> str:
    text = segment.decode("utf-8", "replace")
    return unquote(text, errors="replace") if "%" in text else text
