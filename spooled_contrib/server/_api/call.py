"""One request on its way through the server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Message, Receive, Scope

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.bodies import MAX_BODY, decode
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import micros

if TYPE_CHECKING:
    from spooled_contrib.server._api.services import Services

T = TypeVar("T")

BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send its body."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_JSON_TYPE = re.compile(rb"application/(json|[^;]*\+json)\s*(;|$)", re.IGNORECASE)


class Call:
    """What a handler gets: the caller, the path parameters, and lazily the query and the body.

    `principal` and `bearer` are set for every route that is not public.
    """

    __slots__ = ("_query", "_receive", "bearer", "headers", "parameters", "principal", "scope", "services")

    def __init__(self, services: Services, scope: Scope, receive: Receive, parameters: list[str]) -> None:
        self.services = services
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.parameters = parameters
        self.principal: Principal = _NOBODY
        self.bearer = ""
        self._receive = receive
        self._query: dict[str, str] | None = None

    @property
    def address(self) -> str:
        """The network address of whoever is connected. Behind a proxy that is the proxy."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def limits(self) -> Limits:
        """What the caller's organization may use."""
        return self.services.plans.of(self.principal.organization_id)

    async def write(self, operation: Callable[[Tx], T]) -> T:
        return await self.services.storage.write(operation)

    async def read(self, operation: Callable[[Tx], T]) -> T:
        return await self.services.storage.read(operation)

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of that (lower-case) name."""
        for header, value in self.headers:
            if header == name:
                return value
        return None

    @property
    def query(self) -> dict[str, str]:
        """Query parameters, decoded. Of a repeated one the first counts."""
        if self._query is None:
            self._query = {}
            raw = self.scope["query_string"]
            if raw:
                try:
                    pairs = parse_qsl(
                        raw.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=200
                    )
                except ValueError:
                    raise refuse.bad_request("The query has more than 200 parameters") from None
                for name, value in pairs:
                    self._query.setdefault(name, value)
        return self._query

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """Return a query parameter as an integer, moved into its range."""
        text = self.query.get(name)
        if text is None or text == "":
            return default
        if not _INTEGER.fullmatch(text):
            raise refuse.invalid(name, "must be an integer", code="format")
        return max(least, min(most, int(text)))

    def text(self, name: str, longest: int) -> str | None:
        """Return a query parameter as text; None when absent or empty."""
        value = self.query.get(name)
        if not value:
            return None
        if len(value) > longest:
            raise refuse.invalid(name, f"must have at most {longest} characters", code="length")
        if "\0" in value:
            raise refuse.invalid(name, "must not contain a NUL character", code="format")
        return value

    def time(self, name: str) -> int | None:
        """Return a query parameter as a time, in microseconds since the epoch; None when absent or empty."""
        text = self.text(name, 1024)
        if text is None:
            return None
        try:
            # A client that forgets to encode its "+" sends a space.
            time = datetime.fromisoformat(text.replace(" ", "+"))
        except ValueError:
            time = None
        value = None if time is None or time.tzinfo is None else micros(time)
        if value is None:
            raise refuse.invalid(name, "must be an RFC 3339 time with an offset", code="format")
        return value

    @property
    def has_json_type(self) -> bool:
        """The request says that its body is JSON."""
        content_type = self.header(b"content-type")
        return content_type == b"application/json" or (
            content_type is not None and _JSON_TYPE.match(content_type) is not None
        )

    async def json(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body, decoded and checked. A wrong content type, too much or no JSON are one answer: `INVALID_JSON`."""
        if not self.has_json_type:
            raise refuse.invalid_json("send the header Content-Type: application/json")
        body = await self.body()
        if body is None:
            raise refuse.invalid_json(f"the request body has more than {MAX_BODY} bytes")
        return decode(decoder, body)

    async def strict_json(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Like `json`, for the endpoints that tell the causes apart with 415 and 413."""
        if not self.has_json_type:
            raise refuse.RefusalError(
                415, "UNSUPPORTED_MEDIA_TYPE", "Send the header Content-Type: application/json"
            )
        body = await self.body()
        if body is None:
            raise refuse.RefusalError(
                413, "PAYLOAD_TOO_LARGE", f"The request body has more than {MAX_BODY} bytes"
            )
        return decode(decoder, body)

    async def body(self) -> bytes | None:
        """Return the whole body; None when it is larger than `MAX_BODY`. One that says so is not waited for."""
        length = self.header(b"content-length")
        if length is not None and int(length) > MAX_BODY:
            return None
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                message = await self._receive()
                # Nearly every body comes in one piece.
                if message["type"] == "http.request" and not message.get("more_body", False):
                    whole: bytes = message.get("body", b"")
                    return whole if len(whole) <= MAX_BODY else None
                return await self._rest_of_body(message)
        except TimeoutError:
            raise refuse.RefusalError(
                408, "REQUEST_TIMEOUT", f"The request body did not arrive within {BODY_TIMEOUT:.0f} s"
            ) from None

    async def _rest_of_body(self, message: Message) -> bytes | None:
        chunks = bytearray()
        while message["type"] == "http.request":
            chunks += message.get("body", b"")
            if len(chunks) > MAX_BODY:
                return None
            if not message.get("more_body", False):
                return bytes(chunks)
            message = await self._receive()
        # Half a body must not be taken for a whole one; nobody is left to read this.
        raise refuse.bad_request("The connection was closed before the end of the body")


_NOBODY = Principal("", "", frozenset())
