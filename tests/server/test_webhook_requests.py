"""Contract section 9: what a webhook receives."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest


class TestARequest:
    def test_is_the_envelope_with_the_contracts_headers(self, hooked, receiver):
        hooked.hook(receiver.url("/a?b=c"), "job.created")
        job_id = hooked.create(priority=7)
        hooked.server.advance(0)
        request = receiver.only
        assert request.path == "/a?b=c"
        assert request.json == {
            "id": request.json["id"],
            "event": "job.created",
            "created_at": "2026-01-01T00:00:00Z",
            "data": {"job_id": job_id, "queue_name": "mail", "priority": 7, "status": "pending"},
        }
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"] == "Spooled-OutgoingWebhook/1.0"
        assert request.headers["x-spooled-event"] == "job.created"
        assert request.headers["x-spooled-timestamp"] == "1767225600"
        assert request.headers["x-spooled-delivery-attempt"] == "1"
        assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert "x-spooled-signature" not in request.headers

    def test_is_signed_with_the_secret_over_timestamp_and_raw_body(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.created", secret="s3cret")
        hooked.create()
        hooked.server.advance(12)
        request = receiver.only
        signed = b"1767225612." + request.body
        wanted = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
        assert request.headers["x-spooled-signature"] == f"sha256={wanted}"

    def test_is_checked_as_the_docs_show(self, hooked, receiver):
        page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        shown = {}
        exec(block, shown)
        hooked.hook(receiver.url(), "job.created", secret="s3cret")
        hooked.create()
        hooked.server.advance(0)
        headers, body = receiver.only.headers, receiver.only.body
        stamp, signature = headers["x-spooled-timestamp"], headers["x-spooled-signature"]
        assert shown["is_genuine"]("s3cret", stamp, body, signature)
        assert not shown["is_genuine"]("other", stamp, body, signature)

    def test_carries_the_credentials_of_the_address_in_a_header(self, hooked, receiver):
        hooked.hook(f"http://user:pa%20ss@127.0.0.1:{receiver.port}/", "job.created")
        hooked.create()
        hooked.server.advance(0)
        assert receiver.only.headers["authorization"] == "Basic dXNlcjpwYSBzcw=="

    def test_follows_no_redirect(self, hooked, receiver):
        webhook_id = hooked.hook(receiver.url(), "job.created")
        receiver.status, receiver.answer_headers = 302, {"location": receiver.url("/elsewhere")}
        hooked.create()
        hooked.server.advance(0)
        assert receiver.only.path == "/hook"
        (delivery,) = hooked.deliveries(webhook_id)
        assert (delivery["status"], delivery["status_code"]) == ("pending", 302)

    def test_is_not_sent_through_a_proxy(self, hooked, receiver, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        hooked.hook(receiver.url(), "job.created")
        hooked.create()
        hooked.server.advance(0)
        assert len(receiver.requests) == 1


class TestFormats:
    def told(self, hooked, receiver, format_):
        hooked.hook(receiver.url(), "queue.paused", format=format_)
        hooked.create()
        hooked.post("/queues/mail/pause", {"reason": "a <b> & @everyone"})
        hooked.server.advance(0)
        return receiver.only.json

    def test_slack(self, hooked, receiver):
        assert self.told(hooked, receiver, "slack") == {
            "text": "*queue.paused*\nqueue_name: mail\nreason: a &lt;b&gt; &amp; @everyone"
        }

    def test_discord_pings_nobody(self, hooked, receiver):
        assert self.told(hooked, receiver, "discord") == {
            "content": "**queue.paused**\nqueue_name: mail\nreason: a <b> & @everyone",
            "allowed_mentions": {"parse": []},
        }

    def test_teams_is_an_adaptive_card(self, hooked, receiver):
        message = self.told(hooked, receiver, "teams")
        assert message["type"] == "message"
        (attachment,) = message["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        title, facts = attachment["content"]["body"]
        assert title["text"] == "queue.paused"
        assert facts["facts"][0] == {"title": "queue_name", "value": "mail"}

    @pytest.mark.parametrize("format_", ["slack", "discord"])
    def test_long_values_are_cut(self, hooked, receiver, format_):
        hooked.hook(receiver.url(), "job.completed", format=format_)
        hooked.create()
        hooked.complete(hooked.claim_one(), result={"text": "x" * 100_000})
        hooked.server.advance(0)
        assert len(receiver.only.body) < 2000
