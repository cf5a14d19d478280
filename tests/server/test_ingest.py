"""Contract section 10: jobs that come in through an organization's webhook, and section 8: its token."""

from __future__ import annotations

import re

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def send():
    """Send to an organization's inbound webhook, with its token unless another is given."""

    def send(api, body, token=None):
        if token is None:
            token = api.get("/organizations/webhook-token").json()["webhook_token"]
        path = f"/api/v1/webhooks/{api.organization_id}/custom"
        return api.bare("POST", path, json=body, headers={"x-webhook-token": token})

    return send


class TestTheToken:
    def test_is_there_from_the_start_with_the_address(self, api):
        found = api.get("/organizations/webhook-token").json()
        assert re.fullmatch(r"whk_[A-Za-z0-9_-]{32}", found["webhook_token"])
        assert found["webhook_url"] == f"{api.server.url}/api/v1/webhooks/{api.organization_id}/custom"

    def test_is_none_for_the_servers_own_organization_until_it_is_made(self, timed, send):
        assert timed.get("/organizations/webhook-token").json()["webhook_token"] is None
        response = send(timed, {"queue_name": "mail", "payload": 1}, token="whk_x")
        assert refused(response) == (401, "AUTHENTICATION_FAILED")
        timed.post("/organizations/webhook-token/regenerate")
        assert send(timed, {"queue_name": "mail", "payload": 1}).status_code == 200

    def test_can_be_replaced_and_not_cleared(self, api, send):
        old = api.get("/organizations/webhook-token").json()["webhook_token"]
        new = api.post("/organizations/webhook-token/regenerate").json()["webhook_token"]
        assert old != new
        assert api.get("/organizations/webhook-token").json()["webhook_token"] == new
        assert send(api, {"queue_name": "mail", "payload": 1}, old).status_code == 401
        assert refused(api.post("/organizations/webhook-token/clear")) == (400, "BAD_REQUEST")

    @pytest.mark.parametrize("call", ["", "/regenerate", "/clear"])
    def test_is_closed_to_keys_that_are_limited_to_queues(self, api, call):
        method = "POST" if call else "GET"
        response = api.scoped("mail").http.request(method, f"/organizations/webhook-token{call}")
        assert refused(response) == (403, "ACCESS_DENIED")


class TestIngesting:
    def test_makes_a_job(self, api, send):
        response = send(api, {"queue_name": "mail", "payload": {"job_type": "x"}, "priority": 5})
        assert response.status_code == 200
        made = response.json()
        assert made == {"job_id": made["job_id"], "queue_name": "mail", "status": "pending"}
        job = api.job(made["job_id"])
        assert (job["payload"], job["priority"], job["max_retries"]) == ({"job_type": "x"}, 5, 3)

    def test_takes_retries_and_timeout_from_the_queue(self, api, send):
        api.put("/queues/mail/config", {"max_retries": 7, "default_timeout": 9})
        job = api.job(send(api, {"queue_name": "mail", "payload": 1}).json()["job_id"])
        assert (job["max_retries"], job["timeout_seconds"]) == (7, 9)

    def test_shows_the_stored_job_of_a_known_key(self, api, send):
        job_id = api.create("other", idempotency_key="one")
        api.claim_one("other")
        response = send(api, {"queue_name": "mail", "payload": 1, "idempotency_key": "one"})
        assert response.json() == {"job_id": job_id, "queue_name": "other", "status": "processing"}

    def test_is_told_to_webhooks_with_its_source(self, hooked, receiver, send):
        hooked.post("/organizations/webhook-token/regenerate")
        hooked.hook(receiver.url(), "job.created")
        send(hooked, {"queue_name": "mail", "payload": 1})
        hooked.server.advance(0)
        assert receiver.only.json["data"]["source"] == "incoming_webhook"

    @pytest.mark.parametrize("token", ["", "whk_wrong", "ä"])
    def test_needs_the_token(self, api, send, token):
        response = send(api, {"queue_name": "mail", "payload": 1}, token.encode("latin-1"))
        assert refused(response) == (401, "AUTHENTICATION_FAILED")
        path = f"/api/v1/webhooks/{api.organization_id}/custom"
        response = api.bare("POST", path, json={"queue_name": "mail", "payload": 1})
        assert refused(response) == (401, "AUTHENTICATION_FAILED")

    def test_does_not_take_the_token_of_another_organization(self, api, stranger, send):
        token = stranger.get("/organizations/webhook-token").json()["webhook_token"]
        assert send(api, {"queue_name": "mail", "payload": 1}, token).status_code == 401

    def test_for_an_unknown_organization_is_not_found(self, api):
        response = api.bare(
            "POST", "/api/v1/webhooks/x/custom", json={}, headers={"x-webhook-token": "whk_x"}
        )
        assert refused(response) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("queue_name", ""),
            ("queue_name", "x" * 101),
            ("queue_name", "a b"),
            ("queue_name", "a..b"),
            ("queue_name", "admin"),
            ("queue_name", "Default"),
            ("event_type", "x" * 101),
            ("idempotency_key", "x" * 256),
            ("priority", 101),
        ],
    )
    def test_checks_its_fields(self, api, send, field, bad):
        response = send(api, {"queue_name": "mail", "payload": 1, field: bad})
        assert refused(response) == (400, "VALIDATION_ERROR")

    def test_costs_quota_but_no_queue(self, start_server, connect, send):
        api = connect(start_server(limits=Limits(queues=1, active_jobs=2, payload_bytes=10)))
        api.post("/organizations/webhook-token/regenerate")
        api.create("first")
        assert send(api, {"queue_name": "second", "payload": 1}).status_code == 200
        assert refused(send(api, {"queue_name": "third", "payload": "x" * 20})) == (413, "PAYLOAD_TOO_LARGE")
        assert refused(send(api, {"queue_name": "third", "payload": 1})) == (429, "QUOTA_EXCEEDED")


