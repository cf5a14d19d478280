"""Contract section 9: keeping outgoing webhooks."""

from __future__ import annotations

import pytest

PUBLIC = "https://93.184.215.14/hook"


def refused(response):
    return response.status_code, response.json()["code"]


def body(**fields):
    return {"name": "CI", "url": PUBLIC, "events": ["job.created"], **fields}


class TestCreating:
    def test_gives_the_webhook_without_its_secret(self, timed):
        response = timed.post("/outgoing-webhooks", body(secret="s3cret"))
        assert response.status_code == 201
        made = response.json()
        assert made == {
            "id": made["id"],
            "organization_id": timed.organization_id,
            "name": "CI",
            "url": PUBLIC,
            "events": ["job.created"],
            "format": "json",
            "enabled": True,
            "failure_count": 0,
            "last_triggered_at": None,
            "last_status": None,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }
        assert timed.get(f"/outgoing-webhooks/{made['id']}").json() == made
        assert timed.get("/outgoing-webhooks").json() == [made]

    @pytest.mark.parametrize("name", ["json", "slack", "discord", "teams"])
    def test_takes_every_format(self, api, name):
        assert api.webhook(api.hook(PUBLIC, "job.created", format=name))["format"] == name

    @pytest.mark.parametrize(
        ("field", "bad", "code"),
        [
            ("name", "", "VALIDATION_ERROR"),
            ("name", "x" * 101, "VALIDATION_ERROR"),
            ("name", "a\0b", "VALIDATION_ERROR"),
            ("url", "ftp://example.com", "VALIDATION_ERROR"),
            ("url", "https://" + "x" * 2048, "VALIDATION_ERROR"),
            ("url", "http://[::1", "VALIDATION_ERROR"),
            ("url", "https://exa mple.com", "VALIDATION_ERROR"),
            ("events", [], "VALIDATION_ERROR"),
            ("events", ["job.exploded"], "VALIDATION_ERROR"),
            ("format", "xml", "INVALID_JSON"),
        ],
    )
    def test_checks_its_fields(self, api, field, bad, code):
        response = api.post("/outgoing-webhooks", body(**{field: bad}))
        assert refused(response) == (400, code)
        assert response.json()["details"][0]["field"].startswith(field)

    @pytest.mark.parametrize("field", ["name", "url", "events"])
    def test_needs_its_fields(self, api, field):
        wanted = body()
        del wanted[field]
        assert refused(api.post("/outgoing-webhooks", wanted)) == (422, "VALIDATION_ERROR")

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8080/",
            "http://localhost/",
            "http://a.localhost/",
            "http://LOCALHOST./",
            "http://10.1.2.3/",
            "http://192.168.0.1/",
            "http://172.16.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://224.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fe80::1]/",
            "http://[fc00::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://metadata.google.internal/",
        ],
    )
    def test_refuses_addresses_that_are_not_public(self, api, url):
        response = api.post("/outgoing-webhooks", body(url=url))
        assert refused(response) == (400, "VALIDATION_ERROR")
        assert "--allow-private-webhooks" in response.json()["message"]

    def test_takes_a_name_that_does_not_resolve_yet(self, api):
        api.hook("https://hooks.invalid/a", "job.created")

    def test_takes_private_addresses_when_the_server_allows_them(self, hooked):
        hooked.hook("http://localhost:1/a", "job.created")


class TestChanging:
    def test_keeps_what_is_not_sent(self, timed):
        webhook_id = timed.hook(PUBLIC, "job.created")
        before = timed.webhook(webhook_id)
        timed.server.advance(5)
        after = timed.put(f"/outgoing-webhooks/{webhook_id}", {"events": ["job.failed", "job.failed"]}).json()
        assert after == {**before, "events": ["job.failed"], "updated_at": "2026-01-01T00:00:05Z"}

    def test_checks_the_new_address(self, api):
        webhook_id = api.hook(PUBLIC, "job.created")
        response = api.put(f"/outgoing-webhooks/{webhook_id}", {"url": "http://127.0.0.1/"})
        assert refused(response) == (400, "VALIDATION_ERROR")

    def test_deletes(self, api):
        webhook_id = api.hook(PUBLIC, "job.created")
        assert api.delete(f"/outgoing-webhooks/{webhook_id}").status_code == 204
        assert refused(api.delete(f"/outgoing-webhooks/{webhook_id}")) == (404, "NOT_FOUND")
        assert api.get("/outgoing-webhooks").json() == []


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("POST", ""),
            ("GET", "/x"),
            ("PUT", "/x"),
            ("DELETE", "/x"),
            ("POST", "/x/test"),
            ("GET", "/x/deliveries"),
            ("POST", "/x/retry/y"),
        ],
    )
    def test_is_closed_to_keys_that_are_limited_to_queues(self, api, method, path):
        response = api.scoped("mail").http.request(method, f"/outgoing-webhooks{path}", json={})
        assert refused(response) == (403, "ACCESS_DENIED")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("POST", "/test"),
            ("GET", "/deliveries"),
            ("POST", "/retry/y"),
        ],
    )
    def test_hides_the_webhooks_of_others(self, api, stranger, method, path):
        webhook_id = stranger.hook(PUBLIC, "job.created")
        response = api.http.request(method, f"/outgoing-webhooks/{webhook_id}{path}", json={})
        assert refused(response) == (404, "NOT_FOUND")
        assert api.get("/outgoing-webhooks").json() == []
