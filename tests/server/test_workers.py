"""Contract section 5 and lifecycle section 10: the register of workers."""

from __future__ import annotations

import pytest


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def worker(timed):
    return register(
        timed, worker_id="w1", worker_type="python", max_concurrency=8, metadata={"a": 1}, version="1.0"
    )


def register(api, **fields):
    response = api.post("/workers/register", {"queue_name": "mail", "hostname": "host-1.local", **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


def test_registering_tells_the_lease_and_the_beat(api):
    response = api.post("/workers/register", {"queue_name": "mail", "hostname": "h"})
    body = response.json()
    assert len(body.pop("id")) == 36
    assert body.pop("settle") == {"max": 100}  # beyond the contract; other clients ignore it
    assert body == {"queue_name": "mail", "lease_duration_secs": 30, "heartbeat_interval_secs": 10}


def test_a_worker_has_the_contracts_members(timed, worker):
    assert timed.get(f"/workers/{worker}").json() == {
        "id": "w1",
        "organization_id": timed.organization_id,
        "queue_name": "mail",
        "queue_names": ["mail"],
        "hostname": "host-1.local",
        "worker_type": "python",
        "max_concurrency": 8,
        "current_jobs": 0,
        "status": "healthy",
        "last_heartbeat": "2026-01-01T00:00:00Z",
        "metadata": {"a": 1},
        "version": "1.0",
        "registered_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "jobs_processed": 0,
        "jobs_failed": 0,
    }


def test_the_list_has_the_freshest_heartbeat_first_and_offline_workers_too(timed, worker):
    timed.server.advance(1)
    register(timed, worker_id="w2")
    timed.post("/workers/w2/deregister")
    listed = timed.get("/workers").json()
    assert [(found["id"], found["status"]) for found in listed] == [("w2", "offline"), ("w1", "healthy")]
    assert set(listed[0]) == {
        "id",
        "queue_name",
        "hostname",
        "status",
        "current_jobs",
        "max_concurrency",
        "last_heartbeat",
        "jobs_processed",
        "jobs_failed",
    }


def test_registering_again_refreshes_everything(timed, worker):
    timed.post("/workers/w1/heartbeat", {"current_jobs": 3, "status": "draining"})
    timed.server.advance(5)
    register(timed, worker_id="w1", queue_name="other", hostname="h2", max_concurrency=2)
    found = timed.get("/workers/w1").json()
    assert (found["queue_name"], found["hostname"], found["max_concurrency"]) == ("other", "h2", 2)
    assert (found["status"], found["metadata"], found["version"], found["worker_type"]) == (
        "healthy",
        {},
        None,
        None,
    )
    assert found["last_heartbeat"] == "2026-01-01T00:00:05Z"
    assert found["registered_at"] == "2026-01-01T00:00:00Z"


def test_an_id_of_another_organization_is_a_conflict(api, stranger):
    mine = register(api)
    response = stranger.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": mine})
    assert refused(response) == (409, "CONFLICT")


@pytest.mark.parametrize("hostname", ["h", "A-1_b.example.com", "x" * 255, "höst"])
def test_hostnames_are_letters_digits_and_three_signs(api, hostname):
    worker_id = register(api, hostname=hostname)
    assert api.get(f"/workers/{worker_id}").json()["hostname"] == hostname


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("hostname", ""),
        ("hostname", "x" * 256),
        ("hostname", "a b"),
        ("hostname", ".a"),
        ("hostname", "a-"),
        ("hostname", "a\u0000"),
        ("queue_name", "a b"),
        ("worker_id", ""),
        ("worker_id", "x" * 129),
        ("worker_id", "a/b"),
        ("worker_id", "a\n"),
        ("worker_type", "x" * 51),
        ("version", "x" * 51),
        ("max_concurrency", 0),
        ("max_concurrency", 101),
        ("metadata", {"x": "y" * 65_536}),
    ],
)
def test_a_registration_out_of_range_is_a_validation_error(api, field, bad):
    response = api.post("/workers/register", {"queue_name": "mail", "hostname": "h", field: bad})
    assert refused(response) == (400, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == field


@pytest.mark.parametrize("field", ["queue_name", "hostname"])
def test_queue_and_host_must_be_named(api, field):
    body = {"queue_name": "mail", "hostname": "h"}
    del body[field]
    assert refused(api.post("/workers/register", body)) == (422, "VALIDATION_ERROR")


class TestAHeartbeat:
    def test_has_an_empty_answer(self, timed, worker):
        response = timed.post("/workers/w1/heartbeat", {"current_jobs": 0})
        assert (response.status_code, response.content) == (200, b"")
        assert "content-type" not in response.headers

    def test_tells_jobs_status_and_metadata(self, timed, worker):
        timed.server.advance(7)
        timed.post("/workers/w1/heartbeat", {"current_jobs": 5, "status": "degraded", "metadata": {"b": 2}})
        found = timed.get("/workers/w1").json()
        assert (found["current_jobs"], found["status"], found["metadata"]) == (5, "degraded", {"b": 2})
        assert found["last_heartbeat"] == "2026-01-01T00:00:07Z"

    @pytest.mark.parametrize(
        ("before", "after"),
        [("healthy", "healthy"), ("degraded", "degraded"), ("draining", "draining"), ("offline", "healthy")],
    )
    def test_without_a_status_keeps_it_unless_offline(self, timed, worker, before, after):
        timed.post("/workers/w1/heartbeat", {"current_jobs": 0, "status": before})
        timed.post("/workers/w1/heartbeat", {"current_jobs": 0})
        found = timed.get("/workers/w1").json()
        assert (found["status"], found["metadata"]) == (after, {"a": 1})

    def test_of_an_unknown_worker_is_not_found(self, api):
        assert refused(api.post("/workers/nobody/heartbeat", {"current_jobs": 0})) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 422),
            ({"current_jobs": -1}, 400),
            ({"current_jobs": 1001}, 400),
            ({"current_jobs": 0, "status": "sleepy"}, 400),
        ],
    )
    def test_is_checked(self, timed, worker, body, status):
        assert timed.post("/workers/w1/heartbeat", body).status_code == status

    def test_does_not_extend_leases(self, timed, worker):
        job_id = timed.create()
        timed.claim_one(lease=30)
        timed.server.advance(20)
        timed.post("/workers/w1/heartbeat", {"current_jobs": 1})
        timed.server.advance(10)
        assert timed.status(job_id) == "pending"


