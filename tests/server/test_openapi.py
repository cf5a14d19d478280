"""`GET /openapi.json` describes every route, and every reply has the shape that it says."""

from __future__ import annotations

import copy
import re

import jsonschema_rs
import pytest

from spooled import __version__
from spooled.clock import ManualClock
from spooled_contrib.server._api.openapi.document import build, name_of, undescribed
from spooled_contrib.server._api.openapi.operations import OPERATIONS
from spooled_contrib.server._api.openapi.route import PATH
from spooled_contrib.server._api.routes import ROUTES

ADMIN_KEY = "the-key-of-those-who-run-the-server"
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


@pytest.mark.parametrize(
    ("name", "schemes", "refusals"),
    [
        ("GET /api/v1/schedules", ["bearer"], {"400", "401", "429", "500"}),
        ("GET /api/v1/admin/stats", ["adminKey"], {"400", "401", "403", "429", "500"}),
        ("POST /api/v1/webhooks/{organization_id}/custom", ["webhookToken"], {"401", "404", "413", "429"}),
        ("GET /api/v1/organizations/check-slug", [], {"400", "429", "500"}),
        ("GET /health", [], {"400", "500"}),
    ],
)
def test_a_route_says_what_it_wants_to_see_and_how_it_refuses(name, schemes, refusals):
    operation = dict(operations())[name]
    assert [scheme for either in operation["security"] for scheme in either] == schemes
    assert set(schemes) <= set(DOCUMENT["components"]["securitySchemes"])
    assert refusals <= set(operation["responses"])
    if operation["responses"].keys() & {"401"}:
        assert schemes
    assert ("429" in operation["responses"]) == ("429" in refusals)


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
        assert response.headers["content-type"] == media_type
        schema = {**content["schema"], "components": self._components}
        said = response.json() if media_type == "application/json" else response.text
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(said)
        for header in described.get("headers", {}):
            assert header in response.headers


def use_jobs_and_queues(api):
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
    api.create("mail")
    settled = {"job_id": first["id"], "lease_id": first["lease_id"]}
    claim = {"queue_name": "mail", "limit": 5}
    api.post("/jobs/settle", {"worker_id": "w2", "completes": [settled], "fails": [{}], "claim": claim})
    api.post("/jobs/settle", {"worker_id": "w2", "claim": {"queue_name": ""}})
    api.post("/jobs/settle", {})
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


def use_accounts(api, plain):
    api.get("/organizations")
    api.get("/organizations/usage")
    api.get(f"/organizations/{api.organization_id}")
    api.get(f"/organizations/{api.organization_id}/members")
    api.put(f"/organizations/{api.organization_id}", {"settings": {"a": 1}, "billing_email": "a@example.com"})
    made = plain.post("/api/v1/organizations", json={"name": "n", "slug": "taken"}).json()
    for slug in ("free", "taken", "not/one"):
        plain.get("/api/v1/organizations/check-slug", params={"slug": slug})
    plain.post("/api/v1/organizations/generate-slug", json={"name": "A name"})
    plain.get("/api/v1/auth/check-email", params={"email": "a@example.com"})
    other = api.with_key(made["api_key"]["key"])
    other.http.event_hooks = api.http.event_hooks
    other.delete(f"/organizations/{made['organization']['id']}")
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


def use_schedules(api):
    new = {"name": "s", "cron_expression": "0 9 * * 1-5", "queue_name": "plan", "payload_template": {"a": 1}}
    more = {"timezone": "Europe/Berlin", "tags": ["a"], "metadata": {"b": 2}, "description": "why"}
    schedule_id = api.post("/schedules", {**new, **more}).json()["id"]
    api.post(f"/schedules/{schedule_id}/trigger")
    api.get("/schedules")
    for path in ("", "/history"):
        api.get(f"/schedules/{schedule_id}{path}")
    api.put(f"/schedules/{schedule_id}", {"priority": 3})
    for verb in ("pause", "resume"):
        api.post(f"/schedules/{schedule_id}/{verb}")
    api.delete(f"/schedules/{schedule_id}")


