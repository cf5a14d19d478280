from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled._http import _fields as fields
from spooled._http._rules import body, query
from spooled.errors import ValidationError

AWARE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MIB = 1024 * 1024


def sent(rules: Any, **values: Any) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(body(rules, **values)))


RANGES = [
    (fields.JOB, "priority", -100, 100),
    (fields.JOB, "max_retries", 0, 100),
    (fields.JOB, "timeout_seconds", 1, 86_400),
    (fields.BULK, "default_priority", -100, 100),
    (fields.BULK, "default_max_retries", 0, 100),
    (fields.BULK, "default_timeout_seconds", 1, 86_400),
    (fields.JOB_FILTER, "limit", 1, 100),
    (fields.HISTORY, "limit", 1, 500),
    (fields.CLAIM, "limit", 1, 100),
    (fields.CLAIM, "lease_duration_secs", 5, 3600),
    (fields.LEASE, "lease_duration_secs", 5, 3600),
    (fields.DLQ_RETRY, "limit", 1, 100),
    (fields.DLQ_PURGE, "limit", 1, 10_000),
    (fields.QUEUE_CONFIG, "max_retries", 0, 100),
    (fields.QUEUE_CONFIG, "default_timeout", 1, 86_400),
    (fields.QUEUE_CONFIG, "rate_limit", 1, 100_000),
    (fields.REGISTRATION, "max_concurrency", 1, 100),
    (fields.WORKER_HEARTBEAT, "current_jobs", 0, 1000),
    (fields.API_KEY, "rate_limit", 1, 10_000),
]


@pytest.mark.parametrize(("rules", "field", "low", "high"), RANGES)
def test_numbers_keep_to_their_range(rules: Any, field: str, low: int, high: int) -> None:
    for value in (low, high):
        assert sent(rules, **{field: value}) == {field: value}
    for value in (low - 1, high + 1, float(low), str(low), True):
        with pytest.raises(
            ValidationError, match=f"{field} must be a whole number from {low} to {high}"
        ) as caught:
            body(rules, **{field: value})
        assert repr(value) in str(caught.value)
        assert caught.value.details[0]["field"] == field
        assert caught.value.status_code == 0


LENGTHS = [
    (fields.JOB, "queue_name", 1, 100),
    (fields.JOB, "idempotency_key", 1, 255),
    (fields.JOB, "completion_webhook_secret", 0, 255),
    (fields.JOB_FILTER, "tag", 1, 1024),
    (fields.CLAIM, "worker_id", 1, 255),
    (fields.LEASE, "lease_id", 1, 255),
    (fields.LEASE, "error", 1, 2048),
    (fields.REGISTRATION, "hostname", 1, 255),
    (fields.REGISTRATION, "worker_id", 1, 128),
    (fields.REGISTRATION, "worker_type", 0, 50),
    (fields.REGISTRATION, "version", 0, 50),
    (fields.PAUSE, "reason", 0, 500),
    (fields.API_KEY, "name", 1, 100),
    (fields.ORGANIZATION, "slug", 1, 100),
    (fields.TOKENS, "api_key", 10, 10_000),
]


@pytest.mark.parametrize(("rules", "field", "low", "high"), LENGTHS)
def test_texts_keep_to_their_length(rules: Any, field: str, low: int, high: int) -> None:
    for length in (low, high):
        assert sent(rules, **{field: "a" * length}) == {field: "a" * length}
    for length in {low - 1, high + 1} - {-1}:
        with pytest.raises(ValidationError, match=f"{field} must be text of {low} to {high} characters"):
            body(rules, **{field: "a" * length})
    with pytest.raises(ValidationError, match=field):
        body(rules, **{field: 5})


@pytest.mark.parametrize("name", ["emails", "a", "_a", "a.b-c_d", "9", "почта", "メール", "हिन्दी", "Å"])
def test_queue_names_that_are_good(name: str) -> None:
    assert sent(fields.JOB, queue_name=name) == {"queue_name": name}


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "a b", "a/b", "a:b", "a\n", "a\u00a0b", "a…", "..", "📮", None, 5]
)
def test_queue_names_that_are_not(name: Any) -> None:
    with pytest.raises(ValidationError, match="queue_name"):
        body(fields.JOB, required=("queue_name",), queue_name=name)


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=1, max_size=100))
def test_queue_names_in_ascii_are_exactly_the_contracts(name: str) -> None:
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    good = name[0] not in ".-" and set(name) <= set(allowed)
    assert fields.QUEUE_NAME.allowed is not None
    assert fields.QUEUE_NAME.allowed(name) is good


