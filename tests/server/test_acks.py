"""Contract section 3.7: complete, fail and heartbeat, and how a miss is classified; lifecycle sections 3 and 4."""

from __future__ import annotations

import pytest

from spooled_contrib.server._rules import dependencies, workflows

VERBS = ("complete", "fail", "heartbeat")


def send(api, verb, job, worker="w1", **fields):
    if verb == "fail":
        fields.setdefault("error", "boom")
    return api.ack(verb, job, worker, **fields)


def outcome(response):
    return response.status_code, response.json().get("code")


class TestComplete:
    def test_stores_the_result_and_leaves_the_assignment(self, timed):
        job_id = timed.create()
        job = timed.claim_one()
        timed.server.advance(3)
        response = timed.complete(job, result={"sent": [1, 2]})
        assert (response.status_code, response.json()) == (200, {"success": True})
        row = timed.job(job_id)
        assert (row["status"], row["result"]) == ("completed", {"sent": [1, 2]})
        assert row["completed_at"] == "2026-01-01T00:00:03Z"
        assert (row["assigned_worker_id"], row["lease_id"]) == ("w1", job["lease_id"])

    @pytest.mark.parametrize("fields", [{}, {"result": None}])
    def test_without_a_result_stores_null(self, api, fields):
        job_id = api.create()
        assert api.complete(api.claim_one(), **fields).status_code == 200
        assert api.job(job_id)["result"] is None

    def test_twice_is_a_conflict_that_names_the_state(self, api):
        api.create()
        job = api.claim_one()
        api.complete(job)
        again = api.complete(job)
        assert outcome(again) == (409, "CONFLICT")
        assert again.json()["message"] == "Job is already completed"

    def test_keeps_the_last_error_of_earlier_tries(self, timed):
        job_id = timed.create()
        timed.fail(timed.claim_one(), error="first try")
        timed.server.advance(2)
        timed.complete(timed.claim_one())
        row = timed.job(job_id)
        assert (row["last_error"], row["retry_count"]) == ("first try", 1)
        assert row["scheduled_at"] is not None


class TestFail:
    @pytest.mark.parametrize(
        ("failures", "delay"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60)]
    )
    def test_delays_the_next_try_by_the_table_and_up_to_half_a_second(self, timed, failures, delay):
        job_id = timed.create(max_retries=100)
        for _ in range(failures):
            timed.fail(timed.claim_one())
            timed.server.advance(61)
        began = timed.server.clock.now()
        assert timed.fail(timed.claim_one(), error="again").status_code == 200
        row = timed.job(job_id)
        assert (row["status"], row["retry_count"], row["last_error"]) == ("pending", failures + 1, "again")
        assert (row["assigned_worker_id"], row["lease_id"], row["lease_expires_at"]) == (None, None, None)
        timed.server.clock.advance(delay - 0.001)
        assert timed.claim() == []
        timed.server.clock.advance(0.501)
        assert timed.server.clock.now() - began == pytest.approx(delay + 0.5)
        assert timed.claim_one()["retry_count"] == failures + 1

    def test_allows_max_retries_plus_one_executions(self, timed):
        job_id = timed.create(max_retries=2)
        executions = 0
        while jobs := timed.claim():
            executions += 1
            timed.fail(jobs[0], error=f"failure {executions}")
            timed.server.advance(61)
        assert executions == 3
        row = timed.job(job_id)
        assert (row["status"], row["retry_count"], row["last_error"]) == ("deadletter", 2, "failure 3")
        assert (row["assigned_worker_id"], row["lease_id"], row["completed_at"]) == (None, None, None)

    def test_without_retries_buries_the_job_at_once(self, api):
        job_id = api.create(max_retries=0)
        api.fail(api.claim_one())
        assert api.status(job_id) == "deadletter"

    def test_a_replay_finds_no_job_of_this_worker(self, api):
        api.create()
        job = api.claim_one()
        api.fail(job)
        assert outcome(api.fail(job)) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("error", "status"), [("", 400), ("x", 200), ("x" * 2048, 200), ("x" * 2049, 400)]
    )
    def test_takes_an_error_of_1_to_2048_characters(self, api, error, status):
        api.create()
        assert api.fail(api.claim_one(), error=error).status_code == status

    def test_a_refused_error_text_leaves_the_job_leased(self, api):
        job_id = api.create()
        job = api.claim_one()
        api.fail(job, error="")
        assert api.status(job_id) == "processing"
        assert api.complete(job).status_code == 200

    def test_an_error_text_with_a_nul_character_is_taken(self, api):
        job_id = api.create()
        assert api.fail(api.claim_one(), error="a\u0000b").status_code == 200
        assert api.job(job_id)["last_error"] == "a\ufffdb"

    @pytest.mark.parametrize("field", ["no_retry", "retry", "reason", "retry_after"])
    def test_ignores_what_the_guides_invented(self, api, field):
        job_id = api.create()
        assert api.ack("fail", api.claim_one(), error="x", **{field: False}).status_code == 200
        assert api.status(job_id) == "pending"


