"""Request rates: an organization's token bucket and an API key's fixed window (contract section 1.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spooled.clock import Clock
from spooled_contrib.server import _refusals as refuse

KEY_WINDOW = 60.0
"""Seconds of an API key's window."""


@dataclass
class Bucket:
    """Fills at `rate` tokens a second up to `capacity`; a request takes one."""

    rate: float
    capacity: int
    tokens: float
    filled_at: float

    def take(self, now: float) -> float:
        """Take a token at `now` (monotonic seconds); 0, or the seconds until there is one."""
        self.tokens = min(float(self.capacity), self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.rate


@dataclass(frozen=True)
class RateState:
    """What the `X-RateLimit-*` headers tell."""

    limit: int
    remaining: int
    reset_at: int


class RateLimiter:
    """Holds the buckets of one server. Without a limit it costs one comparison."""

    def __init__(self, clock: Clock, requests_per_second: float | None, capacity: int | None) -> None:
        self._clock = clock
        self._rate = requests_per_second
        self._capacity = capacity or 1
        self._buckets: dict[str, Bucket] = {}
        self._windows: dict[str, tuple[float, int]] = {}

    def check_organization(self, organization_id: str) -> RateState | None:
        """Count a request. None without a limit.

        Raises:
            RefusalError: 429 when the bucket is empty.
        """
        if self._rate is None:
            return None
        now = self._clock.monotonic()
        bucket = self._buckets.get(organization_id)
        if bucket is None:
            bucket = Bucket(self._rate, self._capacity, float(self._capacity), now)
            self._buckets[organization_id] = bucket
        wait = bucket.take(now)
        missing = bucket.capacity - bucket.tokens
        reset_at = math.ceil(self._clock.now() + missing / bucket.rate)
        if wait > 0.0:
            raise refuse.rate_limited("organization", bucket.capacity, math.ceil(wait), reset_at)
        return RateState(bucket.capacity, int(bucket.tokens), reset_at)

    def check_key(self, key_id: str, per_minute: int) -> None:
        """Count a request of a key with its own limit.

        Raises:
            RefusalError: 429 until the present window ends.
        """
        now = self._clock.monotonic()
        started, used = self._windows.get(key_id, (now, 0))
        if now - started >= KEY_WINDOW:
            started, used = now, 0
        if used >= per_minute:
            wait = started + KEY_WINDOW - now
            raise refuse.rate_limited(
                "api_key", per_minute, math.ceil(wait), math.ceil(self._clock.now() + wait)
            )
        self._windows[key_id] = (started, used + 1)
