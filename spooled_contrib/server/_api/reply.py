"""Answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from spooled_contrib.server._refusals import RefusalError

Header = tuple[bytes, bytes]

_encode = msgspec.json.Encoder().encode
_JSON: Header = (b"content-type", b"application/json")


class Reply:
    """A complete response. The application adds the headers that every response has."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Sequence[Header] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = list(headers)


def json_reply(value: Any, status: int = 200, headers: Sequence[Header] = ()) -> Reply:
    return Reply(status, _encode(value), [_JSON, *headers])


def page_reply(value: Any, more: bool) -> Reply:
    """Return a bare array, and whether there is a next page."""
    return json_reply(value, headers=[(b"x-has-more", b"true" if more else b"false")])


def refusal_reply(refusal: RefusalError) -> Reply:
    headers = [(name.encode(), value.encode()) for name, value in (refusal.headers or {}).items()]
    return json_reply(refusal.body(), refusal.status, headers)


NO_CONTENT = 204
SUCCESS = b'{"success":true}'


def success() -> Reply:
    return Reply(200, SUCCESS, [_JSON])