class TestHeartbeat:
    def test_counts_the_lease_from_now_so_it_can_get_shorter(self, timed):
        job_id = timed.create()
        job = timed.claim_one(lease=3600)
        timed.server.advance(10)
        assert timed.ack("heartbeat", job, lease_duration_secs=5).status_code == 200
        assert timed.job(job_id)["lease_expires_at"] == "2026-01-01T00:00:15Z"

    def test_gives_30_seconds_unless_asked(self, timed):
        job_id = timed.create()
        timed.ack("heartbeat", timed.claim_one(lease=5))
        assert timed.job(job_id)["lease_expires_at"] == "2026-01-01T00:00:30Z"

    def test_keeps_the_lease_id_and_can_go_on_for_ever(self, timed):
        timed.create()
        job = timed.claim_one(lease=30)
        for _ in range(20):
            timed.server.advance(29)
            assert timed.ack("heartbeat", job).status_code == 200
        assert timed.complete(job).status_code == 200

    @pytest.mark.parametrize("seconds", [4, 3601])
    def test_takes_5_to_3600_seconds(self, api, seconds):
        api.create()
        response = api.ack("heartbeat", api.claim_one(), lease_duration_secs=seconds)
        assert outcome(response) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("verb", VERBS)
class TestAMiss:
    @pytest.mark.parametrize("field", ["worker_id", "lease_id"])
    def test_without_worker_or_lease_is_unprocessable(self, api, verb, field):
        api.create()
        job = api.claim_one()
        body = {"worker_id": "w1", "lease_id": job["lease_id"], "error": "x"}
        del body[field]
        response = api.post(f"/jobs/{job['id']}/{verb}", body)
        assert outcome(response) == (422, "VALIDATION_ERROR")
        assert response.json()["details"][0] == {
            "field": field,
            "message": "is required",
            "code": "missing_field",
        }

    @pytest.mark.parametrize("lease_id", ["", "x" * 256])
    def test_a_lease_id_has_1_to_255_characters(self, api, verb, lease_id):
        api.create()
        job = api.claim_one()
        assert outcome(send(api, verb, {**job, "lease_id": lease_id})) == (400, "VALIDATION_ERROR")

    def test_an_unknown_job_is_not_found(self, api, verb):
        assert outcome(send(api, verb, {"id": "no-such-job", "lease_id": "x"})) == (404, "NOT_FOUND")

    def test_another_workers_job_is_not_found_even_with_its_lease(self, api, verb):
        api.create()
        job = api.claim_one(worker="w1")
        assert outcome(send(api, verb, job, worker="w2")) == (404, "NOT_FOUND")

    def test_a_job_that_nobody_claimed_is_not_found(self, api, verb):
        job_id = api.create()
        assert outcome(send(api, verb, {"id": job_id, "lease_id": "x"})) == (404, "NOT_FOUND")

    def test_at_the_instant_of_expiry_the_lease_has_expired(self, timed, verb):
        timed.create()
        job = timed.claim_one(lease=30)
        timed.server.clock.advance(30)
        assert outcome(send(timed, verb, job)) == (409, "LEASE_EXPIRED")

    def test_just_before_expiry_the_lease_holds(self, timed, verb):
        timed.create()
        job = timed.claim_one(lease=30)
        timed.server.clock.advance(29.999999)
        assert send(timed, verb, job).status_code == 200

    def test_another_lease_id_does_not_match(self, api, verb):
        api.create()
        response = send(api, verb, {**api.claim_one(), "lease_id": "stale"})
        assert outcome(response) == (409, "LEASE_EXPIRED")
        assert "does not match the job's current lease" in response.json()["message"]

    def test_an_expired_lease_is_told_before_a_wrong_one(self, timed, verb):
        timed.create()
        job = timed.claim_one(lease=30)
        timed.server.clock.advance(31)
        response = send(timed, verb, {**job, "lease_id": "stale"})
        assert "does not match" not in response.json()["message"]

    def test_after_recovery_the_old_holder_finds_nothing(self, timed, verb):
        timed.create()
        job = timed.claim_one(lease=30)
        timed.server.advance(30)
        assert outcome(send(timed, verb, job)) == (404, "NOT_FOUND")

    def test_a_late_ack_of_an_earlier_execution_of_the_same_worker_is_fenced(self, timed, verb):
        job_id = timed.create()
        stale = timed.claim_one(lease=30)
        timed.server.advance(30)
        current = timed.claim_one(lease=30)
        response = send(timed, verb, stale)
        assert outcome(response) == (409, "LEASE_EXPIRED")
        assert "does not match the job's current lease" in response.json()["message"]
        assert timed.status(job_id) == "processing"
        assert timed.complete(current).status_code == 200

    def test_after_completion_is_a_conflict_whatever_the_lease(self, api, verb):
        api.create()
        job = api.claim_one()
        api.complete(job)
        for late in (job, {**job, "lease_id": "stale"}):
            response = send(api, verb, late)
            assert outcome(response) == (409, "CONFLICT")
            assert response.json()["message"] == "Job is already completed"

    def test_after_a_dead_letter_nothing_is_found(self, api, verb):
        api.create(max_retries=0)
        job = api.claim_one()
        api.fail(job)
        assert outcome(send(api, verb, job)) == (404, "NOT_FOUND")


def test_heartbeats_of_a_job_change_nothing_about_its_worker(timed):
    timed.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": "w1"})
    timed.create()
    job = timed.claim_one()
    timed.server.advance(20)
    timed.ack("heartbeat", job)
    assert timed.get("/workers/w1").json()["last_heartbeat"] == "2026-01-01T00:00:00Z"


def test_completing_a_job_by_itself_costs_no_statement_for_workflows_or_dependants(api, monkeypatch):
    def never(*_):
        raise AssertionError("this job has no workflow and no dependants")

    monkeypatch.setattr(workflows, "job_completed", never)
    monkeypatch.setattr(dependencies, "job_completed", never)
    api.create()
    assert api.complete(api.claim_one()).status_code == 200
