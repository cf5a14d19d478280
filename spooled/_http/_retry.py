"""Whether a failed request is sent again, and when. Pure: no clock, no randomness, no I/O of its own."""

from __future__ import annotations

from spooled._http._failures import TOO_LARGE, UNTRUSTED
from spooled.config import RetryConfig
from spooled.errors import QuotaExceededError, RateLimitError, SpooledError

_REPLAYABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_JITTER = 0.25
_LASTING = frozenset({TOO_LARGE, UNTRUSTED})
"""Codes of network errors that the next attempt would meet again."""


def may_replay(method: str, replay: bool | None) -> bool:
    """Return whether the request does no harm when the server sees it twice.

    Args:
        method: The HTTP method; decides when `replay` is None.
        replay: What the endpoint says: True for a POST that carries an idempotency key or a lease.
    """
    return method in _REPLAYABLE_METHODS if replay is None else replay


def delay_before_retry(
    error: Exception,
    *,
    attempt: int,
    replay: bool,
    retry: RetryConfig,
    max_retry_after: float,
    chance: float,
) -> float | None:
    """Seconds to wait before the request is sent again; None when it must not be.

    A rate limit (429) turned the request away before it did anything, and without a connection nothing was
    sent, so those are retried whatever the request is; a quota never is, because waiting does not free it, nor
    is what the next attempt would meet again. A `Retry-After` is waited out in full or not at all.

    Args:
        error: Why the last attempt failed.
        attempt: Number of that attempt, from 1.
        replay: See `may_replay`.
        retry: The caller's patience.
        max_retry_after: Longest `Retry-After` in seconds that is waited out.
        chance: A random number in [0, 1) that spreads the waits.
    """
    if not isinstance(error, SpooledError) or not error.is_retryable() or attempt > retry.max_retries:
        return None
    if isinstance(error, QuotaExceededError) or error.code in _LASTING:
        return None
    if not replay and not error.unsent and not isinstance(error, RateLimitError):
        return None
    spread = 1.0 + (_JITTER * chance if retry.jitter else 0.0)
    # Zero means "no idea when, back off yourself".
    if error.server_wait:
        return None if error.server_wait > max_retry_after else error.server_wait * spread
    return _backoff(attempt, retry) * spread


def _backoff(attempt: int, retry: RetryConfig) -> float:
    try:
        delay = retry.base_delay * retry.factor ** (attempt - 1)
    except OverflowError:
        delay = retry.max_delay
    return min(delay, retry.max_delay)
