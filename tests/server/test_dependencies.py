"""Contract section 3.6 and lifecycle section 13: jobs that wait for jobs."""

from __future__ import annotations

import pytest


def depend(api, job_id, *others, mode=None):
    body = {"depends_on": list(others)}
    if mode is not None:
        body["dependency_mode"] = mode
    response = api.post(f"/jobs/{job_id}/dependencies", body)
    assert response.status_code == 200, response.text
    assert response.json()["job_id"] == job_id
    return response.json()["dependencies_added"], response.json()["dependencies_met"]


def run(api, job_id, verb="complete"):
    """Execute one job, which must be the only claimable one of its queue."""
    job = api.claim_one(api.job(job_id)["queue_name"])
    assert job["id"] == job_id
    response = api.complete(job) if verb == "complete" else api.fail(job)
    assert response.status_code == 200


def test_all_dependencies_must_be_completed(api):
    first, second, child = api.create("a"), api.create("b"), api.create("c")
    assert depend(api, child, first, second) == (2, False)
    run(api, first)
    assert api.claim("c") == []
    run(api, second)
    run(api, child)


def test_any_dependency_may_be_completed(api):
    first, second, child = api.create("a"), api.create("b"), api.create("c")
    assert depend(api, child, first, second, mode="any") == (2, False)
    run(api, second)
    assert api.job(child)["dependencies_met"] is True
    run(api, child)
    assert api.status(first) == "pending"


def test_both_directions_are_told(api):
    parent, child = api.create("a"), api.create("b")
    depend(api, child, parent, mode="any")
    assert api.get(f"/jobs/{child}/dependencies").json() == {
        "job_id": child,
        "dependencies": [{"job_id": parent, "queue_name": "a", "status": "pending"}],
        "dependents": [],
        "dependencies_met": False,
        "dependency_mode": "any",
    }
    assert api.get(f"/jobs/{parent}/dependencies").json()["dependents"] == [
        {"job_id": child, "queue_name": "b", "status": "pending"}
    ]


def test_a_parent_given_at_creation_is_a_dependency(api):
    parent = api.create()
    child = api.create(parent_job_id=parent)
    told = api.get(f"/jobs/{child}/dependencies").json()
    assert [other["job_id"] for other in told["dependencies"]] == [parent]


def test_itself_circles_and_known_edges_are_skipped(api):
    first, second, third = (api.create(queue) for queue in "abc")
    assert depend(api, second, first) == (1, False)
    assert depend(api, third, second) == (1, False)
    assert depend(api, third, second, second) == (0, False)
    assert depend(api, first, first) == (0, True)
    assert depend(api, first, third) == (0, True)
    run(api, first)
    run(api, second)
    run(api, third)


def test_completed_dependencies_are_met_at_once(api):
    done, child = api.create("a"), api.create("b")
    run(api, done)
    assert depend(api, child, done) == (1, True)
    run(api, child)


def test_the_mode_is_overwritten(api):
    first, second, child = api.create("a"), api.create("b"), api.create("c")
    depend(api, child, first, second)
    run(api, first)
    assert depend(api, child, second, mode="any") == (0, True)
    run(api, child)


@pytest.mark.parametrize("missing", ["job", "dependency"])
def test_an_unknown_job_is_not_found_and_nothing_is_added(api, stranger, missing):
    job_id, other = api.create("a"), api.create("b")
    foreign = stranger.create()
    path, ids = (f"/jobs/{foreign}", [other]) if missing == "job" else (f"/jobs/{job_id}", [other, foreign])
    response = api.post(f"{path}/dependencies", {"depends_on": ids})
    assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
    assert api.get(f"/jobs/{job_id}/dependencies").json()["dependencies"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"depends_on": []}, 400),
        ({"depends_on": ["x"] * 101}, 400),
        ({"depends_on": "x"}, 422),
        ({"depends_on": ["x"], "dependency_mode": "some"}, 400),
    ],
)
def test_1_to_100_ids_and_a_known_mode_are_asked_for(api, body, status):
    assert api.post(f"/jobs/{api.create()}/dependencies", body).status_code == status