@pytest.mark.parametrize("name", ["-a", "a-", ".a", "a.", "a b", "ä", "a/b"])
def test_host_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="hostname"):
        body(fields.REGISTRATION, hostname=name)


def test_payloads_may_be_any_json_and_none() -> None:
    for payload in (None, 0, "", [], {}, {"a": [1, None, "x"]}, AWARE):
        assert "payload" in sent(fields.JOB, required=("payload",), payload=payload)
    assert sent(fields.JOB, required=("payload",), payload=None) == {"payload": None}


def test_a_payload_of_a_mebibyte_fits_and_no_more() -> None:
    assert len(sent(fields.JOB, required=("payload",), payload="x" * (MIB - 2))["payload"]) == MIB - 2
    with pytest.raises(
        ValidationError, match=r"payload must be at most 1048576 bytes as JSON, has 1048577"
    ) as caught:
        body(fields.JOB, required=("payload",), payload="x" * (MIB - 1))
    assert "xxx" not in str(caught.value)
    assert caught.value.details[0]["code"] == "too_large"


def test_encoded_payloads_pass_through() -> None:
    assert sent(fields.JOB, payload=msgspec.Raw(b'{"a":1}')) == {"payload": {"a": 1}}


@pytest.mark.parametrize("field", ["tags", "settings", "metadata"])
def test_side_data_keeps_to_64_kib(field: str) -> None:
    rules = {"tags": fields.JOB, "settings": fields.QUEUE_CONFIG, "metadata": fields.REGISTRATION}[field]
    assert sent(rules, **{field: ["x" * (65_536 - 4)]})
    with pytest.raises(ValidationError, match=f"{field} must be at most 65536 bytes"):
        body(rules, **{field: ["x" * (65_536 - 3)]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1, {"b": float("-inf")}]}])
