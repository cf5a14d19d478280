"""Contract section 8: organizations and API keys."""

from __future__ import annotations

import itertools
import re
import sqlite3

import pytest

_slugs = (f"org-{number}" for number in itertools.count())


def refused(response):
    return response.status_code, response.json()["code"]


class TestCreatingAnOrganization:
    def test_needs_no_key_and_gives_one(self, api):
        slug = next(_slugs)
        body = {"name": "Acme", "slug": slug, "billing_email": f"{slug}@example.com"}
        response = api.bare("POST", "/api/v1/organizations", json=body)
        assert response.status_code == 201
        made = response.json()
        assert made["organization"]["plan_tier"] == "free"
        assert set(made["api_key"]) == {"id", "key", "name", "created_at"}
        assert made["api_key"]["name"] == "Initial Admin Key"
        assert re.fullmatch(r"sp_test_[A-Za-z0-9_-]{43}", made["api_key"]["key"])
        other = api.with_key(made["api_key"]["key"])
        assert other.get("/api-keys").json()[0]["queues"] == ["*"]
        assert "whk_" not in response.text

    def test_twice_under_one_slug_or_address_is_a_conflict(self, api):
        slug, other = next(_slugs), next(_slugs)
        body = {"name": "A", "slug": slug, "billing_email": f"{slug}@example.com"}
        assert api.bare("POST", "/api/v1/organizations", json=body).status_code == 201
        assert refused(api.bare("POST", "/api/v1/organizations", json={"name": "B", "slug": slug})) == (
            409,
            "CONFLICT",
        )
        assert refused(api.bare("POST", "/api/v1/organizations", json={**body, "slug": other})) == (
            409,
            "CONFLICT",
        )

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("name", ""),
            ("name", "x" * 101),
            ("slug", ""),
            ("slug", "x" * 101),
            ("slug", "-a"),
            ("slug", "a-"),
            ("slug", "Aa"),
            ("slug", "a_b"),
            ("slug", "a\n"),
            ("billing_email", "nobody"),
            ("billing_email", "a b@example.com"),
        ],
    )
    def test_checks_its_fields(self, api, field, bad):
        body = {"name": "A", "slug": next(_slugs), field: bad}
        response = api.bare("POST", "/api/v1/organizations", json=body)
        assert refused(response) == (400, "VALIDATION_ERROR")
        assert response.json()["details"][0]["field"] == field

    def test_needs_the_admin_key_when_registration_is_closed(self, start_server, connect):
        api = connect(start_server(open_registration=False, admin_key="admin-secret"))
        body = {"name": "A", "slug": "a"}
        for headers in ({}, {"x-admin-key": "wrong"}, {"x-admin-key": "ädmin"}):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            response = api.bare("POST", "/api/v1/organizations", json=body, headers=encoded)
            assert refused(response) == (403, "ACCESS_DENIED")
        good = api.bare("POST", "/api/v1/organizations", json=body, headers={"x-admin-key": "admin-secret"})
        assert good.status_code == 201

    def test_is_impossible_when_registration_is_closed_and_no_admin_key_is_set(self, start_server, connect):
        api = connect(start_server(open_registration=False))
        response = api.bare(
            "POST", "/api/v1/organizations", json={"name": "A", "slug": "a"}, headers={"x-admin-key": ""}
        )
        assert refused(response) == (403, "ACCESS_DENIED")


def test_an_organization_sees_itself_only(api, stranger):
    (listed,) = api.get("/organizations").json()
    assert set(listed) == {"id", "name", "slug", "plan_tier", "created_at"}
    assert listed["id"] == api.organization_id
    found = api.get(f"/organizations/{api.organization_id}").json()
    assert found["name"] == "Tests"
    assert found["settings"] == {}
    assert found["stripe_customer_id"] is None
    assert refused(api.get(f"/organizations/{stranger.organization_id}")) == (404, "NOT_FOUND")


