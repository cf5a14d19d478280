"""Request rates: token buckets of organizations and addresses, fixed windows of keys and logins (section 1.3)."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from spooled.clock import Clock
from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits

MINUTE = 60.0
HOUR = 3600.0

PUBLIC_RATE = (100.0, 200)
"""Requests a second to public routes from one address, and how many of them may come at once."""

LOGINS_PER_MINUTE = 5
PAGE_LOGINS_PER_MINUTE = 20
ADMIN_PER_MINUTE = 60
SLUG_CHECKS_PER_MINUTE = 60
SLUG_CHECKS_PER_HOUR = 300

MOST_REMEMBERED = 10_000
"""Buckets, and windows, that are kept at the same time."""


class _Held(Protocol):
    def is_full(self, now: float) -> bool: ...


@dataclass
class _Window:
    """Requests that were made until `ends_at` (monotonic seconds)."""

    ends_at: float
    used: int = 0

    def is_full(self, now: float) -> bool:
        """Nothing is used any more."""
        return now >= self.ends_at


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

    def is_full(self, now: float) -> bool:
        """Nothing is missing any more."""
        return self.tokens + (now - self.filled_at) * self.rate >= self.capacity


@dataclass(frozen=True)
class RateState:
    """What the `X-RateLimit-*` headers tell."""

    scope: str
    limit: int
    remaining: int
    reset_at: int


H = TypeVar("H", bound=_Held)


class RateLimiter:
    """Holds the buckets and windows of one server. Without a limit it costs one comparison.

    Args:
        public: Whether to count what strangers may call. Off, `check_address` and `check_window` do nothing.
    """

    def __init__(self, clock: Clock, *, public: bool = False) -> None:
        self._clock = clock
        self._public = public
        self._buckets: dict[str, Bucket] = {}
        self._windows: dict[str, _Window] = {}

    def check_organization(self, organization_id: str, limits: Limits) -> RateState | None:
        """Count a request. None without a limit.

        Raises:
            RefusalError: 429 when the bucket is empty.
        """
        if limits.requests_per_second is None:
            return None
        return self._take("organization", organization_id, limits.requests_per_second, limits.bucket or 1)

    def check_address(self, address: str) -> RateState | None:
        """Count a request to a public route from one network address. None when strangers are not counted.

        Raises:
            RefusalError: 429 when the bucket is empty.
        """
        return self._take("ip", f"ip:{address}", *PUBLIC_RATE) if self._public else None

    def check_key(self, key_id: str, per_minute: int) -> None:
        """Count a request of a key with its own limit.

        Raises:
            RefusalError: 429 until the present window ends.
        """
        self._count("api_key", f"key:{key_id}", per_minute, MINUTE)

    def check_window(self, scope: str, who: str, most: int, seconds: float) -> None:
        """Count a request to a public route that has a limit of its own, in fixed windows.

        Raises:
            RefusalError: 429 until the present window ends.
        """
        if self._public:
            self._count("ip", f"{scope}:{who}", most, seconds)

    def _take(self, scope: str, name: str, rate: float, capacity: int) -> RateState:
        now = self._clock.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None or bucket.rate != rate or bucket.capacity != capacity:
            _make_room(self._buckets, now)
            bucket = Bucket(rate, capacity, float(capacity), now)
            self._buckets[name] = bucket
        wait = bucket.take(now)
        reset_at = math.ceil(self._clock.now() + (bucket.capacity - bucket.tokens) / bucket.rate)
        if wait > 0.0:
            raise refuse.rate_limited(scope, bucket.capacity, math.ceil(wait), reset_at)
        return RateState(scope, bucket.capacity, int(bucket.tokens), reset_at)

    def _count(self, scope: str, name: str, most: int, seconds: float) -> None:
        now = self._clock.monotonic()
        window = self._windows.get(name)
        if window is None or now >= window.ends_at:
            _make_room(self._windows, now)
            window = self._windows[name] = _Window(now + seconds)
        if window.used >= most:
            wait = window.ends_at - now
            raise refuse.rate_limited(scope, most, math.ceil(wait), math.ceil(self._clock.now() + wait))
        window.used += 1


def _make_room(found: MutableMapping[str, H], now: float) -> None:
    """Forget who has everything back: a stranger can call from any number of addresses."""
    if len(found) >= MOST_REMEMBERED:
        for name in [name for name, held in found.items() if held.is_full(now)]:
            del found[name]
        if len(found) > MOST_REMEMBERED // 2:
            found.clear()
