"""Connections that break and servers that refuse. The servers here do what ours never do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from spooled import errors
from tests.waiting import HOPELESS

from .conftest import KEY, Kind, make_client, result
from .raw_server import Connection, RawServer
from .realtime_harness import Calls, following, take, the_end_of

Make = Callable[..., Any]

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: connected\n\n"


def created(job_id: str, queue: str = "q") -> str:
    data = {"job_id": job_id, "queue_name": queue, "priority": 0, "timestamp": "2026-01-31T12:00:00Z"}
    return json.dumps({"type": "JobCreated", "data": data})


def as_sse(text: str) -> bytes:
    return f"event: job.created\ndata: {text}\n\n".encode()


@pytest.fixture
async def told(kind: Kind) -> AsyncIterator[Make]:
    """Make a realtime client for an address."""
    made: list[Any] = []

    def make(type: str, url: str, **options: Any) -> Any:  # noqa: A002
        client = make_client(kind, api_key=KEY, base_url=url)
        realtime = client.realtime(type, **{"reconnect_delay": 0.0} | options)
        made.append((realtime, client))
        return realtime

    yield make
    for realtime, client in made:
        await result(realtime.disconnect())
        await result(client.close())


@contextmanager
def websocket_server(handle: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """A WebSocket server that does what a test says with each connection."""
    server: Server = serve(handle, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()


# --- streams ---


async def test_a_stream_that_breaks_is_opened_again(told: Make) -> None:
    def handle(connection: Connection) -> None:
        request = connection.read_request()
        assert request is not None
        assert b"GET /api/v1/events?queue=q HTTP/1.1" in request
        assert f"authorization: bearer {KEY}".encode() in request.lower()
        number = len(server.requests)
        connection.send(STREAM + as_sse(created(f"job-{number}")))
        if number == 3:
            connection.hang()

    with RawServer(handle) as server:
        realtime, states = told("sse", server.url), Calls()
        realtime.on_state_change(states)
        events = realtime.events()
        await result(realtime.connect({"queue": "q"}))
        found = await take(events, "job.created", 3)
        assert [event.data["job_id"] for event in found] == ["job-1", "job-2", "job-3"]
        assert isinstance(realtime.last_error, errors.NetworkError)
        await states.reach(6)
        assert states == [
            "connecting", "connected", "reconnecting", "connected", "reconnecting", "connected",
        ]  # fmt: skip
        await result(realtime.disconnect())


async def test_a_stream_that_breaks_for_good_ends_with_its_reason(told: Make) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        if len(server.requests) == 1:
            connection.send(STREAM)

    with RawServer(handle) as server:
        realtime = told("sse", server.url, max_reconnect_attempts=2)
        events = realtime.events()
        await result(realtime.connect())
        with pytest.raises(errors.NetworkError):
            await the_end_of(events)
        assert len(server.requests) == 3
        assert (realtime.state, type(realtime.last_error)) == ("disconnected", errors.NetworkError)
        await result(realtime.disconnect())


async def test_without_reconnecting_the_first_loss_is_the_last(told: Make) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(STREAM)

    with RawServer(handle) as server:
        realtime = told("sse", server.url, auto_reconnect=False)
        events = realtime.events()
        await result(realtime.connect())
        with pytest.raises(errors.NetworkError, match="the server ended the connection"):
            await following(events)
        assert len(server.requests) == 1


async def test_a_refusal_ends_the_attempts(told: Make) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        if len(server.requests) == 1:
            connection.send(STREAM)
            return
        body = json.dumps({"code": "ACCESS_DENIED", "message": f"not with {KEY}"}).encode()
        connection.send(
            b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )

    with RawServer(handle) as server:
        realtime = told("sse", server.url)
        events = realtime.events()
        await result(realtime.connect())
        with pytest.raises(errors.AuthorizationError) as caught:
            await following(events)
        assert KEY not in str(caught.value)
        assert len(server.requests) == 2


async def test_a_page_is_not_a_stream(told: Make) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n")

    with RawServer(handle) as server:
        realtime = told("sse", server.url)
        with pytest.raises(errors.SpooledError, match="answers with text/html"):
            await result(realtime.connect())


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"])
async def test_a_stream_that_does_not_begin_has_a_deadline(kind: Kind, begin: bytes) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(begin)
        connection.hang()

    with RawServer(handle) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, timeout=0.2)
        realtime = client.realtime("sse")
        with pytest.raises(errors.TimeoutError, match=r"0\.2 s"):
            await result(realtime.connect())
        await result(client.close())


# --- WebSockets ---


async def test_a_websocket_that_breaks_is_opened_again(told: Make) -> None:
    paths: list[str] = []
    done = threading.Event()

    def handle(connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        assert request.headers["authorization"] == f"Bearer {KEY}"
        paths.append(request.path)
        for nonsense in ("", "{}", "[1]", '{"type": "SomethingNew", "data": {}}'):
            connection.send(nonsense)
        connection.send(b"\xff\xfe")
        connection.send(created(f"job-{len(paths)}"))
        if len(paths) == 1:
            for _ in range(4):
                connection.recv()  # the change of subscriptions
        if len(paths) == 2:
            connection.socket.close()  # no goodbye
        if len(paths) == 3:
            done.wait(HOPELESS)

    with websocket_server(handle) as url:
        realtime = told("websocket", url)
        events = realtime.events()
        await result(realtime.connect({"queue": "q", "job_id": "job-1"}))
        await result(realtime.subscribe({"queue": "q"}))
        found = await take(events, "job.created", 3)
        assert [event.data["job_id"] for event in found] == ["job-1", "job-2", "job-3"]
        assert paths == ["/api/v1/ws?queue=q&job_id=job-1", "/api/v1/ws?queue=q", "/api/v1/ws?queue=q"]
        assert isinstance(realtime.last_error, errors.NetworkError)
        await result(realtime.disconnect())
        done.set()


async def test_commands_are_sent_in_both_spellings(told: Make) -> None:
    heard: list[dict[str, str]] = []
    complete = threading.Event()

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            heard.append(json.loads(message))
            if len(heard) == 8:
                complete.set()

    with websocket_server(handle) as url:
        realtime = told("websocket", url)
        await result(realtime.connect())
        await result(realtime.subscribe({"queue": "q"}))
        await result(realtime.subscribe({"queue": "q"}))
        await result(realtime.subscribe({"queue": "p"}))
        await result(realtime.unsubscribe({"queue": "q"}))
        await result(realtime.unsubscribe())
        assert await asyncio.to_thread(complete.wait, 20)
        lower = [message for message in heard if message["cmd"].islower()]
        upper = [message for message in heard if not message["cmd"].islower()]
        assert lower == [
            {"cmd": "subscribe", "queue": "q"},
            {"cmd": "unsubscribe"},
            {"cmd": "subscribe", "queue": "p"},
            {"cmd": "unsubscribe"},
        ]
        assert [message | {"cmd": message["cmd"].lower()} for message in upper] == lower
        await result(realtime.disconnect())


async def test_subscriptions_that_change_at_a_time_are_told_in_order() -> None:
    """What the server is left with is what is wanted in the end."""
    heard: list[dict[str, str]] = []
    said = threading.Event()

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            heard.append(json.loads(message))
            if heard[-1].get("queue") == "last":
                said.set()

    with websocket_server(handle) as url:
        client = make_client("async", api_key=KEY, base_url=url)
        realtime = client.realtime("websocket")
        await realtime.connect()
        await asyncio.gather(
            realtime.subscribe({"queue": "a"}),
            realtime.subscribe({"queue": "b"}),
            realtime.unsubscribe(),
            realtime.subscribe({"queue": "last"}),
        )
        assert await asyncio.to_thread(said.wait, 20)
        state: dict[str, str] = {}
        for message in heard:
            state = {} if message["cmd"].lower() == "unsubscribe" else {"queue": message["queue"]}
        assert state == {"queue": "last"}
        await realtime.disconnect()
        await client.close()


@pytest.mark.parametrize(
    ("status", "kind_of_error"),
    [
        (401, errors.AuthenticationError),
        (403, errors.AuthorizationError),
        (404, errors.NotFoundError),
        (429, errors.RateLimitError),
        (503, errors.ServerError),
        (302, errors.SpooledError),
    ],
)
async def test_a_refused_upgrade_is_the_error_of_its_status(
    told: Make, status: int, kind_of_error: type[errors.SpooledError]
) -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(status, json.dumps({"code": "X_CODE", "message": f"said so to {KEY}"}))
        response.headers["Location"] = "http://127.0.0.1:9/elsewhere"
        return response

    with websocket_server(lambda connection: None, process_request=refuse) as url:
        realtime = told("websocket", url)
        with pytest.raises(kind_of_error, match="said so") as caught:
            await result(realtime.connect())
        assert KEY not in str(caught.value)
        assert (type(caught.value), caught.value.status_code) == (kind_of_error, status)
        assert realtime.state == "disconnected"


async def test_a_server_that_speaks_no_websocket(told: Make) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"nonsense\r\n\r\n")

    with RawServer(handle) as server:
        realtime = told("websocket", server.url)
        with pytest.raises(errors.NetworkError):
            await result(realtime.connect())


async def test_a_handshake_that_hangs_has_a_deadline(kind: Kind) -> None:
    with RawServer(lambda connection: connection.hang()) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, connect_timeout=0.1)
        realtime = client.realtime("websocket")
        with pytest.raises(errors.TimeoutError, match=r"0\.1 s"):
            await result(realtime.connect())
        await result(client.close())
