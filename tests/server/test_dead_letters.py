"""Contract section 3.8: the dead-letter queue."""

from __future__ import annotations

import pytest


def ids(response):
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()]


def refused(response):
    return response.status_code, response.json()["code"]


def test_lists_dead_letters_only_newest_first(api):
    first, second = api.bury(), api.bury("other")
    api.create()
    response = api.get("/jobs/dlq")
    assert ids(response) == [second, first]
    assert response.headers["x-has-more"] == "false"
    assert response.json()[0]["status"] == "deadletter"
    assert ids(api.get("/jobs/dlq", queue_name="other")) == [second]
    assert ids(api.get("/jobs/dlq", limit=1, offset=1)) == [first]
    assert ids(api.get("/jobs/dlq", status="pending")) == [second, first]


class TestRetry:
    def test_revives_the_oldest_first(self, api):
        buried = [api.bury() for _ in range(3)]
        response = api.post("/jobs/dlq/retry", {"limit": 2})
        assert response.json() == {"retried_count": 2, "retried_jobs": buried[:2], "skipped_jobs": []}
        row = api.job(buried[0])
        assert (row["status"], row["retry_count"], row["last_error"]) == ("pending", 0, None)
        assert api.status(buried[2]) == "deadletter"
        assert api.claim_one()["id"] == buried[0]

    def test_takes_named_jobs_before_a_queue(self, api):
        here, there = api.bury("here"), api.bury("there")
        response = api.post("/jobs/dlq/retry", {"queue_name": "here", "job_ids": [there, "unknown"]})
        assert response.json()["retried_jobs"] == [there]
        assert api.status(here) == "deadletter"

    def test_takes_one_queue(self, api):
        here = api.bury("here")
        api.bury("there")
        assert api.post("/jobs/dlq/retry", {"queue_name": "here"}).json()["retried_jobs"] == [here]

    def test_of_jobs_that_are_not_dead_does_nothing(self, api):
        job_id = api.create()
        assert api.post("/jobs/dlq/retry", {"job_ids": [job_id]}).json()["retried_count"] == 0
        assert api.post("/jobs/dlq/retry", {"job_ids": []}).json()["retried_count"] == 0

    @pytest.mark.parametrize(
        "body", [{"job_ids": ["x"] * 101}, {"job_ids": ["x", "y"], "limit": 1}, {"limit": 0}, {"limit": 101}]
    )
    def test_has_a_limit_of_100(self, api, body):
        assert refused(api.post("/jobs/dlq/retry", body)) == (400, "VALIDATION_ERROR")

    def test_needs_a_body(self, api):
        response = api.http.post("/jobs/dlq/retry", headers={"content-type": "application/json"})
        assert refused(response) == (400, "INVALID_JSON")

    def test_gates_waiting_children_again(self, timed):
        parent = timed.create(max_retries=0, priority=1)
        child = timed.create(parent_job_id=parent)
        timed.fail(timed.claim_one())
        timed.post("/jobs/dlq/retry")
        timed.server.advance(10)
        assert timed.job(child)["dependencies_met"] is False
        assert timed.status(child) == "pending"
        timed.complete(timed.claim_one())
        assert timed.claim_one()["id"] == child


class TestPurge:
    def test_deletes_dead_letters_and_nothing_else(self, api):
        api.bury()
        api.bury("other")
        waiting = api.create()
        assert api.post("/jobs/dlq/purge", {"confirm": True}).json() == {"purged_count": 2}
        assert ids(api.get("/jobs")) == [waiting]

    def test_can_be_limited_to_a_queue_an_age_and_a_number(self, timed):
        old = timed.bury()
        timed.server.advance(10)
        young, other = timed.bury(), timed.bury("other")
        purge = {"confirm": True, "queue_name": "mail", "older_than": "2026-01-01T00:00:10Z"}
        assert timed.post("/jobs/dlq/purge", purge).json() == {"purged_count": 1}
        assert timed.get(f"/jobs/{old}").status_code == 404
        assert timed.post("/jobs/dlq/purge", {"confirm": True, "limit": 1}).json() == {"purged_count": 1}
        assert timed.get(f"/jobs/{young}").status_code == 404
        assert timed.status(other) == "deadletter"

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, (422, "VALIDATION_ERROR")),
            ({"confirm": False}, (400, "BAD_REQUEST")),
            ({"confirm": "true"}, (422, "VALIDATION_ERROR")),
            ({"confirm": True, "limit": 10_001}, (400, "VALIDATION_ERROR")),
            ({"confirm": True, "older_than": "long ago"}, (400, "INVALID_JSON")),
        ],
    )
    def test_must_be_confirmed_and_well_formed(self, api, body, expected):
        job_id = api.bury()
        assert refused(api.post("/jobs/dlq/purge", body)) == expected
        assert api.status(job_id) == "deadletter"
