"""Paths and queries, encoded so that no id can reach another endpoint."""

from __future__ import annotations

import re
from urllib.parse import quote

from spooled.errors import ValidationError

API = "/api/v1"

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.~-]*")
"""Segments that are sent as they are, such as the ids that a server makes."""


def segment(value: object, field: str) -> str:
    """One path segment, percent-encoded; `.` and `..` too, which clients and proxies resolve otherwise.

    Raises:
        ValidationError: It is not text, or empty (which would name the collection instead).
    """
    if not isinstance(value, str) or not value:
        problem = f"{field} must be a non-empty string, got {value!r}"
        raise ValidationError(problem, details=[{"field": field, "message": problem, "code": "path"}])
    if _PLAIN.fullmatch(value):
        return value
    if value in {".", ".."}:
        return value.replace(".", "%2E")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        problem = f"{field} holds half a surrogate pair, which has no UTF-8 form: {value!r}"
        raise ValidationError(
            problem, details=[{"field": field, "message": problem, "code": "path"}]
        ) from None
