"""Lifecycle section 13: how workflows go on and end."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits


def step(key, *depends_on, **fields):
    """A job in a queue of its own name that dies of its first failure."""
    body = {"key": key, "queue_name": key, "payload": key, "depends_on": list(depends_on), "max_retries": 0}
    return {**body, **fields}


def make(api, *steps):
    response = api.post("/workflows", {"name": "w", "jobs": list(steps)})
    assert response.status_code == 200, response.text
    body = response.json()
    return body["workflow_id"], {made["key"]: made["job_id"] for made in body["job_ids"]}


def complete(api, *queues):
    for queue in queues:
        assert api.complete(api.claim_one(queue)).status_code == 200


def fail(api, queue):
    assert api.fail(api.claim_one(queue)).status_code == 200


def show(api, workflow_id):
    """Status, completed and failed jobs."""
    (found,) = [one for one in api.get("/workflows").json() if one["id"] == workflow_id]
    return found["status"], found["completed_jobs"], found["failed_jobs"]


def ended(api, workflow_id):
    return api.get(f"/workflows/{workflow_id}").json()["completed_at"]


class TestOrder:
    def test_a_job_runs_when_all_that_it_waits_for_is_completed(self, timed):
        make(timed, step("a"), step("b"), step("c", "a", "b"))
        assert timed.claim("c") == []
        complete(timed, "a")
        assert timed.claim("c") == []
        complete(timed, "b")
        complete(timed, "c")

    def test_or_when_any_is(self, timed):
        workflow_id, _ = make(timed, step("a"), step("b"), step("c", "a", "b", dependency_mode="any"))
        complete(timed, "b", "c")
        assert show(timed, workflow_id) == ("running", 2, 0)

    def test_the_order_of_the_request_does_not_matter(self, timed):
        workflow_id, _ = make(timed, step("c", "b"), step("b", "a"), step("a"))
        complete(timed, "a", "b", "c")
        assert show(timed, workflow_id) == ("completed", 3, 0)

    def test_jobs_of_one_queue_run_in_the_order_of_the_request(self, timed):
        _, ids = make(timed, *(step(key, queue_name="q") for key in "dacb"))
        assert [job["id"] for job in timed.claim("q", limit=4)] == [ids[key] for key in "dacb"]


class TestStatus:
    def test_is_pending_until_the_first_completion(self, timed):
        workflow_id, _ = make(timed, step("a"), step("b"))
        job = timed.claim_one("a")
        assert show(timed, workflow_id) == ("pending", 0, 0)
        timed.complete(job)
        assert show(timed, workflow_id) == ("running", 1, 0)

    def test_is_completed_with_the_last_job_at_once(self, timed):
        workflow_id, _ = make(timed, step("a"), step("b", "a"))
        complete(timed, "a")
        timed.server.clock.advance(5)
        complete(timed, "b")
        assert show(timed, workflow_id) == ("completed", 2, 0)
        assert ended(timed, workflow_id) == "2026-01-01T00:00:05Z"

    def test_stays_while_a_job_waits_for_another_try(self, timed):
        workflow_id, _ = make(timed, step("a", max_retries=1))
        fail(timed, "a")
        timed.server.advance(10)
        assert show(timed, workflow_id) == ("pending", 0, 0)
        complete(timed, "a")
        assert show(timed, workflow_id) == ("completed", 1, 0)

    def test_is_failed_at_the_last_completion_when_another_died(self, timed):
        workflow_id, _ = make(timed, step("a"), step("b"))
        fail(timed, "a")
        complete(timed, "b")
        assert show(timed, workflow_id) == ("failed", 1, 1)

    def test_is_failed_by_the_sweep_when_the_last_job_dies(self, timed):
        workflow_id, _ = make(timed, step("a"))
        fail(timed, "a")
        assert show(timed, workflow_id)[0] == "pending"
        timed.server.advance(10)
        assert show(timed, workflow_id) == ("failed", 0, 1)
        assert ended(timed, workflow_id) == "2026-01-01T00:00:10Z"

    def test_is_failed_after_a_lost_lease(self, timed):
        workflow_id, _ = make(timed, step("a"))
        timed.claim_one("a", lease=30)
        timed.server.advance(30)
        assert show(timed, workflow_id) == ("failed", 0, 1)

    def test_is_failed_in_the_sweep_that_cancels_its_dependants(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b", "a"), step("c", "b"))
        fail(timed, "a")
        timed.server.advance(10)
        assert [timed.status(ids[key]) for key in "abc"] == ["deadletter", "cancelled", "cancelled"]
        assert show(timed, workflow_id) == ("failed", 0, 1)
        progress = timed.get(f"/workflows/{workflow_id}").json()["progress"]
        assert progress == {"total": 3, "completed": 0, "failed": 3, "pending": 0, "processing": 0}

    def test_waits_for_branches_that_still_run(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b", "a"), step("z"))
        fail(timed, "a")
        timed.server.advance(10)
        assert timed.status(ids["b"]) == "cancelled"
        assert show(timed, workflow_id)[0] == "pending"
        complete(timed, "z")
        assert show(timed, workflow_id) == ("failed", 1, 1)

    def test_is_completed_when_cancelled_jobs_are_all_that_is_missing(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b"))
        timed.delete(f"/jobs/{ids['a']}")
        complete(timed, "b")
        assert show(timed, workflow_id) == ("completed", 1, 0)

    def test_is_cancelled_when_its_last_job_is(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b"))
        complete(timed, "a")
        timed.delete(f"/jobs/{ids['b']}")
        assert show(timed, workflow_id)[0] == "running"
        timed.server.advance(10)
        assert show(timed, workflow_id) == ("cancelled", 1, 0)

    def test_is_cancelled_when_its_last_job_expires(self, timed):
        workflow_id, _ = make(timed, step("a"), step("b", expires_at="2026-01-01T00:01:00Z"))
        complete(timed, "a")
        timed.server.advance(60)
        assert show(timed, workflow_id) == ("cancelled", 1, 0)

    def test_is_cancelled_when_all_of_its_jobs_are_deleted(self, timed):
        workflow_id, _ = make(timed, step("a"))
        timed.delete("/queues/a", delete_jobs="true")
        timed.server.advance(10)
        assert show(timed, workflow_id) == ("cancelled", 0, 0)

    def test_of_another_workflow_does_not_change(self, timed):
        mine, _ = make(timed, step("a"))
        other, _ = make(timed, step("a"))
        complete(timed, "a")
        assert (show(timed, mine)[0], show(timed, other)[0]) == ("completed", "pending")


class TestCancelling:
    def test_cancels_what_waits_and_leaves_what_runs(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b"), step("c", "a"))
        job = timed.claim_one("a")
        response = timed.post(f"/workflows/{workflow_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.json()["completed_at"] == "2026-01-01T00:00:00Z"
        assert [timed.status(ids[key]) for key in "abc"] == ["processing", "cancelled", "cancelled"]
        assert timed.get(f"/jobs/{ids['b']}/history").json()[-1]["event_type"] == "cancelled"
        assert timed.complete(job).status_code == 200
        assert show(timed, workflow_id)[0] == "cancelled"

    def test_is_accepted_in_any_state(self, timed):
        workflow_id, _ = make(timed, step("a"))
        complete(timed, "a")
        for _ in range(2):
            assert timed.post(f"/workflows/{workflow_id}/cancel").json()["status"] == "cancelled"


class TestRetrying:
    @pytest.mark.parametrize("state", ["pending", "running", "completed", "cancelled"])
    def test_is_refused_unless_it_failed(self, timed, state):
        workflow_id, _ = make(timed, step("a"), step("b"))
        complete(timed, *{"pending": "", "running": "a", "completed": "ab", "cancelled": ""}[state])
        if state == "cancelled":
            timed.post(f"/workflows/{workflow_id}/cancel")
        response = timed.post(f"/workflows/{workflow_id}/retry")
        assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")
        assert show(timed, workflow_id)[0] == state

    def test_gives_everything_that_was_lost_another_chance(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b", "a"), step("c", "b"), step("d", "b"))
        complete(timed, "a")
        fail(timed, "b")
        timed.server.advance(10)
        response = timed.post(f"/workflows/{workflow_id}/retry")
        assert response.status_code == 200
        body = response.json()
        assert (body["status"], body["completed_jobs"], body["failed_jobs"]) == ("running", 1, 0)
        assert body["completed_at"] is None
        row = timed.job(ids["b"])
        assert (row["status"], row["retry_count"], row["last_error"]) == ("pending", 0, None)
        assert (row["started_at"], row["completed_at"], row["dependencies_met"]) == (None, None, True)
        assert timed.job(ids["c"])["dependencies_met"] is False
        assert timed.job(ids["c"])["completed_at"] is None
        assert timed.get(f"/jobs/{ids['c']}/history").json()[-1]["event_type"] == "retried"
        timed.server.advance(10)
        complete(timed, "b", "c", "d")
        assert show(timed, workflow_id) == ("completed", 4, 0)
        assert timed.status(ids["a"]) == "completed"

    def test_can_fail_again(self, timed):
        workflow_id, _ = make(timed, step("a"))
        for _ in range(2):
            fail(timed, "a")
            timed.server.advance(10)
            assert show(timed, workflow_id) == ("failed", 0, 1)
            timed.post(f"/workflows/{workflow_id}/retry")
        complete(timed, "a")
        assert show(timed, workflow_id) == ("completed", 1, 0)

    def test_needs_room_in_the_plan(self, start_server, connect):
        api = connect(start_server(clock=ManualClock(), limits=Limits(workflows=1)))
        workflow_id, _ = make(api, step("a"))
        fail(api, "a")
        api.server.advance(10)
        make(api, step("b"))
        response = api.post(f"/workflows/{workflow_id}/retry")
        assert (response.status_code, response.json()["resource"]) == (429, "workflows")


class TestAStepFromTheDeadLetterQueue:
    @pytest.mark.parametrize("how", ["job", "queue"])
    def test_brings_its_failed_workflow_back(self, timed, how):
        workflow_id, ids = make(timed, step("a"), step("b"))
        fail(timed, "a")
        complete(timed, "b")
        if how == "job":
            assert timed.post(f"/jobs/{ids['a']}/retry").status_code == 200
        else:
            assert timed.post("/jobs/dlq/retry").json()["skipped_jobs"] == []
        assert show(timed, workflow_id) == ("running", 1, 0)
        assert ended(timed, workflow_id) is None
        complete(timed, "a")
        assert show(timed, workflow_id) == ("completed", 2, 0)

    def test_does_not_revive_cancelled_dependants(self, timed):
        workflow_id, ids = make(timed, step("a"), step("b", "a"))
        fail(timed, "a")
        timed.server.advance(10)
        timed.post(f"/jobs/{ids['a']}/retry")
        complete(timed, "a")
        assert timed.status(ids["b"]) == "cancelled"
        assert show(timed, workflow_id) == ("completed", 1, 0)

    def test_leaves_a_cancelled_workflow_cancelled(self, timed):
        workflow_id, ids = make(timed, step("a"))
        fail(timed, "a")
        timed.post(f"/workflows/{workflow_id}/cancel")
        timed.post(f"/jobs/{ids['a']}/retry")
        assert show(timed, workflow_id)[0] == "cancelled"

    def test_stays_where_the_plan_has_no_room_for_its_workflow(self, start_server, connect):
        api = connect(start_server(clock=ManualClock(), limits=Limits(workflows=1)))
        dead = []
        for _ in range(2):
            workflow_id, ids = make(api, step("a"))
            fail(api, "a")
            api.server.advance(10)
            dead.append((workflow_id, ids["a"]))
        plain = api.bury("plain")
        answer = api.post("/jobs/dlq/retry").json()
        assert (answer["retried_jobs"], answer["skipped_jobs"]) == ([dead[0][1], plain], [dead[1][1]])
        assert [show(api, workflow_id)[0] for workflow_id, _ in dead] == ["running", "failed"]


def test_ended_workflows_are_forgotten_after_the_retention(start_server, connect):
    api = connect(start_server(clock=ManualClock(), retention_days=1))
    make(api, step("a"))
    live, _ = make(api, step("b"))
    complete(api, "a")
    api.server.advance(86_400 + 1)
    assert [one["id"] for one in api.get("/workflows").json()] == [live]
