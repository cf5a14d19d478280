"""Contract section 9: how deliveries get out: where to, by themselves, and across a stop."""

from __future__ import annotations

import json
import threading

import pytest

from spooled.clock import ManualClock
from tests.waiting import HOPELESS


def refused(response):
    return response.status_code, response.json()["code"]


class TestPrivateAddresses:
    @pytest.fixture
    def rebound(self, start_server, connect, monkeypatch):
        """A server for which a public name leads to wherever the test says from now on."""
        api = connect(start_server(clock=ManualClock()))
        places = {"address": "93.184.215.14"}

        async def getaddrinfo(self, host, port, **options):
            return [(2, 1, 6, "", (places["address"], port))]

        monkeypatch.setattr(type(api.server._loop), "getaddrinfo", getaddrinfo, raising=False)
        return api, places

    def test_are_refused_when_a_name_leads_to_one_at_creation(self, rebound):
        api, places = rebound
        places["address"] = "10.0.0.1"
        response = api.post(
            "/outgoing-webhooks", {"name": "x", "url": "http://h.example.com", "events": ["job.created"]}
        )
        assert refused(response) == (400, "VALIDATION_ERROR")
        assert "10.0.0.1" not in response.text

    def test_are_refused_when_a_name_leads_to_one_at_delivery(self, rebound, receiver):
        api, places = rebound
        webhook_id = api.hook(f"http://h.example.com:{receiver.port}/", "job.created")
        places["address"] = "127.0.0.1"
        api.create()
        api.server.advance(0)
        assert receiver.requests == []
        (delivery,) = api.deliveries(webhook_id)
        assert (delivery["status"], delivery["attempts"]) == ("failed", 1)
        assert delivery["error"].startswith("refused: ")
        result = api.post(f"/outgoing-webhooks/{webhook_id}/test").json()
        assert result["success"] is False


class TestByItself:
    """With a real clock nobody has to ask."""

    @pytest.fixture
    def live(self, start_server, connect):
        return connect(start_server(allow_private_webhooks=True))

    def test_a_delivery_is_sent_at_once(self, live, receiver):
        live.hook(receiver.url(), "job.created")
        live.create()
        assert receiver.arrived.acquire(timeout=HOPELESS)

    def test_a_receiver_that_hangs_holds_up_no_other(self, live, receiver):
        receiver.hold = threading.Event()
        live.hook(receiver.url("/slow"), "job.created")
        live.create()
        assert receiver.arrived.acquire(timeout=HOPELESS)
        live.create()
        assert receiver.arrived.acquire(timeout=HOPELESS)

    def test_a_receiver_that_hangs_with_many_deliveries_leaves_room_for_others(self, live, receiver):
        receiver.hold = threading.Event()
        receiver.holds = "/slow"
        live.hook(receiver.url("/slow"), "job.created")
        jobs = [{"payload": number} for number in range(100)]
        live.post("/jobs/bulk", {"queue_name": "mail", "jobs": jobs})
        for _ in range(16):
            assert receiver.arrived.acquire(timeout=HOPELESS)
        live.hook(receiver.url("/quick"), "queue.paused")
        live.post("/queues/mail/pause")
        assert receiver.arrived.acquire(timeout=HOPELESS)
        assert receiver.requests[-1].path == "/quick"

    def test_a_stopping_server_gives_back_what_it_was_sending(
        self, start_server, connect, receiver, tmp_path
    ):
        server = start_server(db=tmp_path / "jobs.db", allow_private_webhooks=True)
        api = connect(server)
        receiver.hold = threading.Event()
        api.hook(receiver.url(), "job.created")
        api.create()
        assert receiver.arrived.acquire(timeout=HOPELESS)
        server.stop()
        receiver.hold.set()
        server.start()
        assert receiver.arrived.acquire(timeout=HOPELESS)
        first, second = receiver.requests
        assert first.body == second.body

    def test_more_than_fit_at_once_are_all_sent(self, live, receiver):
        live.hook(receiver.url(), "job.created")
        jobs = [{"payload": number} for number in range(100)]
        live.post("/jobs/bulk", {"queue_name": "mail", "jobs": jobs})
        for _ in range(100):
            assert receiver.arrived.acquire(timeout=HOPELESS)
        assert len({json.loads(request.body)["id"] for request in receiver.requests}) == 100
