"""Contract section 8: exchanging a key for tokens."""

from __future__ import annotations

import base64
import json

import jwt
import pytest

DAY = 86_400


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def login(timed):
    response = timed.bare("POST", "/api/v1/auth/login", json={"api_key": timed.key})
    assert response.status_code == 200
    return response.json()


def test_a_login_gives_two_tokens(login):
    assert (login["token_type"], login["expires_in"], login["refresh_expires_in"]) == (
        "Bearer",
        DAY,
        24 * DAY,
    )
    assert login["access_token"].startswith("eyJ")
    assert login["access_token"] != login["refresh_token"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "VALIDATION_ERROR")),
        ({"api_key": "short"}, (400, "VALIDATION_ERROR")),
        ({"api_key": "sp_test_unknown-key"}, (401, "UNAUTHORIZED")),
        ({"api_key": "eyJhbGciOiJIUzI1NiJ9.e30.x"}, (401, "UNAUTHORIZED")),
    ],
)
def test_a_login_needs_a_known_key(api, body, expected):
    assert refused(api.bare("POST", "/api/v1/auth/login", json=body)) == expected


def test_an_access_token_does_what_the_key_does(timed, login):
    session = timed.with_key(login["access_token"])
    job_id = session.create()
    assert timed.job(job_id)["organization_id"] == timed.organization_id


def test_an_access_token_ends_after_a_day(timed, login):
    session = timed.with_key(login["access_token"])
    timed.server.clock.advance(DAY - 1)
    assert session.get("/jobs").status_code == 200
    timed.server.clock.advance(1)
    assert refused(session.get("/jobs")) == (401, "UNAUTHORIZED")


def test_a_refresh_token_gives_no_access_but_new_access_tokens(timed, login):
    assert refused(timed.with_key(login["refresh_token"]).get("/jobs")) == (401, "UNAUTHORIZED")
    timed.server.clock.advance(2 * DAY)
    response = timed.bare("POST", "/api/v1/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert set(response.json()) == {"access_token", "token_type", "expires_in"}
    assert timed.with_key(response.json()["access_token"]).get("/jobs").status_code == 200
    timed.server.clock.advance(22 * DAY)
    again = timed.bare("POST", "/api/v1/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert refused(again) == (401, "UNAUTHORIZED")


def test_an_access_token_cannot_be_refreshed(timed, login):
    response = timed.bare("POST", "/api/v1/auth/refresh", json={"refresh_token": login["access_token"]})
    assert refused(response) == (401, "UNAUTHORIZED")


def test_me_tells_whose_token_it_is(timed, login):
    told = timed.with_key(login["access_token"]).get("/auth/me").json()
    assert told["organization_id"] == timed.organization_id
    assert told["queues"] == ["*"]
    assert (told["issued_at"], told["expires_at"]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert told["organization"]["slug"] == "development"
    assert refused(timed.get("/auth/me")) == (401, "UNAUTHORIZED")


def test_a_token_dies_with_its_key(api):
    made = api.post("/api-keys", {"name": "k"}).json()
    token = api.bare("POST", "/api/v1/auth/login", json={"api_key": made["key"]}).json()
    session = api.with_key(token["access_token"])
    assert session.get("/jobs").status_code == 200
    api.delete(f"/api-keys/{made['id']}")
    assert refused(session.get("/jobs")) == (401, "UNAUTHORIZED")
    response = api.bare("POST", "/api/v1/auth/refresh", json={"refresh_token": token["refresh_token"]})
    assert refused(response) == (401, "UNAUTHORIZED")


def test_a_token_has_the_present_scope_of_its_key(api):
    made = api.post("/api-keys", {"name": "k", "queues": ["a"]}).json()
    token = api.bare("POST", "/api/v1/auth/login", json={"api_key": made["key"]}).json()["access_token"]
    session = api.with_key(token)
    assert session.post("/jobs", {"queue_name": "b", "payload": 1}).status_code == 403
    api.put(f"/api-keys/{made['id']}", {"queues": ["b"]})
    assert session.post("/jobs", {"queue_name": "b", "payload": 1}).status_code == 201


class TestLoggingOut:
    @pytest.mark.parametrize("with_body", [True, False])
    def test_ends_the_whole_login(self, timed, login, with_body):
        session = timed.with_key(login["access_token"])
        body = {"json": {"refresh_token": login["refresh_token"]}} if with_body else {}
        assert session.http.post("/auth/logout", **body).status_code == 204
        assert refused(session.get("/jobs")) == (401, "UNAUTHORIZED")
        response = timed.bare("POST", "/api/v1/auth/refresh", json={"refresh_token": login["refresh_token"]})
        assert refused(response) == (401, "UNAUTHORIZED")

    def test_leaves_other_logins_alone(self, timed, login):
        other = timed.bare("POST", "/api/v1/auth/login", json={"api_key": timed.key}).json()
        timed.with_key(login["access_token"]).http.post("/auth/logout")
        assert timed.with_key(other["access_token"]).get("/jobs").status_code == 200

    def test_needs_a_token(self, api):
        assert refused(api.http.post("/auth/logout")) == (401, "UNAUTHORIZED")

    def test_outlives_a_restart(self, lasting_db, start_server, connect):
        server = start_server(db=lasting_db)
        api = connect(server)
        kept = api.bare("POST", "/api/v1/auth/login", json={"api_key": api.key}).json()["access_token"]
        ended = api.bare("POST", "/api/v1/auth/login", json={"api_key": api.key}).json()["access_token"]
        api.with_key(ended).http.post("/auth/logout")
        server.stop()
        server.start()
        assert api.with_key(kept).get("/jobs").status_code == 200
        assert refused(api.with_key(ended).get("/jobs")) == (401, "UNAUTHORIZED")


class TestValidating:
    def validate(self, api, token):
        response = api.bare("POST", "/api/v1/auth/validate", json={"token": token})
        assert response.status_code == 200
        return response.json()

    def test_tells_the_claims_of_a_good_token(self, timed, login):
        told = self.validate(timed, login["refresh_token"])
        assert told["valid"] is True
        claims = told["claims"]
        assert set(claims) == {
            "sub",
            "api_key_id",
            "org_id",
            "iat",
            "exp",
            "nbf",
            "jti",
            "queues",
            "token_type",
            "sid",
        }
        assert (claims["token_type"], claims["org_id"]) == ("refresh", timed.organization_id)

    @pytest.mark.parametrize(
        "token", ["", "x", "eyJ", "sp_test_something", "eyJhbGciOiJub25lIn0.e30.", "\u0000", "é" * 50]
    )
    def test_says_no_to_anything_else(self, api, token):
        told = self.validate(api, token)
        assert told["valid"] is False
        assert told["error"]


def forged(token, *, algorithm="HS256", secret="guess" * 16):
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return jwt.encode(claims, None if algorithm == "none" else secret, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512"])
def test_a_token_of_another_signer_is_refused(timed, login, algorithm):
    session = timed.with_key(forged(login["access_token"], algorithm=algorithm))
    assert refused(session.get("/jobs")) == (401, "UNAUTHORIZED")