class TestDeregistering:
    def test_marks_the_worker_and_can_be_repeated(self, timed, worker):
        for _ in range(2):
            response = timed.http.post("/workers/w1/deregister")
            assert (response.status_code, response.content) == (204, b"")
        assert timed.get("/workers/w1").json()["status"] == "offline"

    def test_leaves_live_leases_alone(self, timed, worker):
        job_id = timed.create()
        job = timed.claim_one(lease=30)
        timed.post("/workers/w1/deregister")
        timed.server.advance(29)
        assert timed.status(job_id) == "processing"
        assert timed.complete(job).status_code == 200

    def test_an_unknown_worker_is_not_found(self, api):
        assert refused(api.post("/workers/nobody/deregister")) == (404, "NOT_FOUND")


class TestASilentWorker:
    @pytest.mark.parametrize("status", ["healthy", "degraded"])
    def test_is_offline_after_more_than_two_minutes(self, timed, worker, status):
        timed.post("/workers/w1/heartbeat", {"current_jobs": 1, "status": status})
        timed.server.advance(120)
        assert timed.get("/workers/w1").json()["status"] == status
        timed.server.advance(0.000001)
        assert timed.get("/workers/w1").json()["status"] == "offline"

    def test_that_was_draining_is_never_reaped(self, timed, worker):
        timed.post("/workers/w1/heartbeat", {"current_jobs": 1, "status": "draining"})
        timed.server.advance(3600)
        assert timed.get("/workers/w1").json()["status"] == "draining"

    def test_keeps_jobs_whose_lease_is_live(self, timed, worker):
        kept, lost = timed.create(priority=1), timed.create()
        job = timed.claim_one(lease=3600)
        timed.claim_one(lease=60)
        timed.server.advance(300)
        assert timed.get("/workers/w1").json()["status"] == "offline"
        assert (timed.status(kept), timed.status(lost)) == ("processing", "pending")
        assert timed.complete(job).status_code == 200


def test_completions_and_reported_failures_are_counted(timed, worker):
    timed.post("/jobs/bulk", {"queue_name": "mail", "default_max_retries": 0, "jobs": [{"payload": 1}] * 4})
    first, second, third, _ = timed.claim(limit=4, lease=30)
    timed.complete(first)
    timed.complete(first)
    timed.complete(second)
    timed.fail(third)
    timed.server.advance(30)
    found = timed.get("/workers/w1").json()
    assert (found["jobs_processed"], found["jobs_failed"]) == (2, 1)