class TestTheLog:
    def test_tells_what_came_in_newest_first(self, start_server, connect, send):
        api = connect(start_server(clock=ManualClock()))
        api.post("/organizations/webhook-token/regenerate")
        body = {"queue_name": "mail", "payload": 1, "idempotency_key": "one"}
        job_id = send(api, body).json()["job_id"]
        api.server.advance(10)
        send(api, {**body, "queue_name": "other", "event_type": "push"})
        second, first = api.get("/webhooks/deliveries").json()
        assert first == {
            "id": first["id"],
            "provider": "custom",
            "event_type": "custom",
            "matched_queue": "mail",
            "job_id": job_id,
            "status": "created",
            "created_at": "2026-01-01T00:00:00Z",
        }
        assert (second["status"], second["event_type"], second["job_id"]) == ("duplicate", "push", job_id)
        for params, wanted in (
            ({"status": "created"}, [first]),
            ({"since": "2026-01-01T00:00:10Z"}, [second]),
            ({"queue_name": "mail"}, [first]),
            ({"limit": 1}, [second]),
            ({"limit": 1, "offset": 1}, [first]),
        ):
            assert api.get("/webhooks/deliveries", **params).json() == wanted

    def test_holds_nothing_that_was_refused(self, api, send):
        send(api, {"queue_name": "admin", "payload": 1})
        send(api, {"queue_name": "mail", "payload": 1}, "whk_wrong")
        assert api.get("/webhooks/deliveries").json() == []

    @pytest.mark.parametrize(
        "params", [{"status": "lost"}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}]
    )
    def test_refuses_filters_that_mean_nothing(self, api, params):
        assert refused(api.get("/webhooks/deliveries", **params)) == (400, "VALIDATION_ERROR")

    def test_is_closed_to_keys_that_are_limited_to_queues(self, api):
        assert refused(api.scoped("mail").get("/webhooks/deliveries")) == (403, "ACCESS_DENIED")

    def test_is_kept_as_long_as_history(self, start_server, connect, send):
        api = connect(start_server(clock=ManualClock(), plan="free"))
        api.post("/organizations/webhook-token/regenerate")
        send(api, {"queue_name": "mail", "payload": 1})
        api.server.advance(86_400)
        assert len(api.get("/webhooks/deliveries").json()) == 1
        api.server.advance(300)
        assert api.get("/webhooks/deliveries").json() == []
