"""Contract section 9: what is sent to a webhook, how often, and what is written down about it."""

from __future__ import annotations


def refused(response):
    return response.status_code, response.json()["code"]


class TestADelivery:
    def test_that_arrived_is_written_down(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        hooked.create()
        hooked.server.advance(3)
        (delivery,) = hooked.deliveries(webhook_id)
        assert delivery == {
            "id": receiver.only.json["id"],
            "webhook_id": webhook_id,
            "event": "job.created",
            "payload": receiver.only.json,
            "status": "success",
            "status_code": 200,
            "response_body": "thanks",
            "error": None,
            "attempts": 1,
            "created_at": "2026-01-01T00:00:00Z",
            "delivered_at": "2026-01-01T00:00:03Z",
        }
        webhook = hooked.webhook(webhook_id)
        assert (webhook["last_status"], webhook["last_triggered_at"]) == ("success", "2026-01-01T00:00:03Z")

    def test_is_tried_five_times_with_growing_waits_under_one_id(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status = 500
        hooked.create()
        hooked.server.advance(0)
        for number, wait in enumerate((1, 2, 4, 8), 2):
            hooked.server.advance(wait - 0.001)
            assert len(receiver.requests) == number - 1
            hooked.server.advance(0.001)
            assert receiver.requests[-1].headers["x-spooled-delivery-attempt"] == str(number)
        hooked.server.advance(3600)
        assert len(receiver.requests) == 5
        assert len({request.json["id"] for request in receiver.requests}) == 1
        (delivery,) = hooked.deliveries(webhook_id)
        assert (delivery["status"], delivery["attempts"]) == ("failed", 5)
        assert (delivery["error"], delivery["delivered_at"]) == ("answered 500", None)
        webhook = hooked.webhook(webhook_id)
        assert (webhook["failure_count"], webhook["last_status"]) == (1, "failed")

    def test_that_cannot_connect_says_so(self, hooked):
        webhook_id = hooked.hook("http://127.0.0.1:9/", "job.created")
        hooked.create()
        hooked.server.advance(0)
        (delivery,) = hooked.deliveries(webhook_id)
        assert (delivery["status"], delivery["status_code"], delivery["attempts"]) == ("pending", None, 1)
        assert "ConnectError" in delivery["error"]

    def test_keeps_the_beginning_of_a_long_answer(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.answer = b"\0" + b"x" * 1_000_000
        hooked.create()
        hooked.server.advance(0)
        (delivery,) = hooked.deliveries(webhook_id)
        assert delivery["response_body"] == "\ufffd" + "x" * 4095

    def test_goes_to_every_webhook_that_wants_the_event(self, hooked, receiver):
        hooked.hook(receiver.url("/1"), "job.created", "job.failed")
        hooked.hook(receiver.url("/2"), "job.created")
        hooked.hook(receiver.url("/3"), "job.failed")
        hooked.hook(receiver.url("/4"), "job.created", enabled=False)
        hooked.create()
        hooked.server.advance(0)
        assert sorted(request.path for request in receiver.requests) == ["/1", "/2"]

    def test_of_a_webhook_that_was_disabled_meanwhile_is_not_sent(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        hooked.create()
        hooked.put(f"/outgoing-webhooks/{webhook_id}", {"enabled": False})
        hooked.server.advance(0)
        assert receiver.requests == []
        (delivery,) = hooked.deliveries(webhook_id)
        assert (delivery["status"], delivery["error"]) == ("failed", "the webhook is disabled")

    def test_of_a_deleted_webhook_is_gone(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        hooked.create()
        hooked.delete(f"/outgoing-webhooks/{webhook_id}")
        hooked.server.advance(0)
        assert receiver.requests == []

    def test_uses_the_address_and_secret_of_the_moment_it_is_sent(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url("/old"), "job.created", secret="old")
        hooked.create()
        hooked.put(f"/outgoing-webhooks/{webhook_id}", {"url": receiver.url("/new"), "secret": None})
        hooked.server.advance(0)
        assert receiver.only.path == "/new"
        assert "x-spooled-signature" not in receiver.only.headers

    def test_does_not_exist_for_a_request_that_was_refused(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        assert (
            hooked.post("/jobs", {"queue_name": "mail", "payload": 1, "parent_job_id": "x"}).status_code
            == 400
        )
        hooked.create(idempotency_key="one")
        hooked.post("/jobs", {"queue_name": "mail", "payload": 1, "idempotency_key": "one"})
        assert len(hooked.deliveries(webhook_id)) == 1

    def test_is_listed_newest_first_by_status_and_page(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        jobs = [hooked.create()]
        hooked.server.advance(0)
        jobs += [hooked.create(), hooked.create()]

        def listed(**params):
            return [row["payload"]["data"]["job_id"] for row in hooked.deliveries(webhook_id, **params)]

        assert listed() == jobs[::-1]
        assert listed(status="success") == jobs[:1]
        assert listed(limit=1, offset=1) == [jobs[1]]
        response = hooked.get(f"/outgoing-webhooks/{webhook_id}/deliveries", status="lost")
        assert refused(response) == (400, "VALIDATION_ERROR")


class TestDisabling:
    def fail_once(self, api):
        api.create()
        for wait in (0, 1, 2, 4, 8):
            api.server.advance(wait)

    def test_happens_after_twenty_failed_deliveries_in_a_row(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status = 500
        for _ in range(19):
            hooked.create()
        for wait in (0, 1, 2, 4, 8):
            hooked.server.advance(wait)
        webhook = hooked.webhook(webhook_id)
        assert (webhook["enabled"], webhook["failure_count"]) == (True, 19)
        self.fail_once(hooked)
        webhook = hooked.webhook(webhook_id)
        assert (webhook["enabled"], webhook["failure_count"]) == (False, 20)
        assert webhook["last_status"] == "auto_disabled"
        hooked.create()
        assert len(hooked.deliveries(webhook_id)) == 20

    def test_starts_to_count_again_after_a_success(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status = 500
        self.fail_once(hooked)
        receiver.status = 204
        hooked.create()
        hooked.server.advance(0)
        assert hooked.webhook(webhook_id)["failure_count"] == 0

    def test_is_forgotten_when_the_webhook_is_enabled_again(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status = 500
        self.fail_once(hooked)
        hooked.put(f"/outgoing-webhooks/{webhook_id}", {"enabled": False})
        after = hooked.put(f"/outgoing-webhooks/{webhook_id}", {"enabled": True}).json()
        assert (after["enabled"], after["failure_count"]) == (True, 0)


class TestRetryingByHand:
    def failed(self, api, receiver):
        webhook_id = api.hook(receiver.url(), "job.created")
        receiver.status = 500
        api.create()
        for wait in (0, 1, 2, 4, 8):
            api.server.advance(wait)
        return webhook_id, api.deliveries(webhook_id)[0]["id"]

    def test_makes_one_more_attempt(self, hooked, receiver):
        webhook_id, delivery_id = self.failed(hooked, receiver)
        receiver.status = 200
        response = hooked.post(f"/outgoing-webhooks/{webhook_id}/retry/{delivery_id}")
        assert response.status_code == 200
        assert response.json()["success"] is True
        hooked.server.advance(0)
        (delivery,) = hooked.deliveries(webhook_id)
        assert (delivery["status"], delivery["attempts"], delivery["error"]) == ("success", 6, None)
        again = hooked.post(f"/outgoing-webhooks/{webhook_id}/retry/{delivery_id}")
        assert refused(again) == (400, "BAD_REQUEST")

    def test_ends_at_ten_attempts(self, hooked, receiver):
        webhook_id, delivery_id = self.failed(hooked, receiver)
        for _ in range(5):
            assert hooked.post(f"/outgoing-webhooks/{webhook_id}/retry/{delivery_id}").status_code == 200
            hooked.server.advance(60)
        assert len(receiver.requests) == 10
        again = hooked.post(f"/outgoing-webhooks/{webhook_id}/retry/{delivery_id}")
        assert refused(again) == (400, "BAD_REQUEST")

    def test_of_an_unknown_delivery_is_not_found(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        assert refused(hooked.post(f"/outgoing-webhooks/{webhook_id}/retry/x")) == (404, "NOT_FOUND")


class TestTesting:
    def test_sends_at_once_and_tells_what_came_of_it(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created", secret="s")
        result = hooked.post(f"/outgoing-webhooks/{webhook_id}/test").json()
        assert (result["success"], result["status_code"], result["error"]) == (True, 200, None)
        assert result["response_time_ms"] >= 0
        assert receiver.only.json["event"] == "webhook.test"
        assert "x-spooled-signature" in receiver.only.headers
        assert hooked.deliveries(webhook_id) == []

    def test_tells_of_a_failure_without_counting_it(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status = 404
        result = hooked.post(f"/outgoing-webhooks/{webhook_id}/test").json()
        assert (result["success"], result["status_code"], result["error"]) == (False, 404, "answered 404")
        assert hooked.webhook(webhook_id)["failure_count"] == 0
