"""The three transports against real sockets that behave and misbehave."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from typing import Any
from urllib.request import getproxies

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled import errors
from spooled._http._http_client import HttpClientTransport
from spooled._http._httpx import AsyncHttpxTransport, HttpxTransport
from spooled._http._messages import Request, Response
from spooled._http._pools import Pool, Pools
from spooled._http._proxy import proxy_for
from spooled.config import ClientConfig

from .conftest import result
from .each_transport import BRIEF, PATIENT, Make, get
from .raw_server import OK, Connection, RawServer, answering


async def test_a_request_and_its_response(make: Make) -> None:
    response = (
        b"HTTP/1.1 201 Created\r\nX-Request-ID: r-1\r\nContent-Type: application/json\r\n"
        b'Content-Length: 7\r\n\r\n{"a":1}'
    )
    with RawServer(answering(response)) as server:
        transport = make(server.url + "/prefix")
        request = Request(
            "POST",
            "/jobs/%2E%2E/a%2F..%2Fb%3Fx",
            (("status", "pending,failed"), ("q", "a b&c=ü")),
            b'{"b":2}',
            {"authorization": "Bearer k", "content-type": "application/json", "user-agent": "me"},
            PATIENT,
        )
        assert await result(transport.send(request)) == Response(
            201,
            {"x-request-id": "r-1", "content-type": "application/json", "content-length": "7"},
            b'{"a":1}',
        )
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        target = b"/prefix/jobs/%2E%2E/a%2F..%2Fb%3Fx?status=pending%2Cfailed&q=a+b%26c%3D%C3%BC"
        assert line == b"POST " + target + b" HTTP/1.1"
        assert body == b'{"b":2}'
        sent = {name.lower(): value.strip() for name, _, value in (h.partition(b":") for h in headers)}
        assert sent[b"authorization"] == b"Bearer k"
        assert sent[b"content-type"] == b"application/json"
        assert sent[b"content-length"] == b"7"
        assert sent[b"user-agent"] == b"me"
        assert sent[b"host"] == server.url.removeprefix("http://").encode()


async def test_the_users_headers_may_name_another_host(make: Make) -> None:
    with RawServer(answering()) as server:
        await result(make(server.url).send(get(headers={"host": "spooled.test"})))
        assert server.requests[0].lower().count(b"host:") == 1
        assert b"host: spooled.test\r\n" in server.requests[0].lower()


async def test_a_server_may_have_a_number_of_the_sixth_version(make: Make) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            received.append(sock.recv(65_536))
            sock.sendall(OK)

    received: list[bytes] = []
    with listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://[::1]:{listener.getsockname()[1]}"
        assert (await result(make(url).send(get()))).status == 200
        thread.join()
        assert f"host: {url.removeprefix('http://')}\r\n".encode() in received[0].lower()


async def test_what_strangers_send_is_not_shown_at_length(make: Make) -> None:
    with RawServer(answering(b"x" * 30_000 + b"\r\n" * 20)) as server:
        with pytest.raises(errors.NetworkError) as caught:
            await result(make(server.url).send(get()))
        text = str(caught.value)
        assert len(text) < 800
        assert "\n" not in text


async def test_connections_are_kept(make: Make) -> None:
    with RawServer(answering()) as server:
        transport = make(server.url)
        for _ in range(5):
            await result(transport.send(get()))
        assert server.connections == 1


async def test_every_status_is_a_response(make: Make) -> None:
    for status in (204, 302, 404, 503):
        answer = b"HTTP/1.1 %d X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n" % status
        with RawServer(answering(answer)) as server:
            response = await result(make(server.url).send(get()))
            assert (response.status, response.body) == (status, b"")
            assert len(server.requests) == 1


async def test_compressed_bodies_are_opened(make: Make) -> None:
    body = gzip.compress(b'{"a":1}')
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with RawServer(answering(answer)) as server:
        assert (await result(make(server.url).send(get()))).body == b'{"a":1}'


async def test_chunked_bodies_are_joined(make: Make) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with RawServer(answering(answer)) as server:
        assert (await result(make(server.url).send(get()))).body == b"abcde"


async def test_a_large_body_goes_through(make: Make) -> None:
    with RawServer(answering()) as server:
        body = b"x" * 3_000_000
        await result(make(server.url).send(Request("POST", "/x", (), body, {}, PATIENT)))
        assert server.requests[0].endswith(body)


def half_open(connection: Connection) -> None:
    connection.read_request()
    connection.hang()


def slow_head(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.trickle(b"x-filler: abc\r\n")


def slow_body(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    connection.trickle(b"x")


def slow_chunks(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    connection.trickle(b"1\r\nx\r\n")


@pytest.mark.parametrize("handle", [half_open, slow_head, slow_body, slow_chunks])
async def test_a_server_that_does_not_finish_cannot_hang_a_call(make: Make, handle: Any) -> None:
    with RawServer(handle) as server:
        with pytest.raises(errors.TimeoutError, match=r"GET /x: no complete answer within 0\.3 s") as caught:
            await result(make(server.url).send(get(timeout=BRIEF)))
        assert caught.value.timeout_seconds == BRIEF


async def test_a_server_that_does_not_read_cannot_hang_a_call(make: Make) -> None:
    with RawServer(lambda connection: connection.hang()) as server:
        request = Request("POST", "/x", (), b"x" * 20_000_000, {}, BRIEF)
        with pytest.raises(errors.TimeoutError):
            await result(make(server.url).send(request))


def cut_at_once(connection: Connection) -> None:
    connection.read_request()


def cut_in_head(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-le")


def cut_in_body(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


def nonsense(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize("handle", [cut_at_once, cut_in_head, cut_in_body, nonsense])
async def test_a_broken_connection_is_a_network_error(make: Make, handle: Any) -> None:
    with RawServer(handle) as server:
        with pytest.raises(errors.NetworkError, match=f"POST /x at {server.url}: .") as caught:
            await result(make(server.url).send(Request("POST", "/x", timeout=PATIENT)))
        assert caught.value.__cause__ is not None
        assert caught.value.is_retryable()


async def test_a_refused_connection_is_a_network_error(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.NetworkError, match="base_url"):
        await result(make(url).send(get()))


async def test_the_next_call_after_a_failed_one_works(make: Make) -> None:
    first = threading.Event()

    def once_bad(connection: Connection) -> None:
        if first.is_set():
            answering()(connection)
        else:
            first.set()
            half_open(connection)

    with RawServer(once_bad) as server:
        transport = make(server.url)
        with pytest.raises(errors.TimeoutError):
            await result(transport.send(get(timeout=BRIEF)))
        assert (await result(transport.send(get()))).status == 200


@pytest.mark.parametrize("make", ["async httpx", "aiohttp"], indirect=True)
async def test_a_cancelled_call_leaves_the_transport_usable(make: Make) -> None:
    started = threading.Event()

    def first_hangs(connection: Connection) -> None:
        if started.is_set():
            answering()(connection)
        else:
            connection.read_request()
            started.set()
            connection.hang()

    with RawServer(first_hangs) as server:
        transport = make(server.url)
        call = asyncio.create_task(transport.send(get()))
        await asyncio.to_thread(started.wait, PATIENT)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await transport.send(get())).status == 200


async def test_the_proxy_of_the_environment_is_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answering()) as proxy:
        monkeypatch.setenv("HTTP_PROXY" if "http_proxy" not in getproxies() else "http_proxy", proxy.url)
        await result(make("http://spooled.test").send(get("/health")))
        assert proxy.requests[0].startswith(b"GET http://spooled.test/health HTTP/1.1\r\n")


ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"http_proxy": "http://p:1"},
    {"https_proxy": "http://p:2"},
    {"all_proxy": "http://p:3"},
    {"http_proxy": "p:4", "all_proxy": "http://p:3"},
    {"all_proxy": "http://p:3", "no_proxy": "*"},
    {"all_proxy": "http://p:3", "no_proxy": "spooled.test"},
    {"all_proxy": "http://p:3", "no_proxy": "other.test, .spooled.test"},
    {"all_proxy": "http://p:3", "no_proxy": "other.test"},
    {"all_proxy": "http://p:3", "no_proxy": "localhost,127.0.0.1"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "url", ["http://spooled.test", "https://api.spooled.test", "http://localhost:8080", "http://127.0.0.1:1"]
)
def test_proxies_are_chosen_as_httpx_does(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with httpx.Client() as reference:
        pool = getattr(reference._transport_for_url(httpx.URL(url)), "_pool", None)
    expected = getattr(pool, "_proxy_url", None)
    chosen = proxy_for(url)
    assert (chosen is None) == (expected is None)
    if chosen is not None and expected is not None:
        assert httpx.URL(chosen).port == expected.port


# --- httpx transports of the user's ---


@pytest.mark.parametrize("transport_class", [HttpxTransport, AsyncHttpxTransport])
async def test_a_transport_of_the_users_is_used_and_not_closed(transport_class: Any) -> None:
    class Custom(httpx.MockTransport):
        closed = False

        def close(self) -> None:
            self.closed = True

        async def aclose(self) -> None:
            self.closed = True

    custom = Custom(lambda request: httpx.Response(200, text=f"{request.method} {request.url}"))
    transport = transport_class(ClientConfig(base_url="http://spooled.test"), transport=custom)
    assert (await result(transport.send(get()))).body == b"GET http://spooled.test/x"
    await result(transport.close() if hasattr(transport, "close") else transport.aclose())
    assert not custom.closed


async def test_a_blocking_transport_serves_coroutines_from_a_thread() -> None:
    threads = []

    class Blocking(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            threads.append(threading.current_thread())
            return httpx.Response(200)

    transport = AsyncHttpxTransport(ClientConfig(), transport=Blocking())
    assert (await transport.send(get())).status == 200
    assert threads[0] is not threading.current_thread()
    await transport.aclose()


@pytest.mark.parametrize("transport_class", [HttpxTransport, AsyncHttpxTransport])
def test_something_else_is_refused_as_a_transport(transport_class: Any) -> None:
    with (
        httpx.Client() as client,
        pytest.raises(TypeError, match=r"transport must be an httpx\.BaseTransport, got Client"),
    ):
        transport_class(ClientConfig(), transport=client)


@pytest.mark.parametrize("transport_class", [HttpxTransport, AsyncHttpxTransport])
@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (
            httpx.ConnectTimeout("t"),
            errors.TimeoutError,
            "no connection to https://api.spooled.cloud within 10 s",
        ),
        (httpx.PoolTimeout("t"), errors.TimeoutError, "max_connections"),
        (httpx.ReadTimeout("t"), errors.TimeoutError, "no complete answer within 20 s"),
        (httpx.ProxyError("403 Forbidden"), errors.NetworkError, "403 Forbidden"),
        (httpx.UnsupportedProtocol("u"), errors.NetworkError, "u"),
        (OSError(99, "no address"), errors.NetworkError, "no address"),
        (ZeroDivisionError("bug"), ZeroDivisionError, "bug"),
    ],
)
async def test_what_a_transport_raises(transport_class: Any, raised: Exception, kind: Any, says: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised

    transport = transport_class(ClientConfig(), transport=httpx.MockTransport(fail))
    with pytest.raises(kind, match=says):
        await result(transport.send(get()))


# --- threads and processes ---


def test_one_transport_serves_many_threads() -> None:
    statuses: list[int] = []
    with RawServer(answering()) as server:
        transport = HttpClientTransport(ClientConfig(base_url=server.url), max_connections=4)

        def work() -> None:
            for _ in range(10):
                statuses.append(transport.send(get()).status)  # noqa: PERF401

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        transport.close()
        assert statuses == [200] * 80
        assert server.connections <= 4


@pytest.mark.parametrize("make", ["async httpx", "aiohttp"], indirect=True)
async def test_coroutines_share_as_many_connections_as_allowed(make: Make) -> None:
    with RawServer(answering()) as server:
        transport = make(server.url, max_connections=7)
        responses = await asyncio.gather(*(transport.send(get()) for _ in range(60)))
        assert {response.status for response in responses} == {200}
        assert server.connections <= 7


@given(st.integers(1, 60), st.lists(st.integers(0, 200), max_size=60))
def test_small_pools_add_up_to_the_limit(max_connections: int, ends: list[int]) -> None:
    made: list[int] = []

    def make(limit: int) -> httpx.AsyncBaseTransport:
        made.append(limit)
        return httpx.MockTransport(lambda request: httpx.Response(200))

    pools = Pools(make, max_connections)
    under_way: list[Pool] = []
    for end in ends:
        before = sum(limit for limit in made)
        pool = pools.choose()
        if len(under_way) < max_connections:
            assert pool.busy < pool.limit
        if sum(made) > before:
            assert before == len(under_way), "a pool was made although another had room"
        pool.busy += 1
        under_way.append(pool)
        if end < len(under_way):
            under_way.pop(end).busy -= 1
    assert sum(made) <= max_connections
