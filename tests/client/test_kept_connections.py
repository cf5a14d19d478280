"""Connections that are kept for the next request: closed meanwhile, shared with a forked child, used by greenlets."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spooled import errors
from spooled._http import _connection_pool
from spooled._http._http_client import HttpClientTransport
from spooled._http._messages import Request
from spooled.config import ClientConfig
from tests.waiting import HOPELESS, wait_until

from .conftest import KEY, Kind, make_client, result
from .each_transport import PATIENT, get
from .raw_server import OK, Connection, RawServer, answering
from .tls import Authority, needs_openssl

ONCE = {"max_retries": 0}
ACK = {"worker_id": "w", "lease_id": "l"}
JOB = b'{"id":"j","queue_name":"q","status":"pending","created_at":"2026-01-01T00:00:00Z"}'


def json_answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class ClosesIdle:
    """Answers the first request of a connection; closes the connection when the second is there, without a word.

    This is what a request sees that a server's closing of an idle connection crosses on its way.
    """

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def __call__(self, connection: Connection) -> None:
        connection.read_request()
        connection.send(self.answer)
        connection.read_request()


async def test_a_closing_that_crosses_a_harmless_request_is_not_noticed(kind: Kind) -> None:
    with RawServer(ClosesIdle(json_answer(JOB))) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, retry=ONCE)
        for _ in range(6):
            assert (await result(client.jobs.get("j"))).id == "j"
        # Without retries, and without a second connection for what went well.
        assert (server.connections, len(server.requests)) == (6, 11)
        await result(client.close())


async def test_a_closing_that_crosses_a_keyed_enqueue_is_not_noticed(kind: Kind) -> None:
    with RawServer(ClosesIdle(json_answer(b'{"id":"j","created":true}', "201 Created"))) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, retry=ONCE)
        for number in range(4):
            made = await result(client.jobs.create(queue_name="q", payload=1, idempotency_key=str(number)))
            assert made.id == "j"
        await result(client.close())


async def test_what_may_have_been_done_is_not_done_again(kind: Kind) -> None:
    with RawServer(ClosesIdle(json_answer(b'{"id":"j","created":true}', "201 Created"))) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url)
        await result(client.jobs.create(queue_name="q", payload=1))
        with pytest.raises(errors.NetworkError) as caught:
            await result(client.jobs.create(queue_name="q", payload=2))
        assert (caught.value.stale_connection, caught.value.unsent) == (True, False)
        assert len(server.requests) == 2
        await result(client.close())


async def test_an_ack_that_is_sent_again_is_counted(kind: Kind) -> None:
    """The first may have landed: only then does "already completed" mean that it did."""

    def handle(connection: Connection) -> None:
        while (request := connection.read_request()) is not None:
            if b"/complete" not in request:
                connection.send(json_answer(JOB))
            elif sum(b"/complete" in each for each in server.requests) == 1:
                return
            else:
                message = b'{"code":"CONFLICT","message":"Job is already completed"}'
                connection.send(json_answer(message, "409 Conflict"))

    with RawServer(handle) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, retry=ONCE)
        await result(client.jobs.get("j"))
        assert (await result(client.jobs.complete("j", **ACK))).success
        await result(client.close())


async def test_a_first_connection_that_breaks_is_not_a_kept_one(kind: Kind) -> None:
    with RawServer(lambda connection: connection.read_request()) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, retry=ONCE)
        with pytest.raises(errors.NetworkError) as caught:
            await result(client.jobs.get("j"))
        assert (caught.value.attempts, len(server.requests)) == (1, 1)
        await result(client.close())


# --- the pool of threads ---


def quiet(transport: HttpClientTransport) -> bool:
    return transport._pools[os.getpid()]._idle[0].is_quiet()


@pytest.mark.parametrize("secure", [False, pytest.param(True, marks=needs_openssl)])
def test_a_connection_that_was_closed_meanwhile_is_not_used(
    secure: bool, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    def once(connection: Connection) -> None:
        connection.read_request()
        connection.send(OK)

    with RawServer(once, tls=authority.server_context() if secure else None) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        for _ in range(3):
            # A POST that nothing allows to be sent again.
            assert transport.send(Request("POST", "/x", (), b"{}", {}, PATIENT)).status == 200
            wait_until(lambda: not quiet(transport))
        assert (server.connections, len(server.requests)) == (3, 3)
        transport.close()


def test_what_was_not_asked_for_is_nobodys_answer() -> None:
    """A server says 408 before it closes an idle connection; one that is broken answers twice."""
    ready = threading.Event()

    def handle(connection: Connection) -> None:
        number = len(server.requests)
        connection.read_request()
        connection.send(json_answer(b'{"right":%d}' % number))
        if number == 0:
            connection.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            ready.set()
        connection.read_request()

    with RawServer(handle) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        assert transport.send(get()).body == b'{"right":0}'
        assert ready.wait(HOPELESS)
        assert transport.send(get()).body == b'{"right":1}'
        assert server.connections == 2
        transport.close()


def test_more_than_an_answer_in_one_piece_is_not_the_next_one() -> None:
    with RawServer(answering(OK + json_answer(b'{"wrong":1}'))) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        assert [transport.send(get()).body for _ in range(3)] == [b"{}"] * 3
        assert server.connections == 3, (
            "what is left over belongs to no request, and neither does its connection"
        )
        transport.close()


def test_idle_connections_are_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answering()) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        transport.send(get())
        monkeypatch.setattr(_connection_pool, "KEEPALIVE_SECONDS", -1.0)
        transport.send(get())
        assert server.connections == 2
        transport.close()
        assert not transport._pools[os.getpid()]._idle


def test_a_connection_is_given_up_when_the_answer_says_so() -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ):
        with RawServer(answering(answer)) as server:
            transport = HttpClientTransport(ClientConfig(base_url=server.url))
            assert [transport.send(get()).body for _ in range(2)] == [b"{}"] * 2
            assert server.connections == 2
            transport.close()


def test_answers_that_only_inform_are_passed_over() -> None:
    informing = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    with RawServer(answering(informing + OK)) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        assert [transport.send(get()).body for _ in range(2)] == [b"{}"] * 2
        assert server.connections == 1
        transport.close()


def test_an_answer_that_comes_before_the_whole_request_is_taken() -> None:
    def refuse(connection: Connection) -> None:
        connection.sock.recv(100)
        connection.send(json_answer(b"{}", "413 Payload Too Large"))
        # Closing with unread bytes resets the connection.

    with RawServer(refuse) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url))
        assert transport.send(Request("POST", "/x", (), b"x" * 5_000_000, {}, PATIENT)).status == 413
        transport.close()


def test_lines_cannot_be_broken_out_of() -> None:
    transport = HttpClientTransport(ClientConfig(base_url="http://127.0.0.1:1"))
    for request in (
        get("/x HTTP/1.1\r\nx: y"),
        Request("GET\r\n", "/x"),
        get(headers={"x-webhook-token": "a\r\nx: y"}),
        get(headers={"x\r\ny": "a"}),
    ):
        with pytest.raises(ValueError, match="cannot be sent"):
            transport.send(request)


def test_a_call_that_finds_all_connections_busy_says_so() -> None:
    with RawServer(answering()) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url), max_connections=1)
        transport.send(get())
        assert transport._pools[os.getpid()].room.acquire(timeout=0)
        with pytest.raises(errors.TimeoutError, match="max_connections") as caught:
            transport.send(get(timeout=0.05))
        assert caught.value.unsent
        transport._pools[os.getpid()].room.release()
        assert transport.send(get()).status == 200
        transport.close()


def test_no_connection_is_lost_when_calls_fail() -> None:
    outcomes: list[Callable[[Connection], object]] = [
        lambda connection: connection.send(b"nonsense\r\n\r\n"),
        lambda connection: None,
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        lambda connection: connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx"
        ),
    ]

    def handle(connection: Connection) -> None:
        connection.read_request()
        outcomes[len(server.requests) % len(outcomes)](connection)

    with RawServer(handle) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url), max_connections=2)
        for _ in range(8):
            with pytest.raises(errors.NetworkError):
                transport.send(get())
        pool = transport._pools[os.getpid()]
        assert not pool._busy
        assert not pool._idle
        assert pool.room.acquire(timeout=0)
        assert pool.room.acquire(timeout=0)


# --- processes and greenlets, in an interpreter of their own ---


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=HOPELESS,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKING = """
import os, sys, threading
from spooled import SpooledClient

