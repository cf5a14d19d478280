"""Contract section 7: workflows as a client makes and sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled.clock import ManualClock
from spooled_contrib.server import Limits
from spooled_contrib.server._rules.workflow_creation import find_circle


def step(key, *depends_on, queue=None, **fields):
    """A job in a queue of its own name, so that a test can claim the one it means."""
    return {"key": key, "queue_name": queue or key, "payload": key, "depends_on": list(depends_on), **fields}


def post(api, *steps, **fields):
    return api.post("/workflows", {"name": "import", "jobs": list(steps), **fields})


def make(api, *steps, **fields):
    """The workflow's id, and the jobs' ids by key."""
    response = post(api, *steps, **fields)
    assert response.status_code == 200, response.text
    body = response.json()
    return body["workflow_id"], {made["key"]: made["job_id"] for made in body["job_ids"]}


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def limited(start_server, connect):
    def start(**limits):
        return connect(start_server(clock=ManualClock(), limits=Limits(**limits)))

    return start


def test_creating_answers_with_the_jobs_in_the_order_of_the_request(api):
    body = post(api, step("c", "a"), step("a"), step("b", queue="a")).json()
    assert body["status"] == "pending"
    assert [made["key"] for made in body["job_ids"]] == ["c", "a", "b"]
    statuses = [api.job(made["job_id"])["dependencies_met"] for made in body["job_ids"]]
    assert statuses == [False, True, True]


def test_its_jobs_are_jobs(api):
    api.put("/queues/b/config", {"max_retries": 9})
    workflow_id, ids = make(
        api,
        step("a", priority=5, max_retries=1, timeout_seconds=7, expires_at="2090-01-01T00:00:00Z"),
        step("b", "a", dependency_mode="any"),
    )
    first, second = api.job(ids["a"]), api.job(ids["b"])
    assert [first[name] for name in ("priority", "max_retries", "timeout_seconds", "expires_at")] == [
        *(5, 1, 7, "2090-01-01T00:00:00Z")
    ]
    assert (first["workflow_id"], first["payload"], first["dependency_mode"]) == (workflow_id, "a", "all")
    assert (second["max_retries"], second["timeout_seconds"], second["dependency_mode"]) == (9, 300, "any")
    assert api.get(f"/jobs/{ids['b']}/dependencies").json()["dependencies"] == [
        {"job_id": ids["a"], "queue_name": "a", "status": "pending"}
    ]
    assert api.get(f"/jobs/{ids['a']}/history").json()[0]["event_type"] == "created"


def test_one_workflow_is_shown_with_everything(timed):
    workflow_id, ids = make(
        timed,
        step("a"),
        step("b", "a", "a"),
        name="nightly import (v1.2): all",
        description="d",
        metadata={"m": 1},
    )
    timed.complete(timed.claim_one("a"), result={"rows": 3})
    shown = timed.get(f"/workflows/{workflow_id}").json()
    first, second = shown.pop("jobs")
    assert shown == {
        "id": workflow_id,
        "organization_id": timed.organization_id,
        "name": "nightly import (v1.2): all",
        "description": "d",
        "status": "running",
        "dependencies": [{"parent_job_id": ids["a"], "child_job_id": ids["b"], "dependency_type": "all"}],
        "progress": {"total": 2, "completed": 1, "failed": 0, "pending": 1, "processing": 0},
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "completed_at": None,
        "metadata": {"m": 1},
    }
    assert first == {
        "id": ids["a"],
        "organization_id": timed.organization_id,
        "queue": "a",
        "job_type": "job",
        "payload": "a",
        "status": "completed",
        "priority": 0,
        "attempt": 0,
        "max_retries": 3,
        "backoff_type": "exponential",
        "timeout_ms": 300_000,
        "created_at": "2026-01-01T00:00:00Z",
        "scheduled_at": None,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:00Z",
        "failed_at": None,
        "next_retry_at": None,
        "result": {"rows": 3},
        "error": None,
        "metadata": None,
        "workflow_id": workflow_id,
        "parent_job_id": None,
    }
    assert (second["id"], second["status"], second["result"]) == (ids["b"], "pending", None)


def test_a_jobs_error_is_shown(timed):
    workflow_id, _ = make(timed, step("a"))
    timed.fail(timed.claim_one("a"), error="boom")
    (job,) = timed.get(f"/workflows/{workflow_id}").json()["jobs"]
    assert job["error"] == {"type": "JobError", "message": "boom", "stack": None}
    assert job["attempt"] == 1


def test_the_list_shows_the_newest_first_with_progress(timed):
    first, _ = make(timed, step("a"), step("b"), step("c"), step("d"), metadata=[1])
    second, _ = make(timed, step("z"))
    timed.complete(timed.claim_one("a"))
    newest, oldest = timed.get("/workflows").json()
    assert newest["id"] == second
    assert oldest == {
        "id": first,
        "name": "import",
        "description": None,
        "status": "running",
        "total_jobs": 4,
        "completed_jobs": 1,
        "failed_jobs": 0,
        "progress_percent": 25.0,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "completed_at": None,
        "metadata": [1],
    }


def test_the_list_can_be_restricted_and_paged(api):
    ids = [make(api, step("a"))[0] for _ in range(3)]
    api.post(f"/workflows/{ids[0]}/cancel")
    found = [one["id"] for one in api.get("/workflows", status="pending").json()]
    assert found == [ids[2], ids[1]]
    assert [one["id"] for one in api.get("/workflows", limit=1, offset=1).json()] == [ids[1]]
    assert len(api.get("/workflows", status="nonsense").json()) == 3


class TestNothingIsMade:
    @pytest.fixture(autouse=True)
    def untouched(self, api):
        yield
        assert api.get("/workflows").json() == []
        assert api.get("/jobs").json() == []

    @pytest.mark.parametrize(
        ("steps", "words"),
        [
            ([step("a"), step("a")], "'a' occurs more than once"),
            ([step("a", "b")], "'a' depends on 'b'"),
            ([step("a", "a")], "wait for each other: a"),
            ([step("a", "c"), step("b", "a"), step("c", "b"), step("d")], "wait for each other: a, b, c"),
        ],
    )
    def test_for_steps_that_make_no_sense(self, api, steps, words):
        response = post(api, *steps)
        assert refused(response) == (400, "BAD_REQUEST")
        assert words in response.json()["message"]

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({"name": ""}, 400),
            ({"name": "x" * 256}, 400),
            ({"name": "a/b"}, 400),
            ({"description": "x" * 1001}, 400),
            ({"metadata": ["x" * 65_536]}, 400),
            ({"jobs": []}, 400),
            ({"jobs": [step(f"s{number}") for number in range(101)]}, 400),
            ({"jobs": [step("")]}, 400),
            ({"jobs": [step("k" * 101, queue="a")]}, 400),
            ({"jobs": [step("a b", queue="a")]}, 400),
            ({"jobs": [step("a", queue=".a")]}, 400),
            ({"jobs": [step("a", dependency_mode="some")]}, 400),
            ({"jobs": [step("a", priority=101)]}, 400),
            ({"jobs": [step("a", max_retries=-1)]}, 400),
            ({"jobs": [step("a", timeout_seconds=86_401)]}, 400),
            ({"jobs": [step("a", expires_at="soon")]}, 400),
            ({"jobs": [{**step("a"), "payload": "x" * 1024 * 1024}]}, 400),
            ({"jobs": [{"key": "a", "queue_name": "a"}]}, 422),
            ({"jobs": [{"key": "a", "payload": 1}]}, 422),
            ({"jobs": "a"}, 422),
        ],
    )
    def test_for_a_field_that_breaks_a_rule(self, api, fields, status):
        response = api.post("/workflows", {"name": "w", "jobs": [step("a")], **fields})
        assert response.status_code == status, response.text

    def test_when_one_queue_is_out_of_scope(self, api):
        assert refused(post(api.scoped("a"), step("a"), step("b"))) == (403, "ACCESS_DENIED")


class TestThePlan:
    def test_may_not_include_workflows(self, limited):
        response = post(limited(workflows=0), step("a"))
        assert refused(response) == (403, "FEATURE_DISABLED")
        body = response.json()
        assert (body["error"], body["feature"], body["plan"], body["upgrade_to"]) == (
            *("feature_disabled", "workflows", "free", None),
        )

    def test_caps_live_workflows(self, limited):
        api = limited(workflows=1)
        make(api, step("a"))
        response = post(api, step("b"))
        assert (response.status_code, response.json()["resource"]) == (429, "workflows")
        api.complete(api.claim_one("a"))
        make(api, step("b"))

    @pytest.mark.parametrize(
        ("limits", "resource"),
        [
            ({"jobs_per_day": 2}, "jobs_per_day"),
            ({"active_jobs": 2}, "active_jobs"),
            ({"queues": 2}, "queues"),
        ],
    )
    def test_counts_all_jobs_or_makes_none(self, limited, limits, resource):
        api = limited(**limits)
        response = post(api, step("a"), step("b"), step("c"))
        assert (response.status_code, response.json()["resource"]) == (429, resource)
        assert api.get("/jobs").json() == api.get("/workflows").json() == []
        make(api, step("a"), step("b"))

    def test_limits_payloads(self, limited):
        response = post(limited(payload_bytes=5), step("a"), step("b", payload="123456"))
        assert refused(response) == (413, "PAYLOAD_TOO_LARGE")

    def test_shows_live_workflows_in_the_usage_report(self, limited):
        api = limited(workflows=4)
        make(api, step("a"))
        usage = api.get("/organizations/usage").json()
        assert (usage["usage"]["workflows"]["current"], usage["limits"]["max_workflows"]) == (1, 4)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
def test_unknown_foreign_and_partly_out_of_scope_are_not_found(api, stranger, method, path):
    workflow_id, ids = make(api, step("a"), step("b"))
    for who, wanted in [(api, "unknown"), (stranger, workflow_id), (api.scoped("a", "c"), workflow_id)]:
        assert refused(who.http.request(method, f"/workflows/{wanted}{path}")) == (404, "NOT_FOUND")
    assert api.status(ids["a"]) == "pending"


def test_a_scoped_key_sees_workflows_that_are_within_its_queues(api):
    make(api, step("a"), step("b"))
    scoped = api.scoped("a", "c")
    mine, _ = make(scoped, step("a"), step("c"))
    assert [one["id"] for one in scoped.get("/workflows").json()] == [mine]
    assert scoped.get(f"/workflows/{mine}").status_code == 200


keys = st.sampled_from("abcdef")


@given(st.dictionaries(keys, st.lists(keys, max_size=4), max_size=6))
def test_what_can_run_is_in_no_circle(graph):
    graph = {key: [parent for parent in parents if parent in graph] for key, parents in graph.items()}
    stuck = find_circle(graph)

    def ancestors(key, seen):
        for parent in graph[key]:
            if parent not in seen:
                seen.add(parent)
                ancestors(parent, seen)
        return seen

    above = {key: ancestors(key, set()) for key in graph}
    circular = {key for key in graph if key in above[key]}
    assert stuck == [key for key in graph if key in circular or above[key] & circular]
