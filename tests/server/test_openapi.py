"""`GET /openapi.json` describes every route, and every reply has the shape that it says."""

from __future__ import annotations

import copy
import re

import jsonschema_rs
import pytest

from spooled import __version__
from spooled_contrib.server._api.openapi.document import build, name_of, undescribed
from spooled_contrib.server._api.openapi.operations import OPERATIONS
from spooled_contrib.server._api.openapi.route import PATH
from spooled_contrib.server._api.routes import ROUTES

CALLS = [route for route in ROUTES if route.path != PATH]
DOCUMENT = build(CALLS, __version__)


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_is_described_and_nothing_else():
    assert undescribed(CALLS) == [], "add an entry for each to _api/openapi/operations.py"
    assert sorted(OPERATIONS) == sorted(name_of(route) for route in CALLS)


def test_the_document_is_served_to_anybody(api):
    response = api.bare("GET", PATH)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == DOCUMENT


def test_operations_have_ids_of_their_own_and_words():
    ids = [operation["operationId"] for _, operation in operations()]
    assert sorted(ids) == sorted(set(ids))
    assert all(operation["summary"] for _, operation in operations())


def test_every_reference_leads_somewhere():
    text = str(DOCUMENT)
    schemas = re.findall(r"#/components/schemas/([\w.]+)", text)
    assert set(schemas) <= set(DOCUMENT["components"]["schemas"])
    for target in re.findall(r"'operationRef': '#/paths/([^']+)'", text):
        path, _, method = target.rpartition("/")
        assert method in DOCUMENT["paths"][path.replace("~1", "/").replace("~0", "~")]


