"""What goes over the transport seam."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, complete but for the server's address.

    Attributes:
        method: Upper case.
        path: Percent-encoded, starts with `/`; relative to `base_url`.
        query: Names and values, not yet encoded.
        body: Raw bytes, or None for no body.
        headers: Everything but what the transport itself adds (Host, Content-Length).
        timeout: Seconds until the whole response must be there.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    timeout: float = 30.0


class Response(msgspec.Struct, frozen=True):
    """One HTTP response, read to its end.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
        body: Raw bytes, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