client = SpooledClient("sp_test_0123456789", base_url=sys.argv[1], max_connections=2, retry={"max_retries": 0})

def ask(who, times=20):
    for number in range(times):
        found = client.jobs.get(f"{who}-{number}").id
        assert found == f"{who}-{number}", (who, number, found)

ask("before")
# A request that is under way while the process forks, and with the next one has all of the room.
hanging = threading.Thread(target=lambda: client.jobs.get("hang"))
hanging.start()
client.jobs.get("wait-for-hang")
child = os.fork()
if not child:
    try:
        threads = [threading.Thread(target=ask, args=(f"child-{n}",)) for n in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
        ask("child")
        client.close()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
ask("parent")
assert os.waitpid(child, 0)[1] == 0
ask("after")
client.jobs.get("release")
hanging.join()
client.close()
"""


@pytest.mark.parametrize("secure", [False, pytest.param(True, marks=needs_openssl)])
def test_a_forked_child_uses_connections_of_its_own(secure: bool, authority: Authority) -> None:
    hangs, release = threading.Event(), threading.Event()

    def handle(connection: Connection) -> None:
        while (request := connection.read_request()) is not None:
            name = request.split(b" ", 2)[1].rpartition(b"/")[2]
            if name == b"hang":
                hangs.set()
                release.wait(HOPELESS)
            elif name == b"wait-for-hang":
                hangs.wait(HOPELESS)
            elif name == b"release":
                release.set()
            connection.send(json_answer(JOB.replace(b'"j"', b'"%s"' % name)))

    with RawServer(handle, tls=authority.server_context() if secure else None) as server:
        run(FORKING, server.url, SSL_CERT_FILE=str(authority.file))


GREENLETS = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
import gevent
spawn = gevent.spawn
def join(all): gevent.joinall(all, raise_error=True)
""",
    "eventlet": """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
spawn = eventlet.spawn
def join(all): [each.wait() for each in all]
""",
}

AT_ONCE = """
import sys
from spooled import SpooledClient

client = SpooledClient("sp_test_0123456789", base_url=sys.argv[1])
for _ in range(3):
    join([spawn(client.jobs.get, f"{number}") for number in range(5)])
client.close()
"""


@pytest.mark.parametrize("secure", [False, pytest.param(True, marks=needs_openssl)])
@pytest.mark.parametrize("library", list(GREENLETS))
def test_greenlets_do_not_wait_for_each_other(library: str, secure: bool, authority: Authority) -> None:
    # Not imported here: both change the process that they are in.
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    together = threading.Barrier(5)

    def handle(connection: Connection) -> None:
        while connection.read_request() is not None:
            together.wait(HOPELESS)  # five requests at a time, or none is answered
            connection.send(json_answer(JOB))

    with RawServer(handle, tls=authority.server_context() if secure else None) as server:
        run(GREENLETS[library] + AT_ONCE, server.url, SSL_CERT_FILE=str(authority.file))
        assert server.connections == 5
