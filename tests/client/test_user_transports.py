"""Transports that users plug in, of httpx and httpx2, and programs where neither is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from spooled import SpooledWorker, errors
from spooled._http._httpx import AsyncHttpxTransport, HttpxTransport
from spooled._http._user_transports import is_async_transport
from spooled.config import ClientConfig
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS

from .conftest import KEY, Kind, make_client, result
from .each_transport import BRIEF, get
from .raw_server import Connection, RawServer, answering

both_libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def real(kind: Kind, library: ModuleType, **options: Any) -> Any:
    return library.HTTPTransport(**options) if kind == "sync" else library.AsyncHTTPTransport(**options)


@both_libraries
async def test_real_ones_reach_a_real_server(
    kind: Kind, library: ModuleType, shared_server: EmbeddedServer, queue: str
) -> None:
    transport = real(kind, library)
    client = make_client(kind, api_key=shared_server.api_key, base_url=shared_server.url, transport=transport)
    made = await result(client.jobs.create(queue_name=queue, payload={"a": 1}))
    assert (await result(client.jobs.get(made.id))).queue_name == queue
    with pytest.raises(errors.NotFoundError):
        await result(client.jobs.get("00000000-0000-0000-0000-000000000000"))
    await result(client.close())


@both_libraries
async def test_mocks_serve_both_kinds(kind: Kind, library: Any) -> None:
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(f"{request.method} {request.url} {json.loads(request.content)['payload']}")
        return library.Response(201, json={"id": "j", "created": True})

    client = make_client(kind, api_key=KEY, base_url="http://x", transport=library.MockTransport(answer))
    assert (await result(client.jobs.create(queue_name="q", payload=7))).id == "j"
    assert asked == ["POST http://x/api/v1/jobs 7"]
    await result(client.close())


@both_libraries
def test_a_worker_talks_through_them(library: Any, shared_server: EmbeddedServer, queue: str) -> None:
    paths: set[str] = set()

    class Noting(library.HTTPTransport):  # type: ignore[misc,name-defined]
        def handle_request(self, request: Any) -> Any:
            paths.add(request.url.path.rpartition("/")[2])
            return super().handle_request(request)

    with make_client(
        "sync", api_key=shared_server.api_key, base_url=shared_server.url, transport=Noting()
    ) as client:
        client.jobs.create(queue_name=queue, payload=1)
        worker = SpooledWorker(client, queue)
        worker.process(lambda ctx: None)
        worker.start(burst=True)
    assert {"register", "claim", "settle"} <= paths


@both_libraries
@pytest.mark.parametrize("trickle", ["body", "chunks"])
async def test_a_body_that_trickles_cannot_hang_a_call(kind: Kind, library: Any, trickle: str) -> None:
    def handle(connection: Connection) -> None:
        connection.read_request()
        if trickle == "body":
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
            connection.trickle(b"x")
        connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.trickle(b"1\r\nx\r\n")

    with RawServer(handle) as server:
        config = ClientConfig(base_url=server.url)
        users = real(kind, library)
        transport: Any = (HttpxTransport if kind == "sync" else AsyncHttpxTransport)(config, users)
        with pytest.raises(errors.TimeoutError, match="no complete answer"):
            await result(transport.send(get(timeout=BRIEF)))
        await result(users.close() if kind == "sync" else users.aclose())


@both_libraries
async def test_events_are_read_through_them(library: Any) -> None:
    from spooled._http._streams import StreamTransport

    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"

    def handle(connection: Connection) -> None:
        connection.read_request()
        connection.send(events)
        connection.hang()

    with RawServer(handle) as server:
        users = library.AsyncHTTPTransport()
        for transport in (users, None):
            opener = StreamTransport(ClientConfig(base_url=server.url), transport)
            async with opener.open(get()) as stream:
                assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
                assert await anext(stream.chunks()) == b"data: 1\n\n"
            await opener.aclose()
        await users.aclose()


@both_libraries
def test_which_can_be_read_as_a_stream(library: Any) -> None:
    assert is_async_transport(library.AsyncHTTPTransport())
    assert is_async_transport(library.MockTransport(lambda request: None))
    assert not is_async_transport(library.HTTPTransport())
    assert not is_async_transport(None)


ALONE = """
import asyncio, sys
for name in ("httpx", "httpcore", "httpx2", "httpcore2", "h11", "anyio", "uvloop"):
    sys.modules[name] = None  # as if it were not installed

from spooled import AsyncSpooledClient, SpooledClient, SpooledWorker

key, url = sys.argv[1:]
seen = []
with SpooledClient(key, base_url=url) as client:
    client.jobs.create(queue_name="alone", payload=1)

    async def enqueue():
        async with AsyncSpooledClient(key, base_url=url) as other:
            stream = other.realtime("sse")
            await stream.connect()
            events = stream.events()
            await other.jobs.create(queue_name="alone", payload=2)
            print((await anext(events)).type)
            await stream.disconnect()

    asyncio.run(enqueue())
    worker = SpooledWorker(client, "alone", wakeups=True)
    worker.process(lambda ctx: seen.append(ctx.payload))
    worker.start(burst=True)
    assert sorted(seen) == [1, 2], seen
    try:
        bad = SpooledWorker(client, "alone", transport="httpx")
        bad.process(lambda ctx: None)
        bad.start(burst=True)
    except RuntimeError as error:
        print(error)
"""


def test_all_of_the_core_works_without_httpx() -> None:
    with EmbeddedServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", ALONE, server.api_key, server.url],
            capture_output=True,
            text=True,
            timeout=HOPELESS,
            env=dict(os.environ),
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "job.created",
        "transport='httpx' needs the extra `httpx`: pip install \"spooled-contrib[httpx]\"",
    ]


ONE_LOOP_AFTER_THE_OTHER = """
import asyncio, sys
from spooled import AsyncSpooledClient

client = AsyncSpooledClient("sp_test_0123456789", base_url=sys.argv[1], retry={"max_retries": 0})
for _ in range(3):
    assert asyncio.run(client.health.liveness())
asyncio.run(client.close())
"""


def test_a_client_may_be_used_on_one_loop_after_the_other() -> None:
    """Each `asyncio.run` has a loop of its own; connections of an earlier one are of no use there."""
    with RawServer(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as server:
        script = [sys.executable, "-c", ONE_LOOP_AFTER_THE_OTHER, server.url]
        done = subprocess.run(script, capture_output=True, text=True, timeout=HOPELESS)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.connections == 3
