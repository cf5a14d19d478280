"""Lifecycle sections 1, 3, 7, 8, 10 and 14: what clients and time do to jobs."""

from __future__ import annotations

import sqlite3

import pytest


def refused(response):
    return response.status_code, response.json()["code"]


class TestALostLease:
    def test_gives_the_job_back_at_once_and_costs_a_retry(self, timed):
        job_id = timed.create()
        timed.claim_one(lease=30)
        timed.server.advance(30)
        row = timed.job(job_id)
        assert (row["status"], row["retry_count"]) == ("pending", 1)
        assert row["last_error"] == "Lease expired (worker timeout)"
        assert (row["assigned_worker_id"], row["lease_id"], row["lease_expires_at"]) == (None, None, None)
        assert row["scheduled_at"] is None
        assert timed.claim_one()["retry_count"] == 1

    def test_is_not_noticed_before_its_end(self, timed):
        job_id = timed.create()
        timed.claim_one(lease=30)
        timed.server.advance(29.999)
        assert timed.status(job_id) == "processing"

    def test_buries_the_job_when_no_retry_is_left(self, timed):
        job_id = timed.create(max_retries=1)
        for _ in range(2):
            timed.claim_one(lease=30)
            timed.server.advance(30)
        row = timed.job(job_id)
        assert (row["status"], row["retry_count"]) == ("deadletter", 1)
        assert row["last_error"] == "Max retries exceeded after lease expiration"
        assert row["completed_at"] is None

    def test_is_told_in_the_history(self, timed):
        job_id = timed.create(max_retries=1)
        lease_id = timed.claim_one(lease=30)["lease_id"]
        timed.server.advance(30)
        timed.claim_one(lease=30)
        timed.server.advance(30)
        events = timed.get(f"/jobs/{job_id}/history").json()
        assert [event["event_type"] for event in events][1:] == [
            "claimed",
            "lease_expired",
            "claimed",
            "deadlettered",
        ]
        assert events[2]["details"]["lease_id"] == lease_id
        assert events[2]["worker_id"] == "w1"

    def test_does_not_touch_leases_that_were_kept(self, timed):
        kept, lost = timed.create(), timed.create()
        first, _ = timed.claim(limit=2, lease=30)
        timed.server.advance(20)
        timed.ack("heartbeat", first)
        timed.server.advance(10)
        assert (timed.status(kept), timed.status(lost)) == ("processing", "pending")

    def test_keeps_the_time_of_an_earlier_back_off_without_adding_one(self, timed):
        job_id = timed.create()
        timed.fail(timed.claim_one())
        timed.server.advance(2)
        timed.claim_one(lease=30)
        before = timed.job(job_id)["scheduled_at"]
        timed.server.advance(30)
        assert timed.job(job_id)["scheduled_at"] == before
        assert timed.claim_one()["id"] == job_id


class TestAScheduledJob:
    def test_becomes_pending_when_its_time_comes(self, timed):
        job_id = timed.create(scheduled_at="2026-01-01T00:00:10Z")
        timed.server.advance(9)
        assert timed.status(job_id) == "scheduled"
        timed.server.advance(1)
        assert timed.status(job_id) == "pending"
        assert timed.job(job_id)["scheduled_at"] == "2026-01-01T00:00:10Z"


class TestAnExpiredJob:
    @pytest.mark.parametrize("state", ["pending", "scheduled", "deadletter"])
    def test_is_deleted_when_nobody_runs_or_finished_it(self, timed, state):
        fields = {"expires_at": "2026-01-01T00:01:00Z"}
        job_id = {
            "pending": lambda: timed.create(**fields),
            "scheduled": lambda: timed.create(scheduled_at="2027-01-01T00:00:00Z", **fields),
            "deadletter": lambda: timed.bury(**fields),
        }[state]()
        timed.server.advance(59)
        assert timed.status(job_id) == state
        timed.server.advance(1)
        assert timed.get(f"/jobs/{job_id}").status_code == 404
        assert timed.get(f"/jobs/{job_id}/history").status_code == 404

    def test_may_still_be_completed_by_who_runs_it(self, timed):
        job_id = timed.create(expires_at="2026-01-01T00:00:10Z")
        job = timed.claim_one(lease=60)
        timed.server.advance(20)
        assert timed.complete(job).status_code == 200
        timed.server.advance(60)
        assert timed.status(job_id) == "completed"

    def test_is_deleted_when_it_fails_back(self, timed):
        job_id = timed.create(expires_at="2026-01-01T00:00:10Z")
        job = timed.claim_one(lease=60)
        timed.server.advance(20)
        assert timed.fail(job).status_code == 200
        timed.server.advance(0)
        assert timed.get(f"/jobs/{job_id}").status_code == 404


