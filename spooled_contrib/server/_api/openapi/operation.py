"""What is said about one route beyond its method, path and access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class Empty:
    """Stands for a response without a body."""


class Query(Struct, frozen=True):
    """One query parameter. `type` is what its text must read as."""

    name: str
    type: Any
    about: str
    required: bool = False


class Link(Struct, frozen=True):
    """A call that takes something from a reply: `$response.body#/id` and the like, as OpenAPI spells it."""

    target: str
    parameters: Mapping[str, str] = {}
    body: Mapping[str, Any] = {}


class Operation(Struct, frozen=True, kw_only=True):
    """A route in words and types.

    Args:
        about: One sentence.
        body: The struct that the body is decoded into.
        body_is_optional: Whether the body may be left out.
        query: The query parameters.
        replies: From status to the type of the body, of what the route answers when all is well.
        errors: Statuses of refusals, beyond those that follow from the route's access, path and body.
        pages: Whether the reply carries `X-Has-More`.
        media_type: Of the reply.
        path: From the name of a path parameter to its type, where it is not just any text.
        security: What opens a public route all the same, one of these security schemes; its handler checks it.
        extra_security: Further security schemes, each of which may be shown instead of nothing.
        links: What can be done next with what the first reply says.
    """

    about: str
    replies: Mapping[int, Any]
    body: type[Struct] | None = None
    body_is_optional: bool = False
    query: Sequence[Query] = ()
    errors: Sequence[int] = ()
    pages: bool = False
    media_type: str = "application/json"
    path: Mapping[str, Any] = {}
    security: Sequence[str] = ()
    extra_security: Sequence[str] = ()
    links: Mapping[str, Link] = {}


def returns(about: str, reply: Any, *, status: int = 200, **more: Any) -> Operation:
    """The usual case: one status, one type."""
    return Operation(about=about, replies={status: reply}, **more)
