"""What the overview is made of."""

from __future__ import annotations

from typing import Any

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.page.conftest import Outside


@pytest.fixture
def server() -> Any:
    with EmbeddedServer(clock=ManualClock()) as running:
        yield running


def numbers(outside: Outside, since: int = 0) -> dict[str, Any]:
    url = outside.http.base_url.join("/page/numbers")
    answer = outside.http.get(url, params={"since": since})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def queue(outside: Outside, name: str = "mail") -> dict[str, Any]:
    (found,) = (one for one in numbers(outside)["queues"] if one["queue_name"] == name)
    return dict(found)


def test_an_empty_server(outside: Outside):
    found = numbers(outside)
    assert (found["queues"], found["workers_alive"], found["workers_total"]) == ([], 0, 0)


def test_jobs_are_counted_by_queue_and_status(outside: Outside):
    outside.create("mail", scheduled_at="2999-01-01T00:00:00Z")
    for _ in range(3):
        outside.create("mail")
    outside.claim()
    outside.ack("complete", outside.claim())
    outside.bury("other")
    assert queue(outside)["counts"] == {"pending": 1, "scheduled": 1, "processing": 1, "completed": 1}
    assert queue(outside, "other")["counts"] == {"deadletter": 1}
    assert numbers(outside)["counts"] == {
        "pending": 1,
        "scheduled": 1,
        "processing": 1,
        "completed": 1,
        "deadletter": 1,
    }


def test_the_oldest_waiting_job_is_the_one_that_could_have_run(server: EmbeddedServer, outside: Outside):
    outside.create("mail", scheduled_at="2999-01-01T00:00:00Z")
    assert queue(outside)["waiting_since"] is None
    server.advance(60)
    job_id = outside.create("mail")
    server.advance(60)
    outside.create("mail")
    assert queue(outside)["waiting_since"] == outside.call("GET", f"/jobs/{job_id}")["created_at"]
    # A job that failed waits from the end of its back-off on.
    outside.ack("fail", outside.claim(), error="no")
    outside.claim()
    assert queue(outside)["waiting_since"] is None
    server.advance(59)
    failed = outside.call("GET", f"/jobs/{job_id}")
    assert queue(outside)["waiting_since"] == failed["scheduled_at"]


def test_the_pace_is_told_in_buckets_and_later_only_its_end(server: EmbeddedServer, outside: Outside):
    outside.create("mail")
    first = numbers(outside)
    assert first["pace_buckets"] == 31
    assert sum(first["queues"][0]["created"].values()) == 1
    server.advance(20)
    outside.ack("complete", outside.claim())
    last = first["pace_from"] + 30 * first["pace_seconds"]
    rest = numbers(outside, since=last)
    assert (rest["pace_from"], rest["pace_buckets"]) == (last, 3)
    assert rest["queues"][0]["completed"] == {"2": 1}
    assert rest["queues"][0]["created"] == {"0": 1}
    # A clock that is ahead gets the present bucket, and one that is wrong is told so.
    assert numbers(outside, since=2**39)["pace_buckets"] == 1
    assert outside.http.get(outside.http.base_url.join("/page/numbers?since=x")).status_code == 400


def test_paused_queues_and_workers_alive(server: EmbeddedServer, outside: Outside):
    outside.create("mail")
    outside.call("POST", "/queues/mail/pause", {"reason": "migration"})
    outside.call("POST", "/workers/register", {"queue_name": "mail", "hostname": "h"}, 201)
    found = queue(outside)
    assert (found["paused"], found["paused_reason"], found["workers_alive"]) == (True, "migration", 1)
    outside.call("PUT", "/queues/mail/config", {"enabled": False, "settings": {"paused_reason": 7}})
    assert queue(outside)["paused_reason"] is None
    server.advance(121)
    assert numbers(outside)["workers_alive"] == 0
    assert numbers(outside)["workers_total"] == 1
