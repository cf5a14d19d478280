"""Contract section 3.7 and lifecycle section 2: which jobs a claim gets, in which order."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest


def test_a_claimed_job_has_the_contracts_members_and_nothing_else(timed):
    job_id = timed.create(payload={"n": 1}, tags=["x"], priority=4)
    job = timed.claim_one(lease=60)
    lease_id = job.pop("lease_id")
    assert job == {
        "id": job_id,
        "queue_name": "mail",
        "payload": {"n": 1},
        "retry_count": 0,
        "max_retries": 3,
        "timeout_seconds": 300,
        "lease_expires_at": "2026-01-01T00:01:00Z",
    }
    prefix, suffix = lease_id[:36], lease_id[36:]
    uuid.UUID(prefix)
    assert suffix == f"-{job_id}"


def test_a_claim_marks_the_job(timed):
    job_id = timed.create()
    job = timed.claim_one(worker="w9")
    row = timed.job(job_id)
    assert (row["status"], row["assigned_worker_id"], row["lease_id"]) == (
        "processing",
        "w9",
        job["lease_id"],
    )
    assert row["started_at"] == row["updated_at"] == "2026-01-01T00:00:00Z"
    assert row["lease_expires_at"] == "2026-01-01T00:00:30Z"


def test_the_lease_is_30_seconds_and_one_job_unless_asked(timed):
    timed.create()
    timed.create()
    (job,) = timed.post("/jobs/claim", {"queue_name": "mail", "worker_id": "w"}).json()["jobs"]
    assert job["lease_expires_at"] == "2026-01-01T00:00:30Z"


def test_every_lease_is_its_own(api):
    api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 5})
    assert len({job["lease_id"] for job in api.claim(limit=5)}) == 5


def test_priority_goes_first_then_age_then_the_order_of_arrival(timed):
    old_low, first, second = timed.create(priority=-1), timed.create(), timed.create()
    timed.server.advance(1)
    young, urgent = timed.create(), timed.create(priority=100)
    assert [timed.claim_one()["id"] for _ in range(5)] == [urgent, first, second, young, old_low]


def test_one_claim_takes_the_same_jobs_as_many(timed):
    made = [timed.create(priority=p) for p in (0, 5, -5, 5)]
    assert [job["id"] for job in timed.claim(limit=3)] == [made[1], made[3], made[0]]


def test_a_retried_job_keeps_its_place_by_age(timed):
    old = timed.create()
    timed.fail(timed.claim_one())
    timed.server.advance(1)
    young = timed.create()
    timed.server.advance(1)
    assert [timed.claim_one()["id"] for _ in range(2)] == [old, young]


def test_a_delayed_job_sorts_by_its_creation_once_due(timed):
    delayed = timed.create(scheduled_at="2026-01-01T00:00:10Z")
    timed.server.advance(1)
    young = timed.create()
    assert timed.claim_one()["id"] == young
    timed.server.advance(9)
    timed.create()
    assert timed.claim_one()["id"] == delayed


def test_a_delayed_job_is_claimable_at_its_very_instant_before_any_sweep(timed):
    job_id = timed.create(scheduled_at="2026-01-01T00:00:10Z")
    timed.server.clock.advance(9.999999)
    assert timed.claim() == []
    timed.server.clock.advance(0.000001)
    assert timed.status(job_id) == "scheduled"
    assert timed.claim_one()["id"] == job_id


def test_a_changed_priority_changes_the_order(api):
    first, second = api.create(), api.create()
    assert api.put(f"/jobs/{second}/priority", {"priority": 1}).status_code == 200
    assert [api.claim_one()["id"] for _ in range(2)] == [second, first]


def test_an_expired_job_is_never_claimed_before_any_sweep(timed):
    timed.create(expires_at="2026-01-01T00:00:10Z")
    timed.create(expires_at="2026-01-01T00:00:11Z", payload="later")
    timed.server.clock.advance(10)
    assert [job["payload"] for job in timed.claim(limit=10)] == ["later"]


@pytest.mark.parametrize("queue", ["unknown", "other"])
def test_a_claim_takes_from_its_queue_only(api, queue):
    api.create("mail")
    assert api.claim(queue) == []


def test_a_worker_need_not_be_registered(api):
    api.create()
    assert api.claim_one(worker="any text at all ☺")["retry_count"] == 0


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("limit", 0),
        ("limit", 101),
        ("lease_duration_secs", 4),
        ("lease_duration_secs", 3601),
        ("worker_id", ""),
        ("worker_id", "w" * 256),
        ("worker_id", "a\u0000"),
    ],
)
def test_a_field_out_of_range_is_a_validation_error(api, field, bad):
    api.create()
    response = api.post("/jobs/claim", {"queue_name": "mail", "worker_id": "w", field: bad})
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == field
    assert api.get("/jobs/stats").json()["pending"] == 1


@pytest.mark.parametrize("field", ["queue_name", "worker_id"])
def test_queue_and_worker_must_be_named(api, field):
    body = {"queue_name": "mail", "worker_id": "w"}
    del body[field]
    assert api.post("/jobs/claim", body).status_code == 422


def test_claimers_never_share_a_job(api):
    for _ in range(3):
        api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 100})

    def drain(worker):
        taken = []
        while jobs := api.claim(worker=f"w{worker}", limit=7):
            taken += [job["id"] for job in jobs]
        return taken

    with ThreadPoolExecutor(6) as threads:
        taken = [job for jobs in threads.map(drain, range(6)) for job in jobs]
    assert len(taken) == len(set(taken)) == 300


def test_a_crowd_of_delayed_and_waiting_jobs_does_not_hide_a_claimable_one(timed):
    for _ in range(2):
        timed.post(
            "/jobs/bulk",
            {
                "queue_name": "mail",
                "default_priority": 50,
                "jobs": [{"payload": 1, "scheduled_at": "2026-02-01T00:00:00Z"}] * 100,
            },
        )
    wanted = timed.create(priority=-100)
    assert [job["id"] for job in timed.claim(limit=100)] == [wanted]
