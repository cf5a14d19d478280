"""Contract section 1.1: who is let in, and what a queue-scoped key can reach."""

from __future__ import annotations

import httpx
import pytest


def refused(response: httpx.Response) -> str:
    assert response.status_code == 401
    assert response.json()["code"] == "UNAUTHORIZED"
    return str(response.json()["message"])


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "bearer {key}", "Basic {key}", "{key}", "Bearer  {key}", "Bearer {key}x"]
)
def test_anything_but_a_bearer_with_a_known_key_is_unauthorized(api, header):
    headers = {} if header is None else {"authorization": header.format(key=api.key)}
    refused(api.bare("GET", "/api/v1/jobs", headers=headers))


def test_the_x_api_key_header_is_not_read(api):
    refused(api.bare("GET", "/api/v1/jobs", headers={"x-api-key": api.key}))


@pytest.mark.parametrize("name", ["token", "api_key"])
def test_a_key_in_the_query_opens_streams_only(api, name):
    refused(api.bare("GET", "/api/v1/jobs", params={name: api.key}))


def test_a_revoked_key_is_refused_at_once(api):
    made = api.post("/api-keys", {"name": "short-lived"}).json()
    other = api.with_key(made["key"])
    assert other.get("/jobs").status_code == 200
    assert api.delete(f"/api-keys/{made['id']}").status_code == 204
    assert "revoked" in refused(other.get("/jobs"))


def test_an_expired_key_is_refused(timed):
    made = timed.post("/api-keys", {"name": "k", "expires_at": "2026-01-01T00:01:00Z"}).json()
    other = timed.with_key(made["key"])
    timed.server.clock.advance(59)
    assert other.get("/jobs").status_code == 200
    timed.server.clock.advance(1)
    assert "expired" in refused(other.get("/jobs"))