def use_workflows(api):
    first = {"key": "a", "queue_name": "flow", "payload": 1, "max_retries": 0}
    second = {"key": "b", "queue_name": "flow", "payload": 2, "depends_on": ["a"], "dependency_mode": "any"}
    body = {"name": "w", "jobs": [first, second], "metadata": {"a": 1}}
    workflow_id = api.post("/workflows", body).json()["workflow_id"]
    api.fail(api.claim_one("flow"))
    api.server.advance(60)
    api.get("/workflows")
    api.get(f"/workflows/{workflow_id}")
    assert api.post(f"/workflows/{workflow_id}/retry").status_code == 200
    api.post(f"/workflows/{workflow_id}/cancel")
    api.get(f"/workflows/{workflow_id}")


def use_webhooks(api, plain, receiver):
    webhook_id = api.hook(receiver.url(), "job.created")
    receiver.status = 500
    api.create("hooks")
    for _ in range(5):
        api.server.advance(10)
    api.post(f"/outgoing-webhooks/{webhook_id}/test")
    (delivery,) = api.deliveries(webhook_id)
    assert api.post(f"/outgoing-webhooks/{webhook_id}/retry/{delivery['id']}").status_code == 200
    api.get("/outgoing-webhooks")
    api.webhook(webhook_id)
    api.put(f"/outgoing-webhooks/{webhook_id}", {"format": "slack", "secret": None})
    api.delete(f"/outgoing-webhooks/{webhook_id}")
    api.get("/organizations/webhook-token")
    token = api.post("/organizations/webhook-token/regenerate").json()["webhook_token"]
    url = f"/api/v1/webhooks/{api.organization_id}/custom"
    plain.post(url, headers={"x-webhook-token": token}, json={"queue_name": "in", "payload": 1})
    api.get("/webhooks/deliveries")


def use_administration(api, plain):
    admin = {"x-admin-key": ADMIN_KEY}
    url = "/api/v1/admin/organizations"
    new = {"name": "n", "slug": "by-admin", "plan_tier": "pro"}
    organization_id = plain.post(url, headers=admin, json=new).json()["organization"]["id"]
    plain.get(url, headers=admin)
    plain.get(f"{url}/{organization_id}", headers=admin)
    plain.patch(f"{url}/{organization_id}", headers=admin, json={"custom_limits": {"max_queues": 1}})
    plain.post(f"{url}/{organization_id}/api-keys", headers=admin, json={"name": "k"})
    plain.post(f"{url}/{organization_id}/reset-usage", headers=admin)
    plain.delete(f"{url}/{organization_id}", headers=admin)
    plain.get(f"{url}/{organization_id}", headers=admin)
    for path in ("stats", "plans"):
        plain.get(f"/api/v1/admin/{path}", headers=admin)
    api.get("/dashboard")
    api.get("/billing/status")


def use_everything(api, plain, receiver):
    """Calls every route so that each of its good answers is given at least once."""
    for path in ("health", "health/live", "health/ready", "metrics"):
        plain.get(f"/{path}")
    use_jobs_and_queues(api)
    use_schedules(api)
    use_workflows(api)
    use_webhooks(api, plain, receiver)
    use_accounts(api, plain)
    use_administration(api, plain)


# What takes a broken database, or is no reply with an end: the tests of streams and of the WebSocket see to those.
NOT_CALLED = {
    ("GET /health/ready", 503),
    ("GET /api/v1/events", 200),
    ("GET /api/v1/events/jobs/{id}", 200),
    ("GET /api/v1/events/queues/{name}", 200),
    ("GET /api/v1/ws", 101),
}


def test_every_reply_has_the_shape_that_is_described(start_server, connect, receiver):
    import httpx

    options = {"admin_key": ADMIN_KEY, "allow_private_webhooks": True, "open_registration": True}
    api = connect(start_server(clock=ManualClock(), **options))
    witness = Witness()
    api.http.event_hooks = {"response": [witness]}
    with httpx.Client(base_url=api.server.url, event_hooks={"response": [witness]}) as plain:
        use_everything(api, plain, receiver)
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
