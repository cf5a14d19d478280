"""What hostile clients send: requests that never end, never stop, or mean two things at once. Real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from urllib.parse import urlsplit

import pytest

from spooled_contrib.server import _connections, _listener
from spooled_contrib.server._api.bodies import MAX_BODY
from tests.waiting import HOPELESS


@pytest.fixture
def dial(api):
    """Open raw connections to the server; closed at the end of the test."""
    opened = []
    parts = urlsplit(api.server.url)

    def connect():
        opened.append(socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def hasty(monkeypatch):
    """A server that loses its patience after a fraction of a second."""
    monkeypatch.setattr(_listener, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(_connections, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(_connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(_connections, "REQUEST_SECONDS", 0.6)


@pytest.fixture
def impatient(hasty, start_server, connect):
    api = connect(start_server())
    parts = urlsplit(api.server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
        yield api, raw


def everything(raw):
    """Read until the server closes; a reset is an end like any other."""
    answer = b""
    try:
        while chunk := raw.recv(65536):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


def one_answer(raw):
    """(status, body) of the next response on a connection that stays open."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = raw.recv(65536)
        assert chunk, answer
        answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += raw.recv(65536)
    return int(head.split()[1]), body


def cut_off(raw, junk):
    """Whether the server ends a connection on which `junk` is sent over and over."""
    try:
        for _ in range(20 * _connections.MAX_REQUEST // len(junk)):
            raw.sendall(junk)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def parsed(answer):
    """(status, body) of each response in what a connection sent."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(headers.get(b"content-length", b"0"))
        found.append((int(lines[0].split()[1]), rest[:length]))
        answer = rest[length:]
    return found


def refusal(answer):
    ((status, body),) = parsed(answer)
    return status, json.loads(body)["code"]


def head(api, method="POST", path="/api/v1/jobs", *lines):
    return "\r\n".join(
        [
            f"{method} {path} HTTP/1.1",
            "host: localhost",
            f"authorization: Bearer {api.key}",
            "content-type: application/json",
            *lines,
            "",
            "",
        ]
    ).encode()


class TestRequestsThatNeverEnd:
    def test_a_connection_that_says_nothing_is_closed(self, impatient):
        _, raw = impatient
        assert everything(raw) == b""

    @pytest.mark.parametrize(
        "start", [b"G", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\nx-a: b\r\nx-"]
    )
    def test_headers_that_do_not_end_are_refused(self, impatient, start):
        _, raw = impatient
        raw.sendall(start)
        assert refusal(everything(raw)) == (408, "REQUEST_TIMEOUT")

    def test_nor_may_one_stay_open_by_empty_lines(self, impatient):
        _, raw = impatient
        raw.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        raw.recv(65536)
        with contextlib.suppress(ConnectionError):  # a slow test finds it closed already
            raw.sendall(b"\r\n")
        assert everything(raw) == b""

    def test_dripping_does_not_buy_time(self, impatient):
        _, raw = impatient
        raw.sendall(b"GET /health HTTP/1.1\r\n")
        raw.settimeout(0.02)
        answer = b""
        for _ in range(1000):
            try:
                raw.sendall(b"x-a: b\r\n")
                answer = raw.recv(65536)
                break
            except TimeoutError:
                continue
        assert refusal(answer) == (408, "REQUEST_TIMEOUT")

    @pytest.mark.parametrize("framing", ["content-length: 50", "transfer-encoding: chunked"])
    def test_a_body_that_does_not_end_is_refused(self, impatient, framing):
        api, raw = impatient
        raw.sendall(head(api, "POST", "/api/v1/jobs", framing) + b"5\r\n{")
        assert refusal(everything(raw)) == (408, "REQUEST_TIMEOUT")
        assert api.get("/jobs/stats").json()["total"] == 0

    def test_a_body_that_nobody_waits_for_ends_the_connection(self, impatient):
        _, raw = impatient
        raw.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n")
        ((status, _),) = parsed(everything(raw))
        assert status == 200

    def test_the_body_timeout_of_a_handler_comes_first(self, start_server, connect, monkeypatch):
        from spooled_contrib.server._api import call

        monkeypatch.setattr(call, "BODY_TIMEOUT", 0.1)
        api = connect(start_server())
        parts = urlsplit(api.server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
            raw.sendall(head(api, "POST", "/api/v1/jobs", "content-length: 50"))
            status, body = one_answer(raw)
        assert (status, json.loads(body)["code"]) == (408, "REQUEST_TIMEOUT")

    def test_a_request_in_time_leaves_the_connection_alone(self, impatient):
        api, raw = impatient
        with api.http.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": connected"
            everything(raw)  # ends once the server has looked at its connections a few times
            job_id = api.with_key(api.key).create()
            assert job_id in next(line for line in lines if line.startswith("data:"))

    def test_a_client_that_does_not_read_is_the_kernels_to_end(self):
        with _listener.bind(socket.AF_INET, ("127.0.0.1", 0)) as bound:
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
            assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


class TestRequestsThatNeverStop:
    def test_headers_without_end_are_refused(self, dial):
        raw = dial()
        raw.sendall(b"GET /health HTTP/1.1\r\n" + b"x: " + b"y" * (_connections.MAX_HEAD + 10))
        assert refusal(everything(raw)) == (431, "ERROR")

    def test_so_is_a_path_without_end(self, dial):
        raw = dial()
        raw.sendall(b"GET /" + b"y" * (_connections.MAX_HEAD + 10))
        assert refusal(everything(raw)) == (431, "ERROR")

    def test_many_headers_are_refused(self, dial):
        raw = dial()
        raw.sendall(b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n")
        assert refusal(everything(raw)) == (431, "ERROR")

    def test_many_query_parameters_are_refused(self, api):
        response = api.http.get("/jobs?" + "&".join(f"a{number}=1" for number in range(201)))
        assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")

    def test_a_large_body_is_refused_before_it_is_sent(self, api, dial):
        raw = dial()
        raw.sendall(head(api, "POST", "/api/v1/jobs", f"content-length: {10**12}", "expect: 100-continue"))
        status, body = one_answer(raw)
        assert (status, json.loads(body)["code"]) == (400, "INVALID_JSON")

    def test_a_large_body_in_chunks_is_refused_when_it_is_too_much(self, api, dial):
        raw = dial()
        raw.sendall(head(api, "POST", "/api/v1/jobs", "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(MAX_BODY // 0x10000 + 2):
            raw.sendall(chunk)
        status, body = one_answer(raw)
        assert (status, json.loads(body)["code"]) == (400, "INVALID_JSON")

    def test_the_strict_endpoints_say_413(self, api):
        response = api.http.put(
            "/queues/mail/config",
            content=b" " * (MAX_BODY + 1),
            headers={"content-type": "application/json"},
        )
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert api.get("/queues").status_code == 200

    def test_what_is_a_little_too_large_does_not_cost_the_connection(self, api, dial):
        raw = dial()
        body = b" " * (MAX_BODY + 100_000)
        raw.sendall(head(api, "POST", "/api/v1/jobs", f"content-length: {len(body)}") + body)
        assert one_answer(raw)[0] == 400
        raw.sendall(head(api, "GET", "/api/v1/jobs"))
        assert one_answer(raw) == (200, b"[]")

    def test_a_client_that_goes_on_sending_is_cut_off(self, api, dial):
        raw = dial()
        raw.sendall(head(api, "POST", "/api/v1/jobs", f"content-length: {10**12}"))
        assert cut_off(raw, b" " * 65536)
        assert api.get("/jobs").status_code == 200

    @pytest.mark.parametrize("junk", [b"5;" + b"x" * 5_000_000, b"0\r\nx: " + b"y" * 5_000_000])
    def test_chunk_extensions_and_trailers_without_end_are_cut_off(self, api, dial, junk):
        raw = dial()
        raw.sendall(head(api, "POST", "/api/v1/jobs", "transfer-encoding: chunked"))
        assert cut_off(raw, junk)


class TestRequestsThatMeanTwoThings:
    """Where a proxy and the server could disagree about where a request ends, there is no answer but 400."""

    HIDDEN = b"GET /api/v1/organizations HTTP/1.1\r\nhost: localhost\r\n\r\n"

    @pytest.mark.parametrize(
        "lines",
        [
            ["content-length: 5", "transfer-encoding: chunked"],
            ["transfer-encoding: chunked", "content-length: 5"],
            ["content-length: 5", "content-length: 6"],
            ["content-length: +5"],
            ["content-length: 5, 5"],
            ["content-length: 0x5"],
            ["content-length: -5"],
            ["content-length : 5"],
            ["transfer-encoding: xchunked"],
            ["transfer-encoding: identity, chunked, identity"],
            ["transfer-encoding : chunked"],
            ["x: y", " folded: z"],
            ["x\0: y"],
            ["x: a\0b"],
            ["no colon here"],
        ],
        ids=str,
    )
    def test_are_refused_and_end_the_connection(self, api, dial, lines):
        raw = dial()
        raw.sendall(head(api, "POST", "/api/v1/jobs", *lines) + b"0\r\n\r\n" + self.HIDDEN)
        (status, body), *more = parsed(everything(raw))
        assert (status, json.loads(body)["code"]) == (400, "BAD_REQUEST")
        assert more == []
        assert api.get("/jobs/stats").json()["total"] == 0

    def test_a_bare_line_feed_ends_no_header(self, api, dial):
        raw = dial()
        raw.sendall(head(api, "GET", "/health/live").replace(b"\r\n", b"\n") + self.HIDDEN)
        assert [status for status, _ in parsed(everything(raw))] == [400]

    def test_trailers_are_no_headers(self, start_server, connect):
        api = connect(start_server(open_registration=False, admin_key="the-admin-key"))
        parts = urlsplit(api.server.url)
        body = json.dumps({"name": "n", "slug": "s"}).encode()
        with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
            raw.sendall(
                b"POST /api/v1/organizations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
                + f"{len(body):x}\r\n".encode()
                + body
                + b"\r\n0\r\nx-admin-key: the-admin-key\r\n\r\n"
            )
            status, answer = one_answer(raw)
        assert (status, json.loads(answer)["code"]) == (403, "ACCESS_DENIED")

    def test_two_credentials_are_none(self, api, stranger, dial):
        raw = dial()
        raw.sendall(head(api, "GET", "/api/v1/jobs", f"authorization: Bearer {stranger.key}"))
        status, body = one_answer(raw)
        assert (status, json.loads(body)["code"]) == (401, "UNAUTHORIZED")

    def test_pipelined_requests_are_answered_in_order(self, api, dial):
        raw = dial()
        api.create()
        raw.sendall(
            head(api, "GET", "/api/v1/jobs/stats")
            + b"GET /nowhere HTTP/1.1\r\n\r\n"
            + head(api, "GET", "/api/v1/jobs/none", "connection: close")
        )
        answers = parsed(everything(raw))
        assert [status for status, _ in answers] == [200, 404, 404]

    def test_nothing_follows_a_request_to_upgrade(self, api, dial):
        raw = dial()
        raw.sendall(
            head(api, "GET", "/api/v1/jobs", "connection: upgrade", "upgrade: websocket")
            + head(api, "GET", "/api/v1/organizations")
        )
        assert [status for status, _ in parsed(everything(raw))] == [200]


class TestNames:
    @pytest.mark.parametrize(
        "sent",
        ["a\\r\\nx-evil: 1", "a b", "é", "x" * 201, ""],
    )
    def test_a_request_id_that_is_no_plain_word_is_replaced(self, api, dial, sent):
        raw = dial()
        raw.sendall(head(api, "GET", "/health/live", f"x-request-id: {sent}", "connection: close"))
        answer = everything(raw)
        line = next(line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id"))
        if sent.startswith("a\\r"):
            assert b"x-evil" not in answer
        assert uuid.UUID(line.split(b": ")[1].decode())

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/queues/..%2f..%2fjobs", 400),
            ("/api/v1/queues/..", 400),
            ("/api/v1/queues/%2e%2e/config", 405),
            ("/api/v1/jobs/%00", 404),
            ("/api/v1/jobs/a%00b", 404),
            ("/api/v1/jobs/a%2fcomplete", 404),
            ("/api/v1/jobs/../organizations", 404),
            ("/api/v1//jobs", 404),
            ("//api/v1/jobs", 404),
            ("/api/v1/jobs/", 404),
            ("/api/v1/jobs;x=1", 404),
            ("/API/v1/jobs", 404),
            ("/api/v1/jobs/%ff%fe", 404),
            ("/api/v1/jobs/%", 404),
            ("/health/../api/v1/jobs", 404),
        ],
    )
    def test_paths_are_not_normalized_into_others(self, api, dial, path, status):
        raw = dial()
        raw.sendall(head(api, "GET", path, "connection: close"))
        ((found, body),) = parsed(everything(raw))
        assert found == status
        assert json.loads(body)["code"]

    @pytest.mark.parametrize(
        "target", ["http://evil.example/api/v1/jobs", "*", "x:80", "http://evil.example"]
    )
    def test_other_forms_of_a_target_are_answered_in_json(self, api, dial, target):
        raw = dial()
        raw.sendall(head(api, "GET", target, "connection: close"))
        ((status, body),) = parsed(everything(raw))
        assert status in (200, 400, 404)
        json.loads(body)
