"""The decisions that need no database, with every input that hypothesis can think of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_contrib.server._api.bodies import explain
from spooled_contrib.server._api.usage_routes import usage_report
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import scope_of
from spooled_contrib.server._rate import Bucket
from spooled_contrib.server._rules.acks import backoff_seconds, explain_miss
from spooled_contrib.server._rules.creation import status_at_birth
from spooled_contrib.server._rules.dependencies import (
    DEPENDENCY_LOST,
    OPEN,
    PARENT_LOST,
    is_hopeless,
    is_met,
    verdict,
)
from spooled_contrib.server._rules.names import is_queue_name
from spooled_contrib.server._rules.queues import merge_settings, paused_seconds
from spooled_contrib.server._rules.reading import like_literal
from spooled_contrib.server._rules.statuses import ACTIVE, ALL, NEVER_COMPLETES, TERMINAL
from spooled_contrib.server._rules.sweeps import after_lost_lease
from spooled_contrib.server._times import micros, moment, text

statuses = st.sampled_from(ALL)
modes = st.sampled_from(["all", "any"])


def test_the_states_are_either_active_or_terminal():
    assert set(ALL) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


@given(st.integers(0, 10_000))
def test_the_back_off_follows_the_table(retry_count):
    table = {0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 5: 32}
    assert backoff_seconds(retry_count) == table.get(retry_count, 60)


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_lost_lease_costs_a_retry_or_the_job(retry_count, max_retries):
    status, retries, _ = after_lost_lease(retry_count, max_retries)
    assert (status, retries) == (
        ("pending", retry_count + 1) if retry_count < max_retries else ("deadletter", retry_count)
    )


@given(
    status=statuses,
    assigned=st.sampled_from([None, "w1", "w2"]),
    lease=st.sampled_from([None, "mine", "other"]),
    expires=st.one_of(st.none(), st.integers(90, 110)),
)
def test_a_miss_is_classified_in_the_contracts_order(status, assigned, lease, expires):
    refusal = explain_miss((status, assigned, lease, expires), "w1", "mine", 100)
    if assigned != "w1":
        expected = 404, "NOT_FOUND"
    elif status in TERMINAL:
        expected = 409, "CONFLICT"
    else:
        expected = 409, "LEASE_EXPIRED"
    assert (refusal.status, refusal.code) == expected
    live = status == "processing" and assigned == "w1" and expires is not None and expires > 100
    assert ("does not match the job's current lease" in refusal.message) == (live and lease != "mine")


def test_an_unknown_job_is_not_found():
    assert explain_miss(None, "w1", "mine", 100).code == "NOT_FOUND"


@given(st.integers(), st.one_of(st.none(), st.integers()))
def test_only_the_future_is_scheduled(now, scheduled_at):
    future = scheduled_at is not None and scheduled_at > now
    assert status_at_birth(scheduled_at, now) == ("scheduled" if future else "pending")


@given(modes, st.lists(statuses, max_size=6))
def test_a_job_is_never_both_free_and_hopeless(mode, dependencies):
    assert not (is_met(mode, dependencies) and is_hopeless(mode, dependencies))


@given(modes, st.lists(statuses, min_size=1, max_size=6))
def test_a_gated_job_is_decided_once_its_dependencies_have_ended(mode, dependencies):
    if all(status in TERMINAL for status in dependencies):
        assert is_met(mode, dependencies) or is_hopeless(mode, dependencies)


@given(st.lists(statuses, min_size=1, max_size=6))
def test_all_means_every_one_and_any_means_one(dependencies):
    assert is_met("all", dependencies) == (set(dependencies) == {"completed"})
    assert is_met("any", dependencies) == ("completed" in dependencies)


@given(
    modes, st.one_of(st.none(), statuses), st.lists(statuses, max_size=5), st.integers(0, 2 * 3600 * 10**6)
)
def test_the_sweeps_verdict(mode, parent, dependencies, age):
    decision = verdict(mode, parent, dependencies, age)
    if parent in NEVER_COMPLETES:
        assert decision == PARENT_LOST
    elif is_hopeless(mode, dependencies):
        assert decision == DEPENDENCY_LOST
    elif dependencies:
        assert decision == (OPEN if is_met(mode, dependencies) else None)
    elif parent is None:
        assert decision == (OPEN if age > 3600 * 10**6 else None)
    else:
        assert decision == (OPEN if parent == "completed" else None)


@given(st.text(max_size=110))
def test_queue_names(name):
    expected = (
        1 <= len(name) <= 100
        and name[0] not in "-."
        and all(char.isalnum() or char in "-_." for char in name)
    )
    assert is_queue_name(name) == expected


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)), st.integers(-1439, 1439))
def test_times_survive_the_way_through_the_database(naive, minutes):
    time = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    value = micros(time)
    assert value is not None
    assert moment(value) == time
    assert moment(value).tzinfo is UTC
    assert datetime.fromisoformat(text(value)) == time
    assert text(value).endswith("Z")


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        ("9999-12-31T23:59:59-23:00", False),
        ("0001-01-01T00:00:00+23:00", False),
        ("9999-12-31T23:59:59Z", True),
        ("0001-01-01T00:00:00Z", True),
    ],
)
def test_offsets_do_not_leave_the_years_that_can_be_written(time, inside):
    value = micros(datetime.fromisoformat(time))
    assert (value is not None) == inside
    if value is not None:
        assert moment(value) == datetime.fromisoformat(time)


@given(st.text(max_size=30))
def test_a_search_text_means_itself(searched):
    import sqlite3

    database = sqlite3.connect(":memory:")
    found = database.execute(
        r"SELECT ? LIKE ? ESCAPE '\'", ("x" + searched + "y", f"%{like_literal(searched)}%")
    )
    assert found.fetchone() == (1,)
    other = database.execute(r"SELECT ? LIKE ? ESCAPE '\'", ("", f"%{like_literal(searched)}%")).fetchone()
    database.close()
    assert other == (int(searched == "" or searched.startswith("\0")),)


@given(st.lists(st.floats(0, 10), max_size=40), st.floats(0.1, 50), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_burst_and_rate(waits, rate, capacity):
    bucket = Bucket(rate, capacity, float(capacity), 0.0)
    now, given_out = 0.0, 0
    for wait in waits:
        now += wait
        missing = bucket.take(now)
        given_out += missing == 0.0
        assert missing >= 0.0
        assert given_out <= capacity + now * rate + 1e-6
        if missing:
            assert Bucket(rate, capacity, bucket.tokens, now).take(now + missing + 1e-6) == 0.0


@given(st.lists(st.sampled_from(["*", "a", "b"]), max_size=3))
def test_scopes(queues):
    scope = scope_of(queues)
    assert (scope is None) == (not queues or "*" in queues)
    if scope is not None:
        assert scope == set(queues)


json_objects = st.dictionaries(st.text(max_size=3), st.integers(), max_size=4)


@given(json_objects, json_objects)
def test_settings_are_merged_one_level_deep(old, new):
    merged = merge_settings(old, new)
    assert set(merged) == set(old) | set(new)
    assert all(merged[name] == new.get(name, old.get(name)) for name in merged)


@given(
    st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.just("paused_at"), st.text())),
    st.integers(0, 2**50),
)
def test_a_pause_never_took_less_than_no_time(stored, now):
    assert paused_seconds(stored, now) >= 0


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_pause_is_counted_in_whole_seconds(start, length):
    assert paused_seconds({"paused_at": text(start)}, start + length) == length // 10**6


@pytest.mark.parametrize(
    ("complaint", "status", "code", "field", "detail"),
    [
        (
            "Object missing required field `queue_name`",
            422,
            "VALIDATION_ERROR",
            "queue_name",
            "missing_field",
        ),
        (
            "Object missing required field `payload` - at `$.jobs[3]`",
            422,
            "VALIDATION_ERROR",
            "jobs[3].payload",
            "missing_field",
        ),
        (
            "Expected `str`, got `int` - at `$.queue_name`",
            422,
            "VALIDATION_ERROR",
            "queue_name",
            "invalid_type",
        ),
        ("Expected `object`, got `array`", 422, "VALIDATION_ERROR", "body", "invalid_type"),
        (
            "Expected `str` of length <= 255 - at `$.worker_id`",
            400,
            "VALIDATION_ERROR",
            "worker_id",
            "length",
        ),
        ("Expected `int` <= 100 - at `$.priority`", 400, "VALIDATION_ERROR", "priority", "range"),
        (
            "Invalid RFC3339 encoded datetime - at `$.expires_at`",
            400,
            "INVALID_JSON",
            "expires_at",
            "invalid_json",
        ),
        (
            "Expected `datetime` with a timezone component - at `$.x`",
            400,
            "INVALID_JSON",
            "x",
            "invalid_json",
        ),
        (
            "Invalid enum value 'some' - at `$.dependency_mode`",
            400,
            "INVALID_JSON",
            "dependency_mode",
            "invalid_json",
        ),
        ("Integer value out of range - at `$.limit`", 400, "VALIDATION_ERROR", "limit", "range"),
    ],
)
def test_the_decoders_complaints_become_the_contracts_errors(complaint, status, code, field, detail):
    refusal = explain(complaint)
    assert (refusal.status, refusal.code) == (status, code)
    assert [(found["field"], found["code"]) for found in refusal.details] == [(field, detail)]
    assert "`" not in refusal.message


@given(st.integers(0, 1000), st.one_of(st.none(), st.integers(0, 1000)))
def test_a_usage_report_warns_from_half_of_a_cap(current, cap):
    report = usage_report({"active_jobs": current}, Limits(active_jobs=cap))
    used = report["usage"]["active_jobs"]
    assert used["is_disabled"] == (cap == 0)
    warned = [warning["resource"] for warning in report["warnings"]]
    assert (warned == ["active_jobs"]) == bool(cap and round(100.0 * current / cap, 2) >= 50)
