"""What neither a web page that somebody visits nor the owner of an old credential gets from a server."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_socket

from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from spooled_contrib.server._settings import ServerConfigurationError
from spooled_contrib.server._storage.errors import StorageUnavailableError
from tests.waiting import HOPELESS

OWN_KEY = "a-key-of-my-own-0123456789"


def call(server, method, path, **options):
    return httpx.request(method, server.url + path, timeout=HOPELESS, **options)


def login(server, key):
    answer = call(server, "POST", "/api/v1/auth/login", json={"api_key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def bearer(token):
    return {"authorization": f"Bearer {token}"}


# --- credentials end with the secret that they were made with -------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(None, OWN_KEY), (OWN_KEY, None), (OWN_KEY, OWN_KEY + "-2")])
def test_tokens_end_with_the_key_that_they_were_made_with(start_server, lasting_db, first, second):
    server = start_server(db=lasting_db, api_key=first)
    tokens = login(server, server.api_key)
    assert call(server, "GET", "/api/v1/jobs", headers=bearer(tokens["access_token"])).status_code == 200
    server.stop()
    server = start_server(db=lasting_db, api_key=second)
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    assert call(server, "GET", "/api/v1/jobs", headers=bearer(access)).status_code == 401
    assert call(server, "GET", "/api/v1/auth/me", headers=bearer(access)).status_code == 401
    assert call(server, "GET", f"/api/v1/events?token={access}").status_code == 401
    assert call(server, "POST", "/api/v1/auth/refresh", json={"refresh_token": refresh}).status_code == 401
    told = call(server, "POST", "/api/v1/auth/validate", json={"token": access}).json()
    assert told["valid"] is False
    port = urlsplit(server.url).port
    cookie = {"cookie": f"spooled_session_{port}={access}"}
    assert call(server, "GET", "/api/v1/jobs", headers=cookie).status_code == 401
    assert call(server, "GET", "/api/v1/jobs", headers=bearer(first or DEVELOPMENT_KEY)).status_code == 401


def test_tokens_outlive_a_restart_with_the_same_key(start_server, lasting_db):
    server = start_server(db=lasting_db, api_key=OWN_KEY)
    tokens = login(server, OWN_KEY)
    server.stop()
    server = start_server(db=lasting_db, api_key=OWN_KEY)
    assert call(server, "GET", "/api/v1/jobs", headers=bearer(tokens["access_token"])).status_code == 200
    fresh = call(server, "POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert (
        call(server, "GET", "/api/v1/jobs", headers=bearer(fresh.json()["access_token"])).status_code == 200
    )
    claims = call(server, "POST", "/api/v1/auth/validate", json={"token": tokens["access_token"]}).json()[
        "claims"
    ]
    assert set(claims) == {
        "sub", "api_key_id", "org_id", "iat", "exp", "nbf", "jti", "queues", "token_type", "sid"
    }  # fmt: skip


# --- pages of other sites -------------------------------------------------------------------------------------


def socket_status(server, *, origin=None, headers=None, **query):
    url = server.url.replace("http://", "ws://") + "/api/v1/ws" + (f"?{urlencode(query)}" if query else "")
    try:
        with connect_socket(url, origin=origin, additional_headers=headers, proxy=None, close_timeout=1):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def stream_status(server, path="/api/v1/events", *, headers=None, **query):
    with httpx.stream("GET", server.url + path, params=query, headers=headers, timeout=HOPELESS) as answer:
        return answer.status_code


OTHER_SITES = ["https://attacker.example", "http://localhost:1", "null", "file://", "http://127.0.0.1"]


@pytest.mark.parametrize("origin", OTHER_SITES)
@pytest.mark.parametrize("name", ["token", "api_key"])
def test_no_other_site_opens_a_socket_or_a_stream(server, origin, name):
    query = {name: server.api_key}
    assert socket_status(server, origin=origin, **query) == 403
    for path in ("/api/v1/events", "/api/v1/events/jobs/x", "/api/v1/events/queues/x"):
        assert stream_status(server, path, headers={"origin": origin}, **query) == 403
    # An <img> sends no origin; browsers say so in another header.
    assert stream_status(server, headers={"sec-fetch-site": "cross-site"}, **query) == 403


def test_this_servers_own_pages_and_programs_open_them(server):
    assert socket_status(server, token=server.api_key) == 101
    assert socket_status(server, origin=server.url, token=server.api_key) == 101
    assert stream_status(server, headers={"origin": server.url}, token=server.api_key) == 200
    # A page cannot send this header to another site without being asked by the server first.
    headers = bearer(server.api_key)
    assert socket_status(server, origin="https://tool.example", headers=headers) == 101
    assert stream_status(server, headers={"origin": "https://tool.example", **headers}) == 200


def test_an_origin_that_is_allowed_may_do_both_and_read_answers(start_server):
    origin = "http://localhost:3000"
    server = start_server(api_key=OWN_KEY, allowed_origins=[origin])
    assert socket_status(server, origin=origin, token=OWN_KEY) == 101
    assert stream_status(server, headers={"origin": origin}, token=OWN_KEY) == 200
    assert socket_status(server, origin="http://localhost:3001", token=OWN_KEY) == 403
    asked = {"origin": origin, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization,content-type"
    preflight = call(server, "OPTIONS", "/api/v1/jobs", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    answer = call(server, "GET", "/api/v1/jobs", headers={"origin": origin, **bearer(OWN_KEY)})
    assert answer.headers["access-control-allow-origin"] == origin
    assert "x-has-more" in answer.headers["access-control-expose-headers"].lower()
    other = call(server, "GET", "/api/v1/jobs", headers={"origin": "http://evil.example", **bearer(OWN_KEY)})
    assert "access-control-allow-origin" not in other.headers
    # The page's cookie is for the server's own pages, whoever else may read answers.
    cookie = {
        "cookie": f"spooled_session_{urlsplit(server.url).port}={login(server, OWN_KEY)['access_token']}"
    }
    assert call(server, "GET", "/api/v1/jobs", headers={"origin": origin, **cookie}).status_code == 403


@pytest.mark.parametrize("wrong", ["*", "localhost:3000", "http://localhost/app", "ftp://localhost", ""])
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(wrong):
    with pytest.raises(ServerConfigurationError, match="origin"):
        EmbeddedServer(allowed_origins=[wrong]).start()


@pytest.mark.parametrize(
    "simple", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_no_other_site_makes_what_needs_no_key(start_server, simple):
    """Only these types are sent to another site without asking it first."""
    server = start_server(open_registration=True)
    body = '{"name": "Other", "slug": "other-site"}'
    headers = {"origin": "https://attacker.example"} | ({} if simple is None else {"content-type": simple})
    assert call(server, "POST", "/api/v1/organizations", content=body, headers=headers).status_code == 400
    headers = {"content-type": "application/json"}
    assert call(server, "POST", "/api/v1/organizations", content=body, headers=headers).status_code == 201


# --- names of this machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, OWN_KEY])
@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:8080", "127.0.0.1.attacker.example", "8.8.8.8", "", "[::2]"],
)
def test_a_server_on_this_machine_answers_to_no_other_name(start_server, key, host):
    server = start_server(api_key=key)
    for path in ("/", "/api/v1/jobs", "/health", "/metrics", "/openapi.json"):
        answer = call(server, "GET", path, headers={"host": host, **bearer(server.api_key)})
        assert answer.status_code == 403, path
        assert "--allow-host" in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "app.localhost", "127.0.0.1", "127.8.8.8:1", "[::1]:5"]
)
def test_it_answers_to_this_machines_names(start_server, host):
    server = start_server(api_key=OWN_KEY)
    assert call(server, "GET", "/health", headers={"host": host}).status_code == 200


def test_more_names_may_be_allowed(start_server):
    server = start_server(api_key=OWN_KEY, allowed_hosts=["jobs.example.org", "*.internal.example"])
    for host in ("jobs.example.org", "Jobs.Example.org:443", "a.internal.example", "localhost"):
        assert call(server, "GET", "/health", headers={"host": host}).status_code == 200, host
    for host in ("example.org", "jobs.example.org.attacker.example", "internal.example"):
        assert call(server, "GET", "/health", headers={"host": host}).status_code == 403, host


def test_a_server_for_other_machines_answers_to_any_name_unless_told(start_server):
    server = start_server(host="0.0.0.0", api_key=OWN_KEY)
    assert call(server, "GET", "/health", headers={"host": "jobs.example.org"}).status_code == 200
    server.stop()
    server = start_server(host="0.0.0.0", api_key=OWN_KEY, allowed_hosts=["jobs.example.org"])
    assert call(server, "GET", "/health", headers={"host": "jobs.example.org"}).status_code == 200
    assert call(server, "GET", "/health", headers={"host": "attacker.example"}).status_code == 403


def test_the_public_key_is_for_this_machines_names_whatever_is_allowed():
    with pytest.raises(ServerConfigurationError, match="development key"):
        EmbeddedServer(allowed_hosts=["jobs.example.org"]).start()
    with pytest.raises(ServerConfigurationError, match="development key"):
        EmbeddedServer(allowed_origins=["https://jobs.example.org"]).start()


def test_registration_is_closed_unless_asked_for(start_server):
    body = {"name": "Strangers", "slug": "strangers"}
    for key in (None, OWN_KEY):
        server = start_server(api_key=key)
        assert call(server, "POST", "/api/v1/organizations", json=body).status_code == 403


# --- one file, one server -------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
@pytest.mark.parametrize("other_name", ["symlink", "hardlink", "relative", "linked folder"])
def test_one_file_is_not_served_twice_under_two_names(start_server, tmp_path, monkeypatch, other_name):
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "jobs.db"
    first = start_server(db=str(path))
    other = tmp_path / "other.db"
    if other_name == "symlink":
        other.symlink_to(path)
    elif other_name == "hardlink":
        other.hardlink_to(path)
    elif other_name == "relative":
        monkeypatch.chdir(tmp_path)
        other = "real/../real/jobs.db"
    else:
        (tmp_path / "link").symlink_to(tmp_path / "real")
        other = tmp_path / "link" / "jobs.db"
    with pytest.raises(StorageUnavailableError, match="in use by another server"):
        EmbeddedServer(db=str(other)).start()
    assert call(first, "GET", "/health").status_code == 200
    first.stop()
    second = start_server(db=str(other))
    assert call(second, "GET", "/health").status_code == 200


@pytest.mark.sqlite_only
def test_a_name_that_leads_nowhere_yet_is_the_same_file(start_server, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "jobs.db")
    start_server(db=str(link))
    with pytest.raises(StorageUnavailableError, match="in use by another server"):
        EmbeddedServer(db=str(tmp_path / "jobs.db")).start()


@pytest.mark.sqlite_only
def test_the_lock_leaves_no_file_behind(start_server, tmp_path):
    server = start_server(db=str(tmp_path / "jobs.db"))
    server.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.db"]


# --- requests that nobody waits for ---------------------------------------------------------------------------


def test_pipelined_requests_are_bounded(start_server, connect, eventually):
    """Each would otherwise be kept, with all that belongs to it, until those before it have been read."""
    api = connect(start_server())
    parts = urlsplit(api.server.url)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 7_000
    connections = [socket.create_connection((parts.hostname, parts.port)) for _ in range(40)]

    def send(connection):
        with contextlib.suppress(OSError):  # the server has hung up
            connection.sendall(many)

    threads = [threading.Thread(target=send, args=(one,), daemon=True) for one in connections]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            api.complete((api.create(), api.claim_one())[1])
        # Those that were refused are closed; none of them waits for an answer that nobody reads.
        eventually(lambda: not any(thread.is_alive() for thread in threads))
    finally:
        for connection in connections:
            connection.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f"{grown} KiB"


def test_a_moderate_pipeline_is_answered_in_order(server):
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.settimeout(HOPELESS)
        paths = [b"/health/live", b"/nowhere"] * 10
        ends = [b"connection: close\r\n" if number == 19 else b"" for number in range(20)]
        connection.sendall(
            b"".join(
                b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % pair
                for pair in zip(paths, ends, strict=True)
            )
        )
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404"] * 10