def test_a_foreign_organization_sees_nothing(api, stranger):
    job_id = api.create()
    job = api.claim_one()
    assert stranger.get(f"/jobs/{job_id}").status_code == 404
    assert stranger.get("/jobs").json() == []
    assert stranger.claim("mail") == []
    assert stranger.complete(job).status_code == 404
    assert stranger.delete(f"/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize("queues", [[], ["*"], ["a", "*"]])
def test_no_queues_or_a_star_restrict_nothing(api, queues):
    assert api.scoped(*queues).get("/api-keys").status_code == 200


class TestAScopedKey:
    @pytest.fixture
    def scoped(self, api):
        return api.scoped("mine")

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/jobs", {"queue_name": "other", "payload": 1}),
            ("POST", "/jobs/bulk", {"queue_name": "other", "jobs": [{"payload": 1}]}),
            ("POST", "/jobs/claim", {"queue_name": "other", "worker_id": "w"}),
            ("PUT", "/queues/other/config", {"max_retries": 1}),
            ("POST", "/workers/register", {"queue_name": "other", "hostname": "h"}),
        ],
    )
    def test_may_not_create_claim_or_configure_elsewhere(self, scoped, method, path, body):
        response = scoped.http.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (403, "ACCESS_DENIED")

    def test_works_in_its_own_queue(self, scoped):
        scoped.create("mine")
        assert scoped.complete(scoped.claim_one("mine")).status_code == 200
        assert scoped.put("/queues/mine/config", {"max_retries": 1}).status_code == 200

    def test_does_not_see_jobs_elsewhere(self, api, scoped):
        job_id = api.create("other")
        for response in (
            scoped.get(f"/jobs/{job_id}"),
            scoped.get(f"/jobs/{job_id}/history"),
            scoped.get(f"/jobs/{job_id}/dependencies"),
            scoped.delete(f"/jobs/{job_id}"),
            scoped.post(f"/jobs/{job_id}/retry"),
            scoped.put(f"/jobs/{job_id}/priority", {"priority": 1}),
            scoped.get("/jobs/stats", queue_name="other"),
            scoped.get("/queues/other"),
            scoped.get("/queues/other/stats"),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
        assert api.status(job_id) == "pending"

    def test_cannot_settle_jobs_elsewhere(self, api, scoped):
        api.create("other")
        job = api.claim_one("other")
        assert scoped.complete(job).status_code == 404
        assert scoped.fail(job).status_code == 404
        assert scoped.ack("heartbeat", job).status_code == 404
        assert api.complete(job).status_code == 200

    def test_lists_and_counts_its_own_queues_only(self, api, scoped):
        theirs, mine = api.create("other"), api.create("mine")
        assert [job["id"] for job in scoped.get("/jobs").json()] == [mine]
        assert scoped.get("/jobs", queue_name="other").json() == []
        assert scoped.get("/jobs/stats").json()["total"] == 1
        assert [queue["queue_name"] for queue in scoped.get("/queues").json()] == ["mine"]
        assert [job["id"] for job in scoped.get("/jobs/status", ids=f"{theirs},{mine}").json()] == [mine]

    def test_does_not_see_workers_elsewhere(self, api, scoped):
        api.post(
            "/workers/register",
            {"queue_name": "other", "hostname": "h", "worker_id": f"w-{api.organization_id}"},
        )
        path = f"/workers/w-{api.organization_id}"
        assert scoped.get("/workers").json() == []
        assert scoped.get(path).status_code == 404
        assert scoped.post(f"{path}/heartbeat", {"current_jobs": 0}).status_code == 404
        assert scoped.post(f"{path}/deregister").status_code == 404

    def test_does_not_see_the_relatives_of_its_jobs_elsewhere(self, api, scoped):
        theirs, mine, child = api.create("other"), api.create("mine"), api.create("mine")
        assert api.post(f"/jobs/{child}/dependencies", {"depends_on": [theirs, mine]}).status_code == 200
        told = scoped.get(f"/jobs/{child}/dependencies").json()
        assert [other["job_id"] for other in told["dependencies"]] == [mine]
        assert scoped.post(f"/jobs/{mine}/dependencies", {"depends_on": [theirs]}).status_code == 404

    def test_cannot_take_over_a_worker_elsewhere(self, api, scoped):
        worker = {"hostname": "h", "worker_id": f"w-{api.organization_id}"}
        assert api.post("/workers/register", {"queue_name": "other", **worker}).status_code == 201
        assert scoped.post("/workers/register", {"queue_name": "mine", **worker}).status_code == 409

    @pytest.mark.parametrize("path", ["/api-keys", "/organizations/usage"])
    def test_is_kept_out_of_the_control_plane(self, scoped, path):
        response = scoped.get(path)
        assert (response.status_code, response.json()["code"]) == (403, "ACCESS_DENIED")

    def test_must_name_its_queue_to_touch_dead_letters(self, api, scoped):
        api.bury("other")
        mine = api.bury("mine")
        assert scoped.post("/jobs/dlq/retry").status_code == 403
        assert scoped.post("/jobs/dlq/retry", {"queue_name": "mine", "job_ids": [mine]}).status_code == 403
        assert scoped.post("/jobs/dlq/retry", {"queue_name": "other"}).status_code == 403
        assert scoped.post("/jobs/dlq/purge", {"confirm": True}).status_code == 403
        assert scoped.post("/jobs/dlq/retry", {"queue_name": "mine"}).json()["retried_jobs"] == [mine]

    def test_follows_a_change_of_its_queues(self, api):
        made = api.post("/api-keys", {"name": "k", "queues": ["a"]}).json()
        key = api.with_key(made["key"])
        assert key.claim("a") == []
        assert api.put(f"/api-keys/{made['id']}", {"queues": ["b"]}).status_code == 200
        assert key.post("/jobs/claim", {"queue_name": "a", "worker_id": "w"}).status_code == 403
        assert key.claim("b") == []
