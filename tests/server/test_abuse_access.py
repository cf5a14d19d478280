"""Who is let in, and to what: every route with an id, for strangers and for keys that ended."""

from __future__ import annotations

import re

import pytest

from spooled_contrib.server._api.routes import ROUTES

UNKNOWN = "00000000-0000-4000-8000-00000000dead"

# A body that each call with an id would take from the owner, so that only the access is left to refuse it.
BODIES = {
    "complete": {"worker_id": "w1", "lease_id": "LEASE", "result": 1},
    "fail": {"worker_id": "w1", "lease_id": "LEASE", "error": "e"},
    "heartbeat": {"worker_id": "w1", "lease_id": "LEASE", "current_jobs": 0},
    "priority": {"priority": 5},
    "dependencies": {"depends_on": ["JOB"]},
    "config": {"max_retries": 7},
    "PUT /api/v1/api-keys/{id}": {"name": "stolen"},
    "PUT /api/v1/schedules/{id}": {"name": "stolen"},
    "PUT /api/v1/outgoing-webhooks/{id}": {"name": "stolen"},
    "PUT /api/v1/organizations/{id}": {"name": "stolen"},
}
WITH_ID = sorted(
    {(route.method, route.path) for route in ROUTES if "{" in route.path and route.access in ("key", "jwt")}
)
CLOSED = sorted({(route.method, route.path) for route in ROUTES if route.access in ("key", "jwt", "stream")})

# A queue is named, not numbered: each organization has queues of its own under any name. What these answer for a name
# that the caller never used is said here; the test below shows that the owner's queue is not touched or told of.
OF_ONES_OWN_QUEUE = {
    ("GET", "/api/v1/queues/{name}/stats"): 200,
    ("PUT", "/api/v1/queues/{name}/config"): 200,
}


@pytest.fixture
def belongings(api):
    """One of each thing that has an id, in one organization."""
    key = api.post("/api-keys", {"name": "victim"}).json()
    parent = api.create("mail", payload={"secret": "of the owner"})
    leased = api.claim_one("mail")
    api.put("/queues/mail/config", {"max_retries": 3, "settings": {"secret": "of the owner"}})
    worker = api.post("/workers/register", {"queue_name": "mail", "hostname": "owner-host"}).json()
    hook = {
        "name": "owner-host",
        "url": "https://93.184.215.14/hook",
        "events": ["worker.deregistered"],
        "enabled": False,
    }
    schedule = {
        "name": "owner-host",
        "cron_expression": "0 9 * * 1",
        "queue_name": "mail",
        "payload_template": "of the owner",
    }
    steps = [{"key": "a", "queue_name": "mail", "payload": "of the owner"}]
    workflow = api.post("/workflows", {"name": "owner-host", "jobs": steps}).json()
    return {
        "schedules": api.post("/schedules", schedule).json()["id"],
        "workflows": workflow["workflow_id"],
        "outgoing-webhooks": api.post("/outgoing-webhooks", hook).json()["id"],
        "jobs": parent,
        "LEASE": leased["lease_id"],
        "queues": "mail",
        "workers": worker["id"],
        "api-keys": key["id"],
        "organizations": api.organization_id,
    }


def request(caller, method, path, ids):
    """Calls a route with the owner's ids in its path and body."""
    kind = path.split("/")[3]
    target = re.sub(r"{\w+}", ids.get(kind, UNKNOWN), path)
    body = BODIES.get(f"{method} {path}") or BODIES.get(path.rsplit("/", 1)[1], {})
    body = {
        name: ids["LEASE"] if value == "LEASE" else [ids["jobs"]] if value == ["JOB"] else value
        for name, value in body.items()
    }
    options = {} if method in ("GET", "DELETE") else {"json": body}
    return caller.http.request(method, caller.server.url + target, **options)


def state(api, ids):
    """Everything that a stranger could have changed."""
    return [
        api.job(ids["jobs"]),
        api.get("/queues/mail").json(),
        api.get(f"/workers/{ids['workers']}").json(),
        {**api.get(f"/api-keys/{ids['api-keys']}").json(), "last_used": None},
        api.get(f"/schedules/{ids['schedules']}").json(),
        api.get(f"/workflows/{ids['workflows']}").json(),
        api.get(f"/outgoing-webhooks/{ids['outgoing-webhooks']}").json(),
        api.get(f"/organizations/{ids['organizations']}").json(),
        api.get(f"/jobs/{ids['jobs']}/history").json(),
        api.get(f"/jobs/{ids['jobs']}/dependencies").json(),
    ]


