"""What the server says about the caller's rate limit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec


class RateLimitInfo(msgspec.Struct, frozen=True):
    """The `X-RateLimit-*` headers of the latest response.

    Attributes:
        limit: Capacity of the bucket.
        remaining: Requests left in it.
        reset_epoch: Unix time in seconds at which it is full again.
        reset: The same as an aware datetime.
        scope: Whose bucket it is, e.g. `organization`.
    """

    limit: int
    remaining: int
    reset_epoch: int | None = None
    reset: datetime | None = None
    scope: str | None = None


def rate_limit_of(headers: Mapping[str, str]) -> RateLimitInfo | None:
    """Return the rate limit named in response headers (lower-case names); None when they name none."""
    try:
        limit = int(headers["x-ratelimit-limit"])
        remaining = int(headers["x-ratelimit-remaining"])
    except (KeyError, ValueError):
        return None
    epoch: int | None
    reset: datetime | None
    try:
        epoch = int(headers["x-ratelimit-reset"])
        reset = datetime.fromtimestamp(epoch, UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        epoch = reset = None
    return RateLimitInfo(limit, remaining, epoch, reset, headers.get("x-ratelimit-scope"))
