"""Paths and JSON: the pure parts of what goes over the wire."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import unquote

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled._http._json import decode, encode, list_of
from spooled._http._messages import Response
from spooled._http._paths import segment
from spooled._http._rate_limit import rate_limit_of
from spooled.errors import SpooledError, ValidationError
from spooled.models import ClaimJobsResponse, Job, JobSummary, Page, Worker


def answer(body: bytes) -> Response:
    return Response(200, {"x-request-id": "r-1"}, body)


# --- paths ---


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_segment_stays_one_segment(text: str) -> None:
    encoded = segment(text, "job_id")
    assert unquote(encoded) == text
    assert encoded not in {".", ".."}
    assert encoded.isascii()
    assert not set(encoded) & set("/?#& \\")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("a/../b?x", "a%2F..%2Fb%3Fx"), ("..", "%2E%2E"), (".", "%2E"), ("...", "..."), ("a b%", "a%20b%25")],
)
def test_segments_cannot_climb(text: str, encoded: str) -> None:
    assert segment(text, "job_id") == encoded


@pytest.mark.parametrize("value", ["", None, 5, "\ud800"])
def test_segments_that_name_nothing_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="job_id"):
        segment(value, "job_id")


# --- encoding ---


class Model(pydantic.BaseModel):
    when: datetime
    ratio: float | None = None


@dataclasses.dataclass
class Data:
    ratio: float | None


class Shape(msgspec.Struct):
    ratio: float | None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert msgspec.json.decode(encode(value)) == value


@given(json_values, st.sampled_from([float("nan"), float("inf"), float("-inf")]), st.lists(st.booleans()))
def test_not_a_number_is_found_wherever_it_hides(other: object, hidden: float, nesting: list[bool]) -> None:
    value: object = hidden
    for as_mapping in nesting:
        value = {"other": other, "here": value} if as_mapping else [other, value]
    with pytest.raises(ValidationError, match="NaN and Infinity"):
        encode(value)


def test_the_users_own_types_are_encoded() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    value = {"model": Model(when=when), "data": Data(None), "shape": Shape(0.5), "id": uuid.UUID(int=1)}
    assert msgspec.json.decode(encode(value)) == {
        "model": {"when": "2026-01-01T00:00:00Z", "ratio": None},
        "data": {"ratio": None},
        "shape": {"ratio": 0.5},
        "id": "00000000-0000-0000-0000-000000000001",
    }
    assert encode(Decimal("1.5")) == b'"1.5"'


@pytest.mark.parametrize(
    "value",
    [
        Data(float("nan")),
        Shape(float("inf")),
        {float("nan")},
        Model(when=datetime.now(UTC), ratio=float("nan")),
    ],
)
def test_not_a_number_is_found_in_the_users_own_types(value: object) -> None:
    with pytest.raises(ValidationError, match="NaN and Infinity"):
        encode(value, "payload")


def _endless() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [object(), {"a": {1j}}, "\ud800", _endless(), {(1, 2): 3}, lambda: 1])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="payload cannot be sent as JSON") as caught:
        encode(value, "payload")
    assert caught.value.details[0]["field"] == "payload"


def test_raw_parts_pass_through() -> None:
    assert encode({"result": msgspec.Raw(b"null"), "a": 1}) == b'{"result":null,"a":1}'


# --- decoding ---


def test_timestamps_with_nine_digits_and_offsets_are_aware() -> None:
    for text, moment in [
        ("2026-09-26T10:00:00.123456789Z", datetime(2026, 9, 26, 10, 0, 0, 123457, UTC)),
        ("2026-09-26T10:00:00Z", datetime(2026, 9, 26, 10, tzinfo=UTC)),
        ("2026-09-26T12:00:00.5+02:00", datetime(2026, 9, 26, 10, 0, 0, 500000, UTC)),
        ("2026-09-26T10:00:00.999999999+00:00", datetime(2026, 9, 26, 10, 0, 1, tzinfo=UTC)),
    ]:
        body = f'{{"id":"a","queue_name":"q","status":"pending","created_at":"{text}"}}'
        job = decode(answer(body.encode()), Job)
        assert job.created_at == moment
        assert job.created_at.utcoffset() is not None


def test_unknown_fields_and_states_are_no_problem() -> None:
    body = (
        b'{"id":"a","queue_name":"q","status":"dreaming","created_at":"2026-01-01T00:00:00Z","new":{"x":[1]}}'
    )
    job = decode(answer(body), Job)
    assert job.status == "dreaming"
    assert job.payload is None
    assert job.tags is None


@pytest.mark.parametrize("field", ["attempt", "retry_count"])
def test_summaries_know_the_attempt_under_both_names(field: str) -> None:
    body = f'[{{"id":"a","queue_name":"q","status":"x","created_at":"2026-01-01T00:00:00Z","{field}":4}}]'
    [job] = decode(answer(body.encode()), list_of(JobSummary))
    assert job.attempt == job.retry_count == 4


def test_a_worker_of_an_older_server() -> None:
    body = b'{"id":"w","max_concurrent_jobs":7,"current_job_count":2,"created_at":"2026-01-01T00:00:00Z"}'
    worker = decode(answer(body), Worker)
    assert (worker.max_concurrency, worker.current_jobs) == (7, 2)
    assert worker.registered_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert decode(answer(b'{"id":"w","max_concurrency":7}'), Worker).max_concurrency == 7


def test_one_bad_job_does_not_lose_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    body = (
        b'{"jobs":[{"id":"a","queue_name":"q","payload":1,"lease_id":"l"},'
        b'{"id":"b","queue_name":"q","retry_count":"many"},{"id":7},{"queue_name":"q"},5,'
        b'{"id":"c","queue_name":"q","payload":{"x":null}}]}'
    )
    with caplog.at_level(logging.ERROR, "spooled.http"):
        claimed = decode(answer(body), ClaimJobsResponse)
    assert [job.id for job in claimed.jobs] == ["a", "c"]
    assert claimed.skipped == ["b", "?", "?", "?"]
    assert "claimed job b is skipped" in caplog.text
    assert "retry_count" in caplog.text


def test_an_answer_that_is_no_json_says_what_came() -> None:
    for body in (b"<html>login</html>", b'{"id":', b"[]", b"\xff"):
        with pytest.raises(SpooledError, match="not a valid Job") as caught:
            decode(answer(body), Job)
        assert caught.value.code == "invalid_response"
        assert caught.value.request_id == "r-1"
        assert not caught.value.is_retryable()
        assert "base_url" in caught.value.hint


def test_ignoring_the_body() -> None:
    assert decode(answer(b"anything"), type(None)) is None


# --- small things ---


def test_a_page_is_a_list() -> None:
    page = Page([1, 2], has_more=True)
    assert page == [1, 2]
    assert page.has_more is True
    assert Page().has_more is None
    assert repr(page) == "Page([1, 2], has_more=True)"


def test_rate_limit_headers() -> None:
    headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9"}
    info = rate_limit_of(headers | {"x-ratelimit-reset": "1767225600", "x-ratelimit-scope": "organization"})
    assert info is not None
    assert (info.limit, info.remaining, info.reset_epoch, info.scope) == (10, 9, 1767225600, "organization")
    assert info.reset == datetime(2026, 1, 1, tzinfo=UTC)
    partial = rate_limit_of(headers | {"x-ratelimit-reset": "soon"})
    assert partial is not None
    assert partial.reset is None
    assert rate_limit_of({}) is None
    assert rate_limit_of({"x-ratelimit-limit": "many", "x-ratelimit-remaining": "1"}) is None
