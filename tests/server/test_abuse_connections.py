"""Many connections, and WebSockets that misbehave. Real sockets."""

from __future__ import annotations

import base64
import os
import resource
import socket
import struct
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from spooled_contrib.server._websockets import MAX_FRAGMENTS, MAX_MESSAGE
from tests.waiting import HOPELESS

TEXT, CONTINUED, CLOSE, PING, PONG = 1, 0, 8, 9, 10


@pytest.fixture
def many_files():
    """A thousand connections have two ends each in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_stop_nobody(start_server, connect, many_files):
    api = connect(start_server())
    parts = urlsplit(api.server.url)
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS))
            for _ in range(1000)
        ]
        for connection in idle[::2]:
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        for _ in range(20):
            api.complete((api.create(), api.claim_one())[1])
        for connection in idle[1::2]:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for connection in idle[1::2]:
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert api.get("/jobs/stats").json()["completed"] == 20


def test_clients_that_hang_up_leave_nothing_behind(api, eventually):
    parts = urlsplit(api.server.url)
    hub = api.server._runtime._hub
    with ExitStack() as stack:
        for path in ("/api/v1/events", "/api/v1/events/jobs/x", "/api/v1/events/queues/x", "/api/v1/ws"):
            for _ in range(5):
                raw = stack.enter_context(
                    socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS)
                )
                raw.sendall(handshake(api, path) if path.endswith("ws") else plain(api, path))
                assert raw.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 101")
                # A reset, not a farewell.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    organization = api.organization_id
    assert eventually(lambda: hub.count(organization, "stream") + hub.count(organization, "socket") == 0)
    assert eventually(lambda: hub.count(organization, "watch") == 0)


def plain(api, path):
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {api.key}\r\n\r\n".encode()


def handshake(api, path="/api/v1/ws"):
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {api.key}\r\nconnection: upgrade\r\n"
        f"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    ).encode()


def frame(kind, payload=b"", *, last=True, masked=True, length=None):
    """One frame as a client sends it; `length` makes it lie about its size."""
    size = len(payload) if length is None else length
    first = (0x80 if last else 0) | kind
    mask = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


@pytest.fixture
def raw(api):
    """A WebSocket without a client's manners, after its handshake and its first Ping."""
    parts = urlsplit(api.server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as connection:
        connection.sendall(handshake(api))
        received = b""
        while b'"Ping"' not in received:
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 101")
        yield connection


def closing_code(connection):
    """Read to the end; the code of the server's close frame, which is the last that it sends."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    while received:
        kind, size, start = received[0] & 0x0F, received[1], 2
        if size == 126:
            size, start = int.from_bytes(received[2:4], "big"), 4
        if kind == CLOSE:
            return int.from_bytes(received[start : start + 2], "big")
        received = received[start + size :]
    return None


class TestABadClient:
    @pytest.mark.parametrize("size", [MAX_MESSAGE + 1, 2**31, 2**62])
    def test_with_an_oversized_frame_is_ended_before_it_has_sent_it(self, raw, size):
        raw.sendall(frame(TEXT, b"x", length=size))
        assert closing_code(raw) == 1009

    def test_with_an_oversized_message_in_pieces_is_ended(self, raw):
        raw.sendall(frame(TEXT, b"x" * 1000, last=False) + frame(CONTINUED, b"x" * 1000, last=False) * 20)
        assert closing_code(raw) == 1009

    def test_with_endless_empty_pieces_is_ended(self, raw):
        raw.sendall(frame(TEXT, b"x", last=False) + frame(CONTINUED, last=False) * (2 * MAX_FRAGMENTS))
        assert closing_code(raw) == 1009

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (frame(TEXT, b"\xff\xfe"), 1007),
            (frame(TEXT, b"{}", masked=False), 1002),
            (frame(3, b""), 1002),
            (frame(CONTINUED, b"x"), 1002),
            (frame(PING, b"x" * 126), 1002),
            (frame(PING, b"x", last=False), 1002),
            (b"\xf1\x80\0\0\0\0", 1002),
            (b"GET / HTTP/1.1\r\n\r\n", 1002),
        ],
        ids=range(8),
    )
    def test_that_breaks_the_protocol_is_ended(self, api, raw, sent, code):
        raw.sendall(sent)
        assert closing_code(raw) == code
        assert api.get("/jobs").status_code == 200

    def test_that_floods_with_commands_stops_nobody(self, api, raw, eventually):
        flood = frame(TEXT, b'{"cmd":"subscribe","queue":"a"}') * 2000
        raw.setblocking(False)
        sent = 0
        for _ in range(50):
            try:
                sent += raw.send(flood)
            except BlockingIOError:
                api.create()
        assert sent > 100_000
        assert api.get("/jobs").status_code == 200

    def test_that_pings_without_reading_is_made_to_wait(self, api, raw):
        flood = frame(TEXT, b'{"cmd":"ping"}') * 2000
        raw.setblocking(False)
        blocked = 0
        while blocked < 20:  # each answer must be taken before more is read, and nobody takes any
            try:
                raw.send(flood)
                blocked = 0
            except BlockingIOError:
                blocked += 1
                api.get("/health/live")
        assert api.get("/jobs").status_code == 200

    def test_that_is_reset_in_the_middle_of_events_is_no_error(self, api, raw, eventually, caplog):
        hub = api.server._runtime._hub
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(20):
            api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 100})
        raw.close()
        api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 100})
        assert eventually(lambda: hub.count(api.organization_id, "socket") == 0)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_that_leaves_without_a_word_is_forgotten(self, api, raw, eventually):
        hub = api.server._runtime._hub
        assert hub.count(api.organization_id, "socket") == 1
        raw.close()
        assert eventually(lambda: hub.count(api.organization_id, "socket") == 0)