class TestTheCascade:
    def test_cancels_the_child_of_a_dead_parent(self, timed):
        parent = timed.create(max_retries=0)
        child = timed.create(parent_job_id=parent)
        run(timed, parent, "fail")
        assert timed.status(child) == "pending"
        timed.server.advance(10)
        row = timed.job(child)
        assert (row["status"], row["last_error"]) == ("cancelled", "Parent job failed or was deadlettered")
        assert row["completed_at"] == "2026-01-01T00:00:10Z"
        assert timed.get(f"/jobs/{child}/history").json()[-1]["event_type"] == "cancelled"

    def test_cancels_a_child_that_was_born_to_a_dead_parent(self, timed):
        parent = timed.bury()
        child = timed.create(parent_job_id=parent)
        assert timed.claim() == []
        timed.server.advance(10)
        assert timed.status(child) == "cancelled"

    @pytest.mark.parametrize("end", ["deadletter", "cancelled"])
    def test_cancels_who_needs_all_when_one_is_lost(self, timed, end):
        lost, other, child = timed.create("a", max_retries=0), timed.create("b"), timed.create("c")
        depend(timed, child, lost, other)
        if end == "deadletter":
            run(timed, lost, "fail")
        else:
            timed.delete(f"/jobs/{lost}")
        timed.server.advance(10)
        assert timed.job(child)["last_error"] == "Dependency job failed or was deadlettered"
        assert timed.status(child) == "cancelled"
        assert timed.status(other) == "pending"

    def test_leaves_who_needs_any_until_none_is_left(self, timed):
        first, second = timed.create("a", max_retries=0), timed.create("b", max_retries=0)
        child = timed.create("c")
        depend(timed, child, first, second, mode="any")
        run(timed, first, "fail")
        timed.server.advance(10)
        assert timed.status(child) == "pending"
        run(timed, second, "fail")
        timed.server.advance(10)
        assert timed.status(child) == "cancelled"

    def test_reaches_ten_generations_in_one_sweep(self, timed):
        family = [timed.create("g0", max_retries=0)]
        for number in range(1, 13):
            family.append(timed.create(f"g{number}"))
            depend(timed, family[-1], family[-2])
        run(timed, family[0], "fail")
        timed.server.advance(10)
        assert [timed.status(job) for job in family[1:]] == ["cancelled"] * 10 + ["pending"] * 2
        timed.server.advance(10)
        assert timed.status(family[-1]) == "cancelled"

    def test_does_not_touch_a_child_that_runs(self, timed):
        parent, child = timed.create("a", max_retries=0), timed.create("b")
        job = timed.claim_one("b", lease=3600)
        depend(timed, child, parent)
        run(timed, parent, "fail")
        timed.server.advance(10)
        assert timed.status(child) == "processing"
        assert timed.complete(job).status_code == 200

    def test_happens_in_the_sweep_that_loses_the_parents_lease(self, timed):
        parent = timed.create(max_retries=0)
        child = timed.create(parent_job_id=parent)
        timed.claim_one(lease=30)
        timed.server.advance(30)
        assert (timed.status(parent), timed.status(child)) == ("deadletter", "cancelled")

    def test_does_not_revive_children_with_their_parent(self, timed):
        parent = timed.create(max_retries=0)
        child = timed.create(parent_job_id=parent)
        run(timed, parent, "fail")
        timed.server.advance(10)
        timed.post(f"/jobs/{parent}/retry")
        run(timed, parent)
        assert timed.status(child) == "cancelled"

    def test_frees_an_orphan_after_an_hour(self, timed):
        parent = timed.create("a", max_retries=0)
        child = timed.create("b")
        depend(timed, child, parent)
        timed.delete("/queues/a", delete_jobs="true")
        timed.server.advance(3600)
        assert timed.claim("b") == []
        timed.server.advance(1)
        assert timed.claim_one("b")["id"] == child

    def test_frees_who_waits_for_completed_jobs_only_once_a_lost_one_is_deleted(self, timed):
        done, gone, child = timed.create("a"), timed.create("b"), timed.create("c")
        depend(timed, child, done, gone)
        run(timed, done)
        timed.delete("/queues/b", delete_jobs="true")
        timed.server.advance(10)
        assert timed.claim_one("c")["id"] == child


def test_a_gated_job_can_be_cancelled_and_reprioritised(api):
    parent = api.create()
    child = api.create(parent_job_id=parent)
    assert api.put(f"/jobs/{child}/priority", {"priority": 9}).status_code == 200
    assert api.claim_one()["id"] == parent
    assert api.delete(f"/jobs/{child}").status_code == 204
