"""Contract section 8: changing and deleting an organization, its members, slugs, and logins by e-mail."""

from __future__ import annotations

import itertools

import pytest

_slugs = (f"changed-{number}" for number in itertools.count())


def refused(response):
    return response.status_code, response.json()["code"]


class TestChanging:
    def test_replaces_settings_and_keeps_the_webhook_token(self, api):
        path = f"/organizations/{api.organization_id}"
        token = api.get("/organizations/webhook-token").json()["webhook_token"]
        api.put(path, {"settings": {"a": 1}})
        changed = api.put(path, {"name": "New", "settings": {"b": 2, "webhook_token": "mine"}}).json()
        assert (changed["name"], changed["settings"]) == ("New", {"b": 2})
        assert api.get("/organizations/webhook-token").json()["webhook_token"] == token
        assert api.get(path).json() == changed

    def test_takes_no_address_that_another_has(self, api, stranger):
        email = f"{api.organization_id}@example.com"
        assert api.put(f"/organizations/{api.organization_id}", {"billing_email": email}).status_code == 200
        assert api.put(f"/organizations/{api.organization_id}", {"billing_email": email}).status_code == 200
        response = stranger.put(f"/organizations/{stranger.organization_id}", {"billing_email": email})
        assert refused(response) == (409, "CONFLICT")

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("name", ""),
            ("name", "x" * 101),
            ("billing_email", "nobody"),
            ("settings", [1]),
            ("settings", {"a": "x" * 65_536}),
        ],
    )
    def test_checks_its_fields(self, api, field, bad):
        response = api.put(f"/organizations/{api.organization_id}", {field: bad})
        assert refused(response) == (400, "VALIDATION_ERROR")

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_is_closed_to_others_and_to_limited_keys(self, api, stranger, method):
        foreign = api.http.request(method, f"/organizations/{stranger.organization_id}", json={})
        assert refused(foreign) == (404, "NOT_FOUND")
        limited = api.scoped("mail").http.request(method, f"/organizations/{api.organization_id}", json={})
        assert refused(limited) == (403, "ACCESS_DENIED")


class TestDeleting:
    def test_shuts_out_its_keys_and_frees_its_slug(self, api):
        slug = next(_slugs)
        body = {"name": "A", "slug": slug}
        made = api.bare("POST", "/api/v1/organizations", json=body).json()
        other = api.with_key(made["api_key"]["key"])
        token = other.post("/auth/login", {"api_key": other.key}).json()["access_token"]
        assert other.delete(f"/organizations/{made['organization']['id']}").status_code == 204
        assert refused(other.get("/jobs")) == (401, "UNAUTHORIZED")
        assert api.with_key(token).get("/jobs").status_code == 401
        assert api.bare("POST", "/api/v1/organizations", json=body).status_code == 201

    def test_is_refused_while_something_is_alive(self, api):
        job_id = api.create()
        path = f"/organizations/{api.organization_id}"
        assert refused(api.delete(path)) == (409, "CONFLICT")
        api.delete(f"/jobs/{job_id}")
        api.post(
            "/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": api.organization_id}
        )
        assert refused(api.delete(path)) == (409, "CONFLICT")
        api.post(f"/workers/{api.organization_id}/deregister")
        assert api.delete(path).status_code == 204

    def test_is_refused_for_the_servers_own(self, timed):
        assert refused(timed.delete(f"/organizations/{timed.organization_id}")) == (409, "CONFLICT")


def test_nobody_is_a_member(api, stranger):
    assert api.get(f"/organizations/{api.organization_id}/members").json() == []
    assert refused(api.get(f"/organizations/{stranger.organization_id}/members")) == (404, "NOT_FOUND")
    limited = api.scoped("mail").get(f"/organizations/{api.organization_id}/members")
    assert refused(limited) == (403, "ACCESS_DENIED")


class TestSlugs:
    def check(self, api, slug):
        return api.bare("GET", "/api/v1/organizations/check-slug", params={"slug": slug}).json()

    def test_that_are_free_are_available(self, api):
        assert self.check(api, next(_slugs)) == {"available": True, "valid": True}

    def test_that_are_taken_come_with_a_suggestion(self, api):
        slug = next(_slugs)
        api.bare("POST", "/api/v1/organizations", json={"name": "A", "slug": slug})
        answer = self.check(api, slug)
        assert (answer["available"], answer["valid"], answer["suggestion"]) == (False, True, f"{slug}-2")

    def test_that_are_none_are_not_valid(self, api):
        answer = self.check(api, "Not A Slug")
        assert (answer["available"], answer["valid"]) == (False, False)
        assert "a-z" in answer["error"]

    @pytest.mark.parametrize(
        ("name", "slug"),
        [("Äcme & Söhne GmbH", "acme-sohne-gmbh"), ("  --  ", "organization"), ("日本", "organization")],
    )
    def test_are_made_of_names(self, api, name, slug):
        made = api.bare("POST", "/api/v1/organizations/generate-slug", json={"name": name})
        assert made.json() == {"slug": slug}

    def test_that_are_made_are_free(self, api):
        slug = next(_slugs)
        api.bare("POST", "/api/v1/organizations", json={"name": "A", "slug": slug})
        made = api.bare("POST", "/api/v1/organizations/generate-slug", json={"name": slug})
        assert made.json() == {"slug": f"{slug}-2"}


class TestLoginsByEmail:
    def test_are_closed(self, api):
        for path in ("email/start", "email/verify", "signup/complete"):
            response = api.bare("POST", f"/api/v1/auth/{path}", json={"email": "a@example.com"})
            assert refused(response) == (403, "ACCESS_DENIED")

    def test_an_address_can_be_looked_up(self, api):
        email = f"{api.organization_id}@example.com"
        path = "/api/v1/auth/check-email"
        assert api.bare("GET", path, params={"email": email}).json() == {
            "exists": False,
            "available": True,
            "signup_enabled": False,
            "has_organizations": False,
        }
        api.put(f"/organizations/{api.organization_id}", {"billing_email": email})
        assert api.bare("GET", path, params={"email": email}).json()["exists"] is True
        assert refused(api.bare("GET", path)) == (400, "VALIDATION_ERROR")
