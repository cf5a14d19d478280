from __future__ import annotations

import builtins
import email.utils
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled import errors
from spooled.errors import create_error_from_response, parse_retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (400, "BAD_REQUEST", errors.ValidationError, False),
        (422, "VALIDATION_ERROR", errors.ValidationError, False),
        (401, "UNAUTHORIZED", errors.AuthenticationError, False),
        (403, "ACCESS_DENIED", errors.AuthorizationError, False),
        (404, "NOT_FOUND", errors.NotFoundError, False),
        (405, "METHOD_NOT_ALLOWED", errors.SpooledError, False),
        (408, "REQUEST_TIMEOUT", errors.SpooledError, True),
        (409, "CONFLICT", errors.ConflictError, False),
        (409, "LEASE_EXPIRED", errors.LeaseExpiredError, False),
        (413, "PAYLOAD_TOO_LARGE", errors.PayloadTooLargeError, False),
        (429, "RATE_LIMIT_EXCEEDED", errors.RateLimitError, True),
        (429, "QUOTA_EXCEEDED", errors.QuotaExceededError, False),
        (500, "DATABASE_ERROR", errors.ServerError, True),
        (503, "SERVICE_UNAVAILABLE", errors.ServerError, True),
        (599, "ERROR", errors.ServerError, True),
        (418, "ERROR", errors.SpooledError, False),
    ],
)
def test_each_status_has_its_class(
    status: int, code: str, kind: type[errors.SpooledError], retryable: bool
) -> None:
    body = json.dumps({"code": code, "message": "no"})
    error = create_error_from_response(status, body.encode(), headers={"X-Request-ID": "r-1"})
    assert type(error) is kind
    assert (error.status_code, error.code, error.message, error.request_id) == (status, code, "no", "r-1")
    assert error.is_retryable() is retryable
    assert errors.is_spooled_error(error)
    assert errors.is_lease_expired(error) is (code == "LEASE_EXPIRED")


def test_the_text_says_everything_needed_to_act() -> None:
    body = b'{"code":"LEASE_EXPIRED","message":"lease is over"}'
    error = create_error_from_response(409, body, headers={"x-request-id": "r-9"})
    assert str(error).startswith("[409 LEASE_EXPIRED] lease is over (request id r-9). ")
    assert error.hint in str(error)
    assert "heartbeat" in error.hint


def test_every_class_says_what_to_do() -> None:
    for status in (401, 403, 404, 409, 413, 429, 500):
        assert create_error_from_response(status, b"").hint


def test_bodies_that_are_not_json_keep_their_text() -> None:
    page = b"<html>\n  <h1>502 Bad\n Gateway</h1>\n</html>" + b"x" * 10_000
    error = create_error_from_response(502, page)
    assert isinstance(error, errors.ServerError)
    assert error.message.startswith("<html> <h1>502 Bad Gateway</h1> </html>x")
    assert len(error.message) < 600


@pytest.mark.parametrize("body", [None, b"", "", b"null", b"[1]", b"\xff\xfe", b'{"message": 7}', b'{"a'])
def test_any_body_gives_an_error(body: bytes | str | None) -> None:
    error = create_error_from_response(500, body)
    assert isinstance(error, errors.ServerError)
    assert error.message


@given(
    st.integers(300, 599), st.binary(max_size=200), st.dictionaries(st.text(max_size=9), st.text(max_size=9))
)
def test_no_answer_breaks_the_making_of_the_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = create_error_from_response(status, body, headers=headers)
    assert error.status_code == status
    assert str(error)


def test_validation_details_are_kept() -> None:
    details = [{"field": "priority", "message": "too large", "code": "range"}]
    error = create_error_from_response(
        400, {"code": "VALIDATION_ERROR", "message": "m", "details": details, "error": "Validation failed"}
    )
    assert error.details == details
    assert isinstance(error, ValueError)


def test_older_bodies_give_their_code_in_error() -> None:
    assert create_error_from_response(403, {"error": "feature-disabled"}).code == "FEATURE_DISABLED"
    assert create_error_from_response(403, {"error": "Not a code"}).code == "ACCESS_DENIED"
    assert create_error_from_response(403, {"error": "Not a code"}).message == "Not a code"


def test_redirects_name_their_target() -> None:
    error = create_error_from_response(301, b"", headers={"location": "https://spooled.test/"})
    assert "https://spooled.test/" in error.hint


def test_rate_limits_carry_the_headers() -> None:
    error = create_error_from_response(
        429,
        {"code": "RATE_LIMIT_EXCEEDED", "message": "slow down", "remaining": 0, "limit": 10},
        headers={
            "Retry-After": "7",
            "X-RateLimit-Limit": "20",
            "X-RateLimit-Reset": "99",
            "X-RateLimit-Scope": "organization",
        },
    )
    assert isinstance(error, errors.RateLimitError)
    assert (error.retry_after, error.get_retry_after(), error.server_wait) == (7, 7, 7)
    assert (error.limit, error.remaining, error.reset, error.scope) == (20, 0, 99, "organization")


def test_a_rate_limit_without_a_time_says_a_minute() -> None:
    error = create_error_from_response(429, {"code": "RATE_LIMIT_EXCEEDED"})
    assert isinstance(error, errors.RateLimitError)
    assert error.retry_after == 60
    assert error.server_wait is None


def test_quotas_are_told_apart_also_without_a_code() -> None:
    fields = {"resource": "active_jobs", "current": 10, "limit": 10, "plan": "free", "upgrade_to": "starter"}
    for extra in ({"error": "limit_exceeded"}, {}):
        error = create_error_from_response(429, fields | extra)
        assert isinstance(error, errors.QuotaExceededError)
        assert (error.resource, error.current, error.limit) == ("active_jobs", 10, 10)
        assert (error.plan, error.upgrade_to, error.retry_after) == ("free", "starter", 0)
        assert error.code == "QUOTA_EXCEEDED"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        (" 2.5 ", 2.5),
        ("-3", 0),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now=NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_is_too_strange(text: str) -> None:
    found = parse_retry_after(text, now=NOW)
    assert found is None or 0 <= found < float("inf")


def test_timeouts_are_also_the_builtin_kind() -> None:
    error = errors.TimeoutError("late", timeout_seconds=3)
    assert isinstance(error, builtins.TimeoutError)
    assert error.timeout_seconds == 3
    assert error.is_retryable()
    assert (error.code, error.status_code) == ("timeout", 0)


def test_errors_survive_pickling() -> None:
    quota = create_error_from_response(429, {"code": "QUOTA_EXCEEDED", "message": "m", "resource": "queues"})
    quota.attempts = 3
    timeout = errors.TimeoutError("late", timeout_seconds=3, hint="h")
    for error in (quota, timeout, errors.ConfigurationError("c")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert copy.__dict__ == error.__dict__
        assert str(copy) == str(error)
        assert copy.args == error.args


def test_aborting_a_job_is_not_a_failed_call() -> None:
    assert not errors.is_spooled_error(errors.JobAbortedError())
