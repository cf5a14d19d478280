"""Messages as jobs: what Spooled has a place for goes there."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from spooled_contrib.kombu._envelope import (
    LONGEST,
    from_spooled_priority,
    message_of,
    parameters,
    task_fields,
    to_spooled_priority,
)

ETA = "2030-01-02T03:04:05+00:00"


def message(headers: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "body": "[[1], {}, {}]",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers or {},
        "properties": {"delivery_tag": "tag", "delivery_info": {}, **properties},
    }


def test_a_task_with_everything() -> None:
    headers = {
        "task": "shop.mail",
        "id": "id-1",
        "root_id": "root-1",
        "eta": ETA,
        "expires": "2030-01-02T04:04:05+00:00",
        "timelimit": [30, 20],
    }
    sent = message(headers, priority=7)
    job = parameters("celery", sent, 5)
    assert job == {
        "queue_name": "celery",
        "payload": {"job_type": "shop.mail", "kombu": sent},
        "priority": 70,
        "max_retries": 5,
        "timeout_seconds": 31,
        "idempotency_key": "tag:celery",
        "scheduled_at": dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "expires_at": dt.datetime(2030, 1, 2, 4, 4, 5, tzinfo=dt.UTC),
        "tags": ["task:shop.mail", "id:id-1", "root:root-1"],
    }


def test_a_plain_message() -> None:
    job = parameters("q", message(), 0)
    assert job["payload"].keys() == {"kombu"}
    assert (job["priority"], job["timeout_seconds"]) == (0, LONGEST)
    assert not {"scheduled_at", "expires_at", "tags"} & set(job)


@pytest.mark.parametrize("value", [None, "", "soon", [], True])
def test_times_that_make_no_sense_are_left_out(value: Any) -> None:
    job = parameters("q", message({"task": "t", "eta": value, "expires": value}), 0)
    assert not {"scheduled_at", "expires_at"} & set(job)


@pytest.mark.parametrize("expires", [0, 1_900_000_000.5])
def test_headers_of_what_is_no_task_are_somebody_elses(expires: float) -> None:
    """Remote control says with `expires` until when it waits for an answer, and with 0 that it waits for none."""
    assert "expires_at" not in parameters("q", message({"clock": 1, "expires": expires}), 0)


def test_times_without_an_offset_are_local_and_numbers_are_epochs() -> None:
    local = parameters("q", message({"task": "t", "eta": "2030-01-02T03:04:05"}), 0)["scheduled_at"]
    assert local == dt.datetime(2030, 1, 2, 3, 4, 5).astimezone()
    epoch = parameters("q", message({"task": "t", "expires": 1_900_000_000}), 0)["expires_at"]
    assert epoch.timestamp() == 1_900_000_000


def test_the_time_to_live_of_a_message_ends_when_it_did_after_a_requeue() -> None:
    before = dt.datetime.now(dt.UTC)
    job = parameters("q", message(expiration="2000"), 0)
    assert before <= job["expires_at"] - dt.timedelta(seconds=2) <= dt.datetime.now(dt.UTC)
    again = parameters("q", job["payload"]["kombu"], 0)
    assert again["expires_at"] == job["expires_at"]
    # A task's own moment counts, when both are there.
    both = parameters("q", message({"task": "t", "expires": "2030-01-02T03:04:05Z"}, expiration="2000"), 0)
    assert both["expires_at"] == dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize("value", [None, "", "soon", [], True, "-5", "9" * 30])
def test_times_to_live_that_make_no_sense_are_left_out(value: Any) -> None:
    assert "expires_at" not in parameters("q", message(expiration=value), 0)


@pytest.mark.parametrize("priority", range(10))
def test_priorities_map_both_ways(priority: int) -> None:
    assert from_spooled_priority(to_spooled_priority(priority)) == priority


def test_odd_priorities() -> None:
    assert [to_spooled_priority(value) for value in (None, "x", True, -3, 12, 5.9)] == [0, 0, 0, 0, 90, 50]
    assert [from_spooled_priority(value) for value in (-100, -1, 5, 99, 100)] == [0, 0, 0, 9, 9]


def test_a_message_comes_back_with_a_tag_of_this_delivery() -> None:
    sent = message({"task": "t"}, delivery_info={"exchange": "e", "routing_key": "r"})
    got = message_of(parameters("q", sent, 0)["payload"], redelivered=True, tag="lease")
    assert got["body"] == sent["body"]
    assert got["properties"]["delivery_tag"] == "lease"
    assert got["properties"]["delivery_info"] == {"exchange": "e", "routing_key": "r", "redelivered": True}
    assert sent["properties"]["delivery_tag"] == "tag"


def test_headers_keep_the_types_that_kombu_knows() -> None:
    headers = {
        "when": dt.datetime(2030, 1, 2, tzinfo=dt.UTC),
        "who": [uuid.UUID(int=1)],
        "price": Decimal("1.5"),
        "raw": b"\xff",
        "text": "plain",
    }
    job = parameters("q", message(headers), 0)
    stored = json.loads(json.dumps(job["payload"]))  # nothing but JSON
    assert stored["kombu"]["headers"]["text"] == "plain"
    assert message_of(stored, redelivered=False, tag="lease")["headers"] == headers
    again = parameters("q", stored["kombu"], 0)
    assert message_of(again["payload"], redelivered=True, tag="lease")["headers"] == headers


def test_headers_of_unknown_types_are_left_to_the_client_and_to_the_consumer() -> None:
    odd = {"x": object()}
    assert parameters("q", message(odd), 0)["payload"]["kombu"]["headers"] == odd
    foreign = {"x": {"__type__": "theirs", "__value__": 1}}
    got = message_of({"kombu": message(foreign)}, redelivered=False, tag="lease")
    assert got["headers"] == foreign


def test_what_others_enqueued_is_a_message_too() -> None:
    got = message_of({"to": "ada"}, priority=50, redelivered=False, tag="lease")
    assert (got["body"], got["content-type"]) == ('{"to": "ada"}', "application/json")
    assert got["properties"]["priority"] == 5


def test_protocol_1_is_read_where_it_is_json() -> None:
    fields = {"task": "shop.mail", "id": "id-1", "args": [1], "kwargs": {}, "retries": 2, "eta": ETA}
    fields |= {"timelimit": [30, None], "expires": None}
    sent = {**message(correlation_id="id-1", reply_to=""), "body": json.dumps(fields)}
    job = parameters("celery", sent, 5)
    assert job["tags"] == ["task:shop.mail", "id:id-1"]
    assert (job["payload"]["job_type"], job["timeout_seconds"]) == ("shop.mail", 31)
    assert job["scheduled_at"] == dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert task_fields(job["payload"]) == {"task": "shop.mail", "id": "id-1", "retries": 2}
    # Given back, it is the same.
    assert parameters("celery", job["payload"]["kombu"], 5)["tags"] == job["tags"]


def test_protocol_1_in_another_serializer_has_its_id_at_least() -> None:
    sent = {**message(correlation_id="id-1", reply_to=""), "body": "gAR9", "content-type": "application/x"}
    job = parameters("celery", sent, 5)
    assert job["tags"] == ["id:id-1"]
    assert task_fields(job["payload"]) == {"id": "id-1"}


@pytest.mark.parametrize("body", ["{", "[1]", "{}", '{"task": "x"}', '{"task": "x", "id": "other"}'])
def test_a_message_that_only_looks_like_protocol_1_is_no_task(body: str) -> None:
    sent = {**message(correlation_id="id-1", reply_to=""), "body": body}
    job = parameters("celery", sent, 5)
    assert task_fields(job["payload"]) in ({}, {"id": "id-1"})
    assert "job_type" not in job["payload"]


@pytest.mark.parametrize(
    "payload", [None, 3, [], {}, {"kombu": 1}, {"kombu": {"headers": 1, "properties": 2}}]
)
def test_what_is_no_message_has_no_task(payload: Any) -> None:
    assert task_fields(payload) == {}