def test_every_schema_is_one():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        (
            jsonschema_rs.meta.validate(
                {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
            ),
            name,
        )


class Witness:
    """Holds every answer against the description of the call that it answers."""

    def __init__(self):
        self.seen = set()
        strict = copy.deepcopy(DOCUMENT["components"])
        for name, schema in strict["schemas"].items():
            # An error may have members of its own kind; any other reply has what is described and no more.
            if name != "ErrorReply" and "properties" in schema:
                schema["additionalProperties"] = False
        self._components = strict
        self._patterns = [
            (name, re.compile(re.sub(r"{\w+}", "[^/]+", name)), operation) for name, operation in operations()
        ]

    def __call__(self, response):
        response.read()
        called = f"{response.request.method} {response.request.url.path}"
        # A path without parameters wins, as it does in the router.
        matches = [match for match in self._patterns if match[1].fullmatch(called)]
        name, _, operation = min(matches, key=lambda match: match[0].count("{"))
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, f"{name} is not said to answer {response.status_code}"
        self.seen.add((name, response.status_code))
        if "content" not in described:
            assert response.content == b""
            return
        ((media_type, content),) = described["content"].items()
        assert response.headers["content-type"].partition(";")[0] == media_type
        if media_type != "application/json":
            return
        schema = {**content["schema"], "components": self._components}
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(response.json())
        for header in described.get("headers", {}):
            assert header in response.headers


def use_everything(api, plain):
    """Calls every route so that each of its good answers is given at least once."""
    for path in ("", "/live", "/ready"):
        plain.get(f"/health{path}")
    body = {"queue_name": "mail", "payload": {"job_type": "t"}, "idempotency_key": "k", "tags": ["a"]}
    job_id = api.post("/jobs", body).json()["id"]
    assert api.post("/jobs", body).status_code == 200
    child = api.create("mail", parent_job_id=job_id, scheduled_at="2031-01-01T00:00:00Z")
    api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}, {"payload": 2}]})
    api.post(f"/jobs/{child}/dependencies", {"depends_on": [job_id], "dependency_mode": "any"})
    api.get(f"/jobs/{child}/dependencies")
    api.get(f"/jobs/{job_id}/dependencies")
    api.put(f"/jobs/{child}/priority", {"priority": 7})
    api.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": "w1"})
    api.post("/workers/w1/heartbeat", {"current_jobs": 1, "status": "degraded"})
    api.get("/workers")
    api.get("/workers/w1")
    first = api.claim_one(worker="w1")
    api.ack("heartbeat", first, "w1")
    api.complete(first, "w1", result=[1])
    api.complete(first, "w1")
    api.fail(api.claim_one(worker="w1"), "w1")
    api.post("/workers/w1/deregister")
    buried = api.bury("mail")
    for path in ("/jobs", "/jobs/dlq", "/jobs/stats", f"/jobs/{job_id}", f"/jobs/{job_id}/history"):
        api.get(path)
    api.get("/jobs/status", ids=job_id)
    api.post(f"/jobs/{buried}/retry")
    api.delete(f"/jobs/{child}")
    api.bury("dead")
    api.post("/jobs/dlq/retry", {"queue_name": "dead"})
    api.bury("dead2")
    api.post("/jobs/dlq/purge", {"confirm": True})
    api.put("/queues/mail/config", {"max_retries": 2, "rate_limit": 5, "settings": {"a": 1}})
    api.get("/queues")
    api.get("/queues/mail")
    api.get("/queues/dead")
    api.get("/queues/mail/stats")
    api.post("/queues/mail/pause", {"reason": "why"})
    api.post("/queues/mail/resume")
    api.delete("/queues/mail", delete_jobs="true")
    api.get("/organizations")
    api.get("/organizations/usage")
    api.get(f"/organizations/{api.organization_id}")
    plain.post("/api/v1/organizations", json={"name": "n", "slug": f"s-{job_id}"})
    key = api.post("/api-keys", {"name": "k", "expires_at": "2031-01-01T00:00:00Z"}).json()
    api.get("/api-keys")
    api.get(f"/api-keys/{key['id']}")
    api.put(f"/api-keys/{key['id']}", {"name": "other"})
    api.delete(f"/api-keys/{key['id']}")
    tokens = plain.post("/api/v1/auth/login", json={"api_key": api.key}).json()
    plain.post("/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    plain.post("/api/v1/auth/validate", json={"token": tokens["access_token"]})
    plain.post("/api/v1/auth/validate", json={"token": "nonsense"})
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    plain.get("/api/v1/auth/me", headers=bearer)
    plain.post("/api/v1/auth/logout", headers=bearer)


def use_webhooks_and_administration(api, plain):
    admin = {"headers": {"x-admin-key": "the-admin-key"}}
    plain.get("/metrics")
    api.get("/dashboard")
    api.get("/billing/status")
    plain.get("/api/v1/organizations/check-slug?slug=free")
    plain.post("/api/v1/organizations/generate-slug", json={"name": "A name"})
    plain.get("/api/v1/auth/check-email?email=a@example.org")
    mine = f"/organizations/{api.organization_id}"
    api.put(mine, {"name": "other"})
    api.get(f"{mine}/members")
    hook = {"name": "h", "url": f"{api.server.url}/nowhere", "events": ["job.created"], "secret": "s"}
    webhook = f"/outgoing-webhooks/{api.post('/outgoing-webhooks', hook).json()['id']}"
    api.get("/outgoing-webhooks")
    api.get(webhook)
    api.put(webhook, {"secret": None})
    api.post(f"{webhook}/test")
    api.create("hooked")
    (delivery,) = api.get(f"{webhook}/deliveries").json()
    api.post(f"{webhook}/retry/{delivery['id']}")
    api.delete(webhook)
    api.get("/organizations/webhook-token")
    token = api.post("/organizations/webhook-token/regenerate").json()["webhook_token"]
    plain.post(
        f"/api/v1/webhooks/{api.organization_id}/custom",
        json={"queue_name": "in", "payload": 1},
        headers={"x-webhook-token": token},
    )
    api.get("/webhooks/deliveries")
    root = "/api/v1/admin"
    made = plain.post(f"{root}/organizations", json={"name": "n", "slug": "by-admin"}, **admin).json()
    one = f"{root}/organizations/{made['organization']['id']}"
    plain.get(f"{root}/organizations", **admin)
    plain.get(one, **admin)
    plain.patch(one, json={"plan_tier": "pro", "custom_limits": {"max_queues": 5}}, **admin)
    key = plain.post(f"{one}/api-keys", json={"name": "k"}, **admin).json()["key"]
    plain.post(f"{one}/reset-usage", **admin)
    plain.get(f"{root}/stats", **admin)
    plain.get(f"{root}/plans", **admin)
    plain.delete(one.replace("/admin", ""), headers={"authorization": f"Bearer {key}"})
    plain.delete(f"{one}?hard_delete=true", **admin)


def use_schedules_and_workflows(api):
    new = {"name": "n", "cron_expression": "0 9 * * 1", "queue_name": "mail", "payload_template": {"a": 1}}
    schedule = f"/schedules/{api.post('/schedules', new).json()['id']}"
    api.get("/schedules")
    api.get(schedule)
    api.put(schedule, {"description": "d"})
    for verb in ("pause", "resume", "trigger"):
        api.post(f"{schedule}/{verb}")
    api.get(f"{schedule}/history")
    api.delete(schedule)
    steps = [
        {"key": "a", "queue_name": "steps", "payload": 1, "max_retries": 0},
        {"key": "b", "queue_name": "steps", "payload": 2, "depends_on": ["a"]},
    ]
    workflow = f"/workflows/{api.post('/workflows', {'name': 'w', 'jobs': steps}).json()['workflow_id']}"
    api.fail(api.claim_one("steps"))
    api.get("/workflows")
    api.get(workflow)
    api.post(f"{workflow}/cancel")


# What takes a broken database, or is no reply with an end: the tests of streams and of the WebSocket see to those.
NOT_CALLED = {
    ("GET /health/ready", 503),
    ("GET /api/v1/events", 200),
    ("GET /api/v1/events/jobs/{id}", 200),
    ("GET /api/v1/events/queues/{name}", 200),
    ("GET /api/v1/ws", 101),
    ("POST /api/v1/workflows/{id}/retry", 200),  # takes a sweep of the server to fail first
}


def test_every_reply_has_the_shape_that_is_described(start_server, connect):
    import httpx

    api = connect(start_server(admin_key="the-admin-key", allow_private_webhooks=True))
    witness = Witness()
    api.http.event_hooks = {"response": [witness]}
    with httpx.Client(base_url=api.server.url, event_hooks={"response": [witness]}) as plain:
        use_everything(api, plain)
        use_schedules_and_workflows(api)
        use_webhooks_and_administration(api, plain)
    described = {
        (name, int(status))
        for name, operation in operations()
        for status in operation["responses"]
        if int(status) < 400 or name == "GET /health/ready"
    }
    assert (
        described - witness.seen - NOT_CALLED - {("GET /health/ready", 500), ("GET /health/ready", 400)}
        == set()
    )


@pytest.mark.parametrize("status", [401, 404, 405])
def test_errors_have_the_described_shape(api, status):
    schema = {"$ref": "#/components/schemas/ErrorReply", "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    answers = {
        401: lambda: api.bare("GET", "/api/v1/jobs"),
        404: lambda: api.get("/jobs/unknown"),
        405: lambda: api.http.patch("/jobs"),
    }
    response = answers[status]()
    assert response.status_code == status
    validator.validate(response.json())