@pytest.mark.parametrize(("method", "path"), WITH_ID, ids=lambda value: value)
class TestAStranger:
    def test_gets_the_answer_for_what_does_not_exist(self, api, stranger, belongings, method, path):
        before = state(api, belongings)
        answer = request(stranger, method, path, belongings)
        nothing = {**dict.fromkeys(belongings, UNKNOWN), "LEASE": "x"}
        expected = request(stranger, method, path, nothing if "{name}" not in path else belongings)
        assert answer.status_code == expected.status_code == OF_ONES_OWN_QUEUE.get((method, path), 404)
        if answer.status_code == 404:
            assert answer.json() == expected.json()
        assert "of the owner" not in answer.text
        assert "owner-host" not in answer.text
        assert state(api, belongings) == before

    def test_is_not_helped_by_a_scoped_key_of_the_same_name(self, api, stranger, belongings, method, path):
        before = state(api, belongings)
        answer = request(stranger.scoped("mail"), method, path, belongings)
        assert answer.status_code in (OF_ONES_OWN_QUEUE.get((method, path), 404), 403)
        assert state(api, belongings) == before


@pytest.mark.parametrize(("method", "path"), CLOSED, ids=lambda value: value)
def test_nobody_gets_in_without_a_good_credential(api, method, path):
    revoked = api.post("/api-keys", {"name": "r"}).json()
    api.delete(f"/api-keys/{revoked['id']}")
    token = api.post("/auth/login", {"api_key": api.key}).json()["refresh_token"]
    target = re.sub(r"{\w+}", "x", path)
    credentials = [
        None,
        "Bearer",
        f"bearer {api.key}",
        f"Basic {api.key}",
        f"Bearer  {api.key}",
        f"Bearer {api.key}x",
        f"Bearer {api.key[:-1]}",
        f"Bearer {api.key.upper()}",
        f"Bearer {revoked['key']}",
        f"Bearer {token}",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ]
    for credential in credentials:
        headers = {} if credential is None else {"authorization": credential}
        for where in ("", f"?admin={api.key}"):
            answer = api.bare(method, target + where, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED"), credential


def test_a_credential_in_the_query_opens_streams_only(api):
    for route in ROUTES:
        if route.access in ("key", "jwt"):
            path = re.sub(r"{\w+}", "x", route.path)
            for name in ("token", "api_key"):
                assert api.bare(route.method, f"{path}?{name}={api.key}").status_code == 401, route.path


def test_an_expired_key_is_refused_at_once(timed):
    made = timed.post("/api-keys", {"name": "k", "expires_at": "2026-01-01T00:01:00Z"}).json()
    holder = timed.with_key(made["key"])
    assert holder.get("/jobs").status_code == 200
    timed.server.clock.advance(60)
    assert holder.get("/jobs").status_code == 401


def test_a_made_up_job_id_of_another_organization_takes_no_dependency(api, stranger):
    mine, theirs = api.create(), stranger.create()
    assert api.post(f"/jobs/{mine}/dependencies", {"depends_on": [theirs]}).status_code == 404
    assert api.post("/jobs", {"queue_name": "mail", "payload": 1, "parent_job_id": theirs}).status_code == 400


def test_lists_and_bulk_calls_leave_out_what_is_not_ones_own(api, stranger):
    theirs = stranger.bury()
    assert api.get("/jobs/status", ids=theirs).json() == []
    assert api.get("/jobs", q=theirs[:8]).json() == []
    assert api.post("/jobs/dlq/retry", {"job_ids": [theirs]}).json()["retried_jobs"] == []
    assert api.post("/jobs/dlq/purge", {"confirm": True}).json() == {"purged_count": 0}
    assert api.claim("mail", limit=100) == []
    assert stranger.status(theirs) == "deadletter"


def test_keys_are_stored_as_hashes_only(start_server, connect, tmp_path):
    file = tmp_path / "jobs.db"
    server = start_server(db=str(file))
    api = connect(server)
    key = api.post("/api-keys", {"name": "k"}).json()["key"]
    api.with_key(key).create()
    server.stop()
    stored = b"".join(found.read_bytes() for found in tmp_path.iterdir())
    assert key.encode() not in stored
    assert key[20:].encode() not in stored
