"""Logging in and out, what a cookie may do, and the headers of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from spooled_contrib.server._rate import LOGINS_PER_MINUTE, PAGE_LOGINS_PER_MINUTE
from tests.page.conftest import Outside


def log_in(person: httpx.Client, key: str = DEVELOPMENT_KEY, **options: Any) -> httpx.Response:
    return person.post("/login", data={"api_key": key}, **options)


def token(person: httpx.Client) -> dict[str, str]:
    return {"x-csrf-token": person.get("/page/session").json()["csrf_token"]}


def test_without_a_session_one_is_sent_to_the_log_in(person: httpx.Client):
    answer = person.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    form = person.get("/login")
    assert form.status_code == 200
    assert 'action="/login"' in form.text
    assert form.headers["cache-control"] == "no-store"


def test_the_right_key_opens_the_page(person: httpx.Client):
    answer = log_in(person)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"spooled_session_{person.base_url.port}=eyJ")
    assert {part.strip() for part in cookie.split(";")[1:]} == {
        "Path=/",
        "Max-Age=86400",
        "HttpOnly",
        "SameSite=Strict",
    }
    assert DEVELOPMENT_KEY not in cookie
    assert "<main" in person.get("/").text
    assert person.get("/api/v1/jobs").json() == []


def test_behind_tls_the_cookie_is_secure(person: httpx.Client):
    answer = log_in(person, headers={"x-forwarded-proto": "https"})
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["sp_test_not-a-key-of-this-server", "x" * 300, "kéy of söme kind"])
def test_a_wrong_key_is_told_in_the_form(person: httpx.Client, key: str):
    answer = log_in(person, key)
    assert answer.status_code == 401
    assert 'role="alert">Unknown API key.' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_token_is_not_a_key(person: httpx.Client):
    session = person.post("/api/v1/auth/login", json={"api_key": DEVELOPMENT_KEY}).json()
    assert log_in(person, session["access_token"]).status_code == 401


def test_no_key_at_all(person: httpx.Client):
    answers = [person.post("/login", data={}), person.post("/login", content=b"&" * 100)]
    assert [one.status_code for one in answers] == [400, 400]
    assert "Enter an API key." in answers[0].text


@pytest.mark.parametrize(("many", "same"), [(PAGE_LOGINS_PER_MINUTE, False), (LOGINS_PER_MINUTE, True)])
def test_wrong_keys_are_rate_limited_by_address_and_by_key(many: int, same: bool):
    clock = ManualClock()
    with EmbeddedServer(clock=clock, plan="free") as server, httpx.Client(base_url=server.url) as person:
        for n in range(many):
            assert log_in(person, f"sp_test_wrong-key-{0 if same else n}").status_code == 401
        refused = log_in(person, "sp_test_wrong-key-0")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "60"
        assert "try again in 60 s" in refused.text
        clock.advance(60)
        assert log_in(person).status_code == 303


def test_the_development_key_is_only_offered_where_it_works(person: httpx.Client):
    assert DEVELOPMENT_KEY in person.get("/login").text
    # Another name that leads here may be somebody else's.
    assert DEVELOPMENT_KEY not in person.get("/login", headers={"host": "example.org"}).text
    with EmbeddedServer(api_key="a-key-of-my-own") as server:
        shown = httpx.get(f"{server.url}/login").text
        assert DEVELOPMENT_KEY not in shown
        assert "a-key-of-my-own" not in shown


def test_a_cookie_changes_nothing_without_the_sessions_token(person: httpx.Client, outside: Outside):
    job_id = outside.create()
    log_in(person)
    for headers in ({}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": ""}):
        answer = person.delete(f"/api/v1/jobs/{job_id}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "ACCESS_DENIED")
    assert person.post("/logout").status_code == 403
    assert outside.status(job_id) == "pending"
    assert person.delete(f"/api/v1/jobs/{job_id}", headers=token(person)).status_code == 204
    assert outside.status(job_id) == "cancelled"


def test_the_token_of_another_session_does_not_do(person: httpx.Client, server: EmbeddedServer):
    log_in(person)
    with httpx.Client(base_url=server.url) as other:
        log_in(other)
        foreign = token(other)
    body = {"queue_name": "mail", "payload": 1}
    assert person.post("/api/v1/jobs", json=body, headers=foreign).status_code == 403
    assert person.post("/api/v1/jobs", json=body, headers=token(person)).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_cookie_is_not_taken_from_other_sites(person: httpx.Client, headers: dict[str, str]):
    log_in(person)
    shown = token(person)
    assert person.get("/api/v1/jobs", headers=headers).status_code == 403
    assert person.get("/page/session", headers=headers).status_code == 403
    body = {"queue_name": "mail", "payload": 1}
    assert person.post("/api/v1/jobs", json=body, headers={**headers, **shown}).status_code == 403
    # Nor may another site log somebody in as somebody else.
    assert log_in(person, headers=headers).status_code == 403
    same = {"origin": str(person.base_url), "sec-fetch-site": "same-origin"}
    assert person.post("/api/v1/jobs", json=body, headers={**same, **shown}).status_code == 201


def test_a_websocket_of_another_site_is_refused(person: httpx.Client):
    log_in(person)
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    refused = person.get("/api/v1/ws", headers={**upgrade, "origin": "https://evil.example"})
    assert refused.status_code == 403
    with person.stream(
        "GET", "/api/v1/ws", headers={**upgrade, "origin": str(person.base_url).rstrip("/")}
    ) as answer:
        assert answer.status_code == 101


def test_an_api_key_needs_no_token_and_wins_over_the_cookie(person: httpx.Client, outside: Outside):
    key, _ = outside.new_key("other")
    log_in(person)
    headers = {"authorization": f"Bearer {key}", "origin": "https://elsewhere.example"}
    allowed = person.post("/api/v1/jobs", json={"queue_name": "other", "payload": 1}, headers=headers)
    refused = person.post("/api/v1/jobs", json={"queue_name": "mail", "payload": 1}, headers=headers)
    assert (allowed.status_code, refused.status_code) == (201, 403)


def test_a_session_sees_what_its_key_sees(person: httpx.Client, outside: Outside):
    outside.create("mail")
    outside.create("other")
    key, _ = outside.new_key("other")
    log_in(person, key)
    assert person.get("/page/session").json()["queues"] == ["other"]
    assert [one["queue_name"] for one in person.get("/page/numbers").json()["queues"]] == ["other"]


def test_logging_out_ends_copies_of_the_cookie_too(person: httpx.Client):
    log_in(person)
    copy = dict(person.cookies)
    answer = person.post("/logout", headers=token(person))
    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert not person.cookies
    assert person.get("/").status_code == 303
    cookie = "; ".join(f"{name}={value}" for name, value in copy.items())
    assert person.get("/api/v1/jobs", headers={"cookie": cookie}).status_code == 401


def test_a_revoked_key_ends_its_sessions(person: httpx.Client, outside: Outside):
    key, key_id = outside.new_key()
    log_in(person, key)
    assert person.get("/").status_code == 200
    outside.call("DELETE", f"/api-keys/{key_id}", status=204)
    assert person.get("/api/v1/jobs").status_code == 401
    answer = person.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?ended=1")
    assert "Your session has ended" in person.get("/login?ended=1").text


def test_a_session_lasts_a_day():
    clock = ManualClock()
    with EmbeddedServer(clock=clock) as server, httpx.Client(base_url=server.url) as person:
        log_in(person)
        clock.advance(86_399)
        assert person.get("/api/v1/jobs").status_code == 200
        clock.advance(1)
        assert person.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize("cookie", ["nonsense", "=", "spooled_session_1=eyJx", 'a="; b', "é=1", ";" * 100])
def test_cookies_that_are_not_ours_are_as_if_they_were_not_there(person: httpx.Client, cookie: str):
    port = person.base_url.port
    for header in (
        cookie,
        f"spooled_session_{port}={cookie}",
        f"spooled_session_{port}=eyJhbGciOiJub25lIn0.e30.",
    ):
        answer = person.get("/api/v1/jobs", headers={"cookie": header.encode("latin-1")})
        assert answer.status_code == 401


def test_other_programs_cookies_do_not_disturb(person: httpx.Client):
    log_in(person)
    ours = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    for theirs in ('settings={"a": 1, "b": "é"}', "=x", "novalue", "a=b=c"):
        headers = {"cookie": f"{theirs}; {ours}; {theirs}".encode("latin-1")}
        assert httpx.get(f"{person.base_url}/api/v1/jobs", headers=headers).status_code == 200


def test_every_file_has_a_strict_policy(person: httpx.Client):
    log_in(person)
    for path in ("/", "/login", "/page/app.js", "/page/page.css", "/page/icon.svg"):
        answer = person.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_files_are_asked_for_again_but_sent_once(person: httpx.Client):
    first = person.get("/page/app.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    again = person.get("/page/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = person.get("/page/app.js", headers={"if-none-match": '"another"'})
    assert changed.content == first.content
    assert person.head("/page/app.js").content == b""


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "%2e%2e", "login.html", "page.css/x"])
def test_only_the_pages_files_are_served(person: httpx.Client, name: str):
    answer = person.get(f"/page/{name}")
    assert (answer.status_code, answer.json()["message"]) == (404, "No route matches this path")


def test_the_page_can_be_left_out(start: Callable[..., EmbeddedServer]):
    server = start(page=False)
    with httpx.Client(base_url=server.url) as person:
        session = person.post("/api/v1/auth/login", json={"api_key": server.api_key}).json()
        for path in ("/", "/login", "/page/app.js", "/page/session"):
            assert person.get(path).status_code == 404
        name = f"spooled_session_{person.base_url.port}"
        cookie = {"cookie": f"{name}={session['access_token']}"}
        assert person.get("/api/v1/jobs", headers=cookie).status_code == 401


@pytest.fixture
def start() -> Any:
    servers: list[EmbeddedServer] = []

    def start_one(**options: Any) -> EmbeddedServer:
        servers.append(EmbeddedServer(**options).start())
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()