class TestAnApiKey:
    def test_is_shown_once_and_listed_without(self, timed):
        response = timed.post(
            "/api-keys",
            {
                "name": "CI (main)",
                "queues": ["mail"],
                "rate_limit": 100,
                "expires_at": "2027-01-01T00:00:00Z",
            },
        )
        assert response.status_code == 201
        made = response.json()
        key = made.pop("key")
        assert made == {
            "id": made["id"],
            "name": "CI (main)",
            "queues": ["mail"],
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2027-01-01T00:00:00Z",
        }
        assert timed.get(f"/api-keys/{made['id']}").json() == {
            **made,
            "key_prefix": key[:12],
            "rate_limit": 100,
            "is_active": True,
            "last_used": None,
        }
        assert key not in timed.get("/api-keys").text

    @pytest.mark.sqlite_only
    def test_is_stored_as_a_hash_only(self, tmp_path, start_server, connect):
        path = tmp_path / "jobs.db"
        server = start_server(db=str(path), api_key="a-key-of-my-own")
        key = connect(server).post("/api-keys", {"name": "k"}).json()["key"]
        server.stop()
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert key.encode() not in content
        assert b"a-key-of-my-own" not in content
        with sqlite3.connect(path) as database:
            hashes = [row[0] for row in database.execute("SELECT key_hash FROM api_keys")]
        database.close()
        assert all(re.fullmatch("[0-9a-f]{64}", stored) for stored in hashes)
        assert path.stat().st_mode & 0o077 == 0

    def test_remembers_when_it_was_used_to_five_minutes(self, timed, eventually):
        made = timed.post("/api-keys", {"name": "k"}).json()
        other = timed.with_key(made["key"])

        def last_used():
            return timed.get(f"/api-keys/{made['id']}").json()["last_used"]

        other.get("/jobs")
        assert eventually(last_used) == "2026-01-01T00:00:00Z"
        timed.server.clock.advance(299)
        other.get("/jobs")
        other.get("/jobs")
        assert last_used() == "2026-01-01T00:00:00Z"
        timed.server.clock.advance(1)
        other.get("/jobs")
        assert eventually(lambda: last_used() == "2026-01-01T00:05:00Z")

    def test_is_revoked_softly(self, api):
        made = api.post("/api-keys", {"name": "k"}).json()
        assert api.delete(f"/api-keys/{made['id']}").status_code == 204
        assert api.get(f"/api-keys/{made['id']}").json()["is_active"] is False
        assert api.put(f"/api-keys/{made['id']}", {"is_active": True}).status_code == 200
        assert api.with_key(made["key"]).get("/jobs").status_code == 200

    def test_is_changed_in_parts(self, api):
        made = api.post("/api-keys", {"name": "k", "queues": ["a"], "rate_limit": 5}).json()
        changed = api.put(f"/api-keys/{made['id']}", {"name": "renamed"}).json()
        assert (changed["name"], changed["queues"], changed["rate_limit"]) == ("renamed", ["a"], 5)

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("name", ""),
            ("name", "x" * 101),
            ("name", "a/b"),
            ("queues", ["a"] * 51),
            ("queues", ["a b"]),
            ("rate_limit", 0),
            ("rate_limit", 10_001),
            ("permissions", ["read"]),
            ("permissions", None),
        ],
    )
    def test_checks_its_fields(self, api, field, bad):
        made = api.post("/api-keys", {"name": "k"}).json()
        for response in (
            api.post("/api-keys", {"name": "k", field: bad}),
            api.put(f"/api-keys/{made['id']}", {field: bad}),
        ):
            assert refused(response) == (400, "VALIDATION_ERROR")
            assert response.json()["details"][0]["field"].startswith(field)

    def test_must_expire_in_the_future(self, timed):
        response = timed.post("/api-keys", {"name": "k", "expires_at": "2026-01-01T00:00:00Z"})
        assert refused(response) == (400, "VALIDATION_ERROR")

    def test_of_another_organization_is_not_found(self, api, stranger):
        path = f"/api-keys/{stranger.get('/api-keys').json()[0]['id']}"
        for response in (api.get(path), api.put(path, {"name": "x"}), api.delete(path)):
            assert refused(response) == (404, "NOT_FOUND")
        assert stranger.get("/jobs").status_code == 200
