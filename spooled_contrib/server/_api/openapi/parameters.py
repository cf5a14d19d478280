"""Query parameters that several calls have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.openapi.operation import Query

Integer = Annotated[int, Meta(ge=-(10**18) + 1, le=10**18 - 1)]
"""Any number that is read at all; most are moved into a range then, and not refused."""

Text = Annotated[str, Meta(max_length=1024, extra_json_schema=bodies.NO_NUL)]
ShortText = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]
Id = Annotated[str, Meta(max_length=255, extra_json_schema=bodies.NO_NUL)]
ORDER_DIR = Literal["asc", "desc"]
BOOLEAN = Literal["true", "false"]

QUEUE_FILTER = (
    Query("queue_name", Text, "Only this queue"),
    Query("queue", Text, "Another name of queue_name"),
)


def page(default: int = 50, most: int = 100) -> tuple[Query, Query]:
    """`limit` and `offset`."""
    return (
        Query("limit", Integer, f"Rows of a page, {default} unless told; moved into 1 to {most}"),
        Query("offset", Integer, "Rows to pass over, 0 unless told; negative ones are 0"),
    )
