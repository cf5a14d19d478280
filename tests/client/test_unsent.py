"""Requests of which nothing was sent, because no connection came about: they are sent again, whatever they are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from spooled import errors
from spooled._http._retry import delay_before_retry
from spooled.config import RetryConfig

from .conftest import IMPATIENT, KEY, Client, Kind, make_client, result
from .each_transport import Make, get
from .raw_server import Connection, RawServer, answering
from .test_session import CALLS

CREATED = b'HTTP/1.1 201 Created\r\ncontent-length: 25\r\n\r\n{"id":"j","created":true}'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def on_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """Calls that are made in turn in place of the waits between attempts."""
    calls: list[Callable[[], object]] = []

    def sleep(seconds: float) -> None:
        if calls:
            calls.pop(0)()

    async def async_sleep(seconds: float) -> None:
        await asyncio.to_thread(sleep, seconds)

    monkeypatch.setattr("spooled._async._session.async_sleep", async_sleep)
    monkeypatch.setattr("spooled._sync._session.sleep", sleep)
    return calls


async def test_an_enqueue_without_a_key_outlasts_a_restart(
    kind: Kind, on_wait: list[Callable[[], object]]
) -> None:
    port = free_port()
    with contextlib.ExitStack() as opened:
        servers: list[RawServer] = []
        on_wait.append(lambda: None)
        on_wait.append(lambda: servers.append(opened.enter_context(RawServer(answering(CREATED), port=port))))
        client = make_client(kind, api_key=KEY, base_url=f"http://127.0.0.1:{port}")
        assert (await result(client.jobs.create(queue_name="q", payload=1))).id == "j"
        assert len(servers[0].requests) == 1
        await result(client.close())


@pytest.mark.parametrize("call", CALLS)
async def test_each_call_is_tried_within_its_budget(kind: Kind, call: str) -> None:
    client = make_client(kind, api_key=KEY, base_url=f"http://127.0.0.1:{free_port()}", retry=IMPATIENT)
    with pytest.raises(errors.NetworkError) as caught:
        await result(CALLS[call][1](client))
    assert (caught.value.unsent, caught.value.attempts) == (True, 4)
    await result(client.close())


async def test_an_unknown_name_is_not_sent_to(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.NetworkError) as caught:
        await result(make("http://nowhere.test").send(get()))
    assert caught.value.unsent


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "ü" * 64 + ".test"])
def test_a_name_that_no_host_has_is_refused(host: str, kind: Kind) -> None:
    with pytest.raises(errors.ConfigurationError, match="base_url must be an address whose host"):
        make_client(kind, api_key=KEY, base_url=f"http://{host}")


@pytest.mark.parametrize("make", ["http.client", "aiohttp"], indirect=True)
async def test_what_was_sent_is_not_called_unsent(make: Make) -> None:
    def cut(connection: Connection) -> None:
        connection.read_request()

    with RawServer(cut) as server:
        with pytest.raises(errors.NetworkError) as caught:
            await result(make(server.url).send(get()))
        assert not caught.value.unsent


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"])
async def test_what_transports_of_the_users_say(kind: Kind, library: Any, name: str) -> None:
    requests = []

    def fail(request: Any) -> Any:
        requests.append(request)
        raise getattr(library, name)("no")

    client: Client = make_client(
        kind, api_key=KEY, retry=IMPATIENT, transport=library.MockTransport(fail), base_url="http://x"
    )
    with pytest.raises(errors.SpooledError) as caught:
        await result(client.jobs.create(queue_name="q", payload=1))
    assert caught.value.unsent
    assert len(requests) == 4
    await result(client.close())


def test_a_full_house_is_left_alone_when_told_to() -> None:
    error = errors.NetworkError("refused")
    error.unsent = True
    options = {"attempt": 1, "replay": False, "max_retry_after": 60.0, "chance": 0.0}
    assert delay_before_retry(error, retry=RetryConfig(jitter=False), **options) == 1.0  # type: ignore[arg-type]
    assert delay_before_retry(error, retry=RetryConfig(max_retries=0), **options) is None  # type: ignore[arg-type]
    error.unsent = False
    assert delay_before_retry(error, retry=RetryConfig(), **options) is None  # type: ignore[arg-type]


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have an address that swallows what is sent there, such as one of IPv6."""
    from spooled import SpooledClient

    with RawServer(answering(CREATED)) as server, socket.socket() as full:
        # A listener whose queue is full does not answer a new connection.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        blockers = [socket.socket() for _ in range(4)]
        for each in blockers:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(full.getsockname())
        port = int(server.url.rpartition(":")[2])
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: addresses)
        with SpooledClient(
            KEY, base_url="http://two.test", connect_timeout=1.0, retry={"max_retries": 0}
        ) as client:
            assert client.jobs.create(queue_name="q", payload=1).id == "j"
        for each in blockers:
            each.close()
