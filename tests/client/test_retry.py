from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled._http._retry import delay_before_retry, may_replay
from spooled.config import RetryConfig
from spooled.errors import (
    ConflictError,
    NetworkError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    SpooledError,
    TimeoutError,  # noqa: A004 - the official name
    create_error_from_response,
)

retries = st.builds(
    RetryConfig,
    max_retries=st.integers(0, 10),
    base_delay=st.floats(0, 1e9),
    max_delay=st.floats(0, 1e9),
    factor=st.floats(1, 1e300),
    jitter=st.booleans(),
)
chances = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 12)


def failure(status: int, retry_after: str | None = None) -> SpooledError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return create_error_from_response(status, b"", headers=headers)


transient = st.sampled_from(
    [NetworkError("n"), TimeoutError("t"), ServerError("s", 500), failure(408), failure(503)]
)


def decide(error: Exception, **changes: object) -> float | None:
    arguments = {
        "attempt": 1,
        "replay": True,
        "retry": RetryConfig(jitter=False),
        "max_retry_after": 60.0,
        "chance": 0.0,
    }
    return delay_before_retry(error, **(arguments | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "replay", "expected"),
    [
        ("GET", None, True),
        ("HEAD", None, True),
        ("PUT", None, True),
        ("DELETE", None, True),
        ("OPTIONS", None, True),
        ("POST", None, False),
        ("PATCH", None, False),
        ("POST", True, True),
        ("GET", False, False),
    ],
)
def test_what_may_be_sent_twice(method: str, replay: bool | None, expected: bool) -> None:
    assert may_replay(method, replay) is expected


def test_the_wait_doubles_up_to_a_bound() -> None:
    waits = [decide(ServerError("s"), attempt=n, retry=RetryConfig(10, jitter=False)) for n in range(1, 8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


@given(transient, attempts, retries, chances)
def test_waits_are_within_their_bounds(
    error: SpooledError, attempt: int, retry: RetryConfig, chance: float
) -> None:
    delay = decide(error, attempt=attempt, retry=retry, chance=chance)
    if attempt > retry.max_retries:
        assert delay is None
    else:
        assert delay is not None
        assert 0 <= delay <= retry.max_delay * 1.25
        assert math.isfinite(delay)


@given(
    st.integers(1, 10_000), st.floats(0, 10_000), retries, chances, st.booleans(), st.sampled_from([429, 503])
)
def test_retry_after_is_waited_out_in_full_or_not_at_all(
    seconds: int, bound: float, retry: RetryConfig, chance: float, replay: bool, status: int
) -> None:
    delay = decide(
        failure(status, str(seconds)), retry=retry, max_retry_after=bound, chance=chance, replay=replay
    )
    if retry.max_retries == 0 or seconds > bound or (status == 503 and not replay):
        assert delay is None
    else:
        assert delay is not None
        assert seconds <= delay <= seconds * 1.25


def test_retry_after_zero_means_back_off_yourself() -> None:
    assert decide(failure(429, "0")) == 1


@given(transient, attempts, retries, chances)
def test_what_may_not_be_sent_twice_is_not(
    error: SpooledError, attempt: int, retry: RetryConfig, chance: float
) -> None:
    assert decide(error, attempt=attempt, retry=retry, chance=chance, replay=False) is None


@given(st.booleans(), retries, attempts)
def test_a_quota_is_never_retried(replay: bool, retry: RetryConfig, attempt: int) -> None:
    assert decide(QuotaExceededError("q"), replay=replay, retry=retry, attempt=attempt) is None


def test_a_rate_limit_is_retried_whatever_the_request() -> None:
    assert decide(RateLimitError("r"), replay=False) == 1


@given(
    st.sampled_from(
        [TypeError("t"), ValueError("v"), RuntimeError("r"), ConflictError("c"), SpooledError("e")]
    ),
    st.booleans(),
    attempts,
)
def test_nothing_else_is_retried(error: Exception, replay: bool, attempt: int) -> None:
    assert decide(error, replay=replay, attempt=attempt) is None