class TestCancelling:
    def test_a_waiting_job_ends_it(self, timed):
        job_id, later = timed.create(), timed.create(scheduled_at="2027-01-01T00:00:00Z")
        timed.server.advance(1)
        for target in (job_id, later):
            response = timed.delete(f"/jobs/{target}")
            assert (response.status_code, response.content) == (204, b"")
            row = timed.job(target)
            assert (row["status"], row["completed_at"]) == ("cancelled", "2026-01-01T00:00:01Z")
        assert timed.claim(limit=10) == []

    def test_a_job_that_waits_for_its_next_try_ends_it(self, timed):
        job_id = timed.create()
        timed.fail(timed.claim_one())
        assert timed.delete(f"/jobs/{job_id}").status_code == 204
        timed.server.advance(10)
        assert timed.claim() == []

    @pytest.mark.parametrize("state", ["processing", "completed", "cancelled", "deadletter"])
    def test_any_other_job_is_a_conflict(self, api, state):
        job_id = api.create(max_retries=0)
        if state == "cancelled":
            api.delete(f"/jobs/{job_id}")
        else:
            job = api.claim_one()
            if state == "completed":
                api.complete(job)
            elif state == "deadletter":
                api.fail(job)
        assert refused(api.delete(f"/jobs/{job_id}")) == (409, "CONFLICT")
        assert api.status(job_id) == state

    def test_an_unknown_job_is_not_found(self, api):
        assert refused(api.delete("/jobs/x")) == (404, "NOT_FOUND")


class TestRetryingByHand:
    def test_gives_a_dead_job_all_its_tries_back(self, timed):
        job_id = timed.create(max_retries=1)
        timed.fail(timed.claim_one())
        timed.server.advance(2)
        timed.fail(timed.claim_one())
        before = timed.job(job_id)
        timed.server.advance(5)
        response = timed.post(f"/jobs/{job_id}/retry")
        assert response.status_code == 200
        row = response.json()
        assert (row["status"], row["retry_count"], row["last_error"]) == ("pending", 0, None)
        for untouched in ("scheduled_at", "started_at", "completed_at", "result", "created_at"):
            assert row[untouched] == before[untouched]
        assert timed.claim_one()["id"] == job_id

    @pytest.mark.parametrize("state", ["pending", "processing", "completed", "cancelled"])
    def test_any_other_job_is_a_conflict(self, api, state):
        job_id = api.create()
        if state == "cancelled":
            api.delete(f"/jobs/{job_id}")
        elif state != "pending":
            job = api.claim_one()
            if state == "completed":
                api.complete(job)
        assert refused(api.post(f"/jobs/{job_id}/retry")) == (409, "CONFLICT")
        assert api.status(job_id) == state

    def test_needs_no_body(self, api):
        assert api.http.post(f"/jobs/{api.bury()}/retry").status_code == 200


class TestAPriority:
    def test_is_set_not_added(self, api):
        job_id = api.create(priority=5)
        response = api.put(f"/jobs/{job_id}/priority", {"priority": -7})
        assert response.json() == {"job_id": job_id, "old_priority": 5, "new_priority": -7}
        assert api.job(job_id)["priority"] == -7

    def test_of_a_job_that_does_not_wait_is_not_found(self, api):
        job_id = api.create()
        api.claim_one()
        assert refused(api.put(f"/jobs/{job_id}/priority", {"priority": 1})) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("body", "status"), [({}, 422), ({"priority": 101}, 400), ({"priority": None}, 422)]
    )
    def test_must_be_a_number_in_range(self, api, body, status):
        assert api.put(f"/jobs/{api.create()}/priority", body).status_code == status


class TestRetention:
    def test_deletes_finished_jobs_and_keeps_dead_letters(self, start_server, connect):
        from spooled.clock import ManualClock

        api = connect(start_server(clock=ManualClock(), retention_days=1))
        dead, waiting = api.bury(), api.create("other")
        done = api.create()
        api.complete(api.claim_one())
        cancelled = api.create()
        api.delete(f"/jobs/{cancelled}")
        api.server.advance(86_400)
        assert api.status(done) == "completed"
        api.server.advance(301)
        assert api.get(f"/jobs/{done}").status_code == 404
        assert api.get(f"/jobs/{cancelled}").status_code == 404
        assert (api.status(dead), api.status(waiting)) == ("deadletter", "pending")


@pytest.mark.sqlite_only
def test_a_deleted_job_leaves_nothing_behind(start_server, connect, tmp_path):
    path = tmp_path / "jobs.db"
    server = start_server(db=str(path))
    api = connect(server)
    parent = api.create()
    api.create(parent_job_id=parent)
    kept = api.create("other")
    api.delete("/queues/mail", delete_jobs="true")
    server.stop()
    database = sqlite3.connect(path)
    assert database.execute("SELECT DISTINCT job_id FROM job_history").fetchall() == [(kept,)]
    assert database.execute("SELECT COUNT(*) FROM job_dependencies").fetchone() == (0,)
    database.close()


def test_the_timeout_of_a_job_is_the_workers_business(timed):
    timed.create(timeout_seconds=1)
    job = timed.claim_one(lease=60)
    assert job["timeout_seconds"] == 1
    timed.server.advance(50)
    assert timed.complete(job).status_code == 200