@pytest.mark.parametrize(("rules", "field"), [(fields.JOB, "payload"), (fields.LEASE, "result")])
def test_not_a_number_is_refused_and_found(rules: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{field}.*NaN and Infinity") as caught:
        body(rules, required=(field,), **{field: value})
    expected = f"{field}.a[1].b" if isinstance(value, dict) else field
    assert caught.value.details[0]["field"] == expected


def test_moments_are_aware() -> None:
    assert sent(fields.JOB, scheduled_at=AWARE) == {"scheduled_at": "2026-01-31T12:00:00Z"}
    assert sent(fields.JOB, scheduled_at="2026-01-31T12:00:00Z") == {"scheduled_at": "2026-01-31T12:00:00Z"}
    east = AWARE.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert datetime.fromisoformat(sent(fields.JOB, expires_at=east)["expires_at"]) == AWARE
    for naive in (datetime(2026, 1, 31), "2026-01-31T12:00:00"):
        with pytest.raises(ValidationError, match="scheduled_at must be an aware datetime") as caught:
            body(fields.JOB, scheduled_at=naive)
        assert "timezone.utc" in str(caught.value)
    for other in ("tomorrow", 5, AWARE.date()):
        with pytest.raises(ValidationError, match="scheduled_at"):
            body(fields.JOB, scheduled_at=other)


def test_a_timedelta_is_from_now() -> None:
    before = datetime.now(UTC)
    found = datetime.fromisoformat(sent(fields.JOB, scheduled_at=timedelta(hours=1))["scheduled_at"])
    assert before + timedelta(hours=1) <= found <= datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(ValidationError, match="created_after"):
        query(fields.JOB_FILTER, created_after=timedelta(hours=1))


def test_moments_in_a_query_are_utc() -> None:
    east = AWARE.astimezone(timezone(timedelta(hours=5)))
    assert query(fields.JOB_FILTER, created_after=east) == [("created_after", "2026-01-31T12:00:00Z")]


def test_states_are_known_ones() -> None:
    assert query(fields.JOB_FILTER, status="pending") == [("status", "pending")]
    assert query(fields.JOB_FILTER, status=["pending", "failed"]) == [("status", "pending,failed")]
    assert query(fields.JOB_FILTER, status="pending,failed") == [("status", "pending,failed")]
    with pytest.raises(ValidationError, match="Did you mean 'completed'"):
        query(fields.JOB_FILTER, status="complete")
    with pytest.raises(ValidationError, match="order_by"):
        query(fields.JOB_FILTER, order_by="age")


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        body(
            fields.JOB,
            required=("queue_name", "payload"),
            queue_name=None,
            payload=float("nan"),
            priority=500,
            max_retries=3,
        )
    assert [problem["field"] for problem in caught.value.details] == ["queue_name", "payload", "priority"]
    assert caught.value.details[0]["code"] == "missing_field"
    assert "Nothing was sent" in str(caught.value)


def test_absent_values_are_not_sent() -> None:
    assert body(fields.JOB, priority=None, tags=None) == {}
    assert body(fields.LEASE, result=None) == {}


def test_bulk_jobs_are_checked_one_by_one() -> None:
    good = {"payload": 1, "priority": 5, "idempotency_key": "k", "scheduled_at": AWARE}
    made = sent(fields.BULK, jobs=(item for item in [good, {"payload": None}]))
    assert made["jobs"][1] == {"payload": None}
    assert made["jobs"][0] == {
        "payload": 1,
        "priority": 5,
        "idempotency_key": "k",
        "scheduled_at": "2026-01-31T12:00:00Z",
    }
    with pytest.raises(ValidationError) as caught:
        body(
            fields.BULK,
            jobs=[good, {"priority": 1}, {"payload": 1, "priority": 101}, {"payload": 1, "tags": []}, 5],
        )
    assert [problem["field"] for problem in caught.value.details] == [
        "jobs[1].payload",
        "jobs[2].priority",
        "jobs[3].tags",
        "jobs[4]",
    ]


@pytest.mark.parametrize("jobs", [[], [{"payload": 1}] * 101, {"payload": 1}, "jobs", 5])
def test_bulk_takes_one_to_a_hundred_jobs(jobs: Any) -> None:
    with pytest.raises(ValidationError, match="jobs must"):
        body(fields.BULK, jobs=jobs)


def test_a_bulk_request_keeps_to_what_the_server_reads() -> None:
    with pytest.raises(ValidationError, match="2 MiB"):
        body(fields.BULK, jobs=[{"payload": "x" * 800_000}] * 3)


def test_purging_needs_a_signature() -> None:
    for value in (False, 1, "yes"):
        with pytest.raises(ValidationError, match="confirm must be True"):
            body(fields.DLQ_PURGE, confirm=value)


def test_ages_are_moments_timedeltas_or_days() -> None:
    assert fields.age(None, None) is None
    assert fields.age(AWARE, None) is AWARE
    for found in (fields.age(None, 2), fields.age(timedelta(days=2), None)):
        assert isinstance(found, datetime)
        assert timedelta(days=2) <= datetime.now(UTC) - found < timedelta(days=2, minutes=1)
    with pytest.raises(ValidationError, match="give one of them"):
        fields.age(AWARE, 2)
    with pytest.raises(ValidationError, match="older_than_days"):
        fields.age(None, 0)


def test_lists_of_ids_are_bounded() -> None:
    assert sent(fields.DLQ_RETRY, job_ids=("a", "b")) == {"job_ids": ["a", "b"]}
    for bad in ([], ["a"] * 101, "abc", [""], [5]):
        with pytest.raises(ValidationError, match="job_ids"):
            body(fields.DLQ_RETRY, job_ids=bad)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        body(fields.TOKENS, api_key="tiny", token=5 * ["s3cret"], refresh_token="short")
    assert "tiny" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "'short'" not in str(caught.value)


def test_other_rules() -> None:
    assert sent(fields.JOB, completion_webhook="https://x.test/hook")
    for address in ("x.test", "https://", "ftp://x", "https://a b"):
        with pytest.raises(ValidationError, match="completion_webhook"):
            body(fields.JOB, completion_webhook=address)
    for slug in ("A", "-a", "a-", "a_b"):
        with pytest.raises(ValidationError, match="slug"):
            body(fields.ORGANIZATION, slug=slug)
    with pytest.raises(ValidationError, match="status must be one of healthy"):
        body(fields.WORKER_HEARTBEAT, status="fine")
    with pytest.raises(ValidationError, match="enabled must be True or False"):
        body(fields.QUEUE_CONFIG, enabled=1)
    with pytest.raises(ValidationError, match="name"):
        body(fields.API_KEY, name="a/b")
