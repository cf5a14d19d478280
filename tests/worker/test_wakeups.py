"""Wake-ups against a real server, and against servers that do what a real one hardly ever does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled.config import ClientConfig
from spooled.worker import _wakeups
from spooled.worker._wakeups import (
    HOPELESS_DELAY,
    LONGEST_DELAY,
    STEADY,
    Reconnects,
    Wakeups,
    can_listen,
    claimable_in,
    next_beat,
)
from spooled_contrib.server import EmbeddedServer
from tests.client.raw_server import Connection, RawServer
from tests.waiting import HOPELESS
from tests.worker.conftest import Outside

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: connected\n\n"


def refusal(status: int, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d No" % status, b"content-length: 2", *headers, b"", b"{}"]
    return b"\r\n".join(lines)


def announcement(kind: str, **data: Any) -> bytes:
    return json.dumps({"type": kind, "data": {"queue_name": "q", "job_id": "j", **data}}).encode()


class Quick(Reconnects):
    """Decides as always but waits next to nothing, and tells what happened."""

    def __init__(self, told: asyncio.Queue[object]) -> None:
        super().__init__(random=lambda: 0.0, first=0.02, cap=0.02)
        self._told = told

    def ended(self, lasted: float) -> float:
        self._told.put_nowait("ended")
        return super().ended(lasted)

    def failed(self, lasted: float = 0.0) -> float:
        self._told.put_nowait("failed")
        return super().failed(lasted)

    def refused(self, status: int, retry_after: float | None = None) -> float:
        self._told.put_nowait(status)
        return super().refused(status, retry_after)


class Listening:
    """A `Wakeups` at work, and what it tells: True, False, "hint", and what `Quick` adds."""

    def __init__(self, url: str, key: str = "sp_test_any-key-at-all", **options: Any) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.wakeups = Wakeups(
            ClientConfig(api_key=key, base_url=url),
            "q",
            wake=lambda _: self.told.put_nowait("hint"),
            healthy=self.told.put_nowait,
            reconnects=Quick(self.told),
            **options,
        )
        self.task = asyncio.create_task(self.wakeups.run())

    async def next(self) -> object:
        async with asyncio.timeout(HOPELESS):
            return await self.told.get()

    async def until(self, wanted: object) -> None:
        while await self.next() != wanted:
            pass

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def listening(
    url: str, key: str = "sp_test_any-key-at-all", **options: Any
) -> AsyncIterator[Listening]:
    one = Listening(url, key, **options)
    try:
        yield one
    finally:
        await one.stop()


def serving(*answers: bytes | Callable[[Connection], object]) -> Callable[[Connection], None]:
    """Give each connection the next answer, and the last one to all that follow."""
    left = list(answers)

    def handle(connection: Connection) -> None:
        connection.read_request()
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, bytes):
            connection.send(answer)
        else:
            answer(connection)

    return handle


def opened(connection: Connection) -> None:
    connection.send(HEAD)
    connection.hang()


# --- against a real server ----------------------------------------------------------------------------------


async def test_a_new_job_is_hinted(server: EmbeddedServer, outside: Outside) -> None:
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        outside.enqueue()
        assert await one.next() == "hint"


async def test_a_job_that_is_retried_by_hand_is_hinted(server: EmbeddedServer, outside: Outside) -> None:
    job_id = outside.enqueue(max_retries=0)
    lease = claim(outside)
    outside.http.post(f"/jobs/{job_id}/fail", json={**lease, "error": "no"}).raise_for_status()
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        outside.http.post(f"/jobs/{job_id}/retry").raise_for_status()
        assert await one.next() == "hint"


async def test_a_job_that_failed_is_hinted_when_it_is_due(server: EmbeddedServer, outside: Outside) -> None:
    job_id = outside.enqueue()
    lease = claim(outside)
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        outside.http.post(f"/jobs/{job_id}/fail", json={**lease, "error": "no"}).raise_for_status()
        assert await one.next() == "hint"
        assert claim(outside)["lease_id"] != lease["lease_id"]


async def test_other_queues_are_not_listened_to(server: EmbeddedServer, outside: Outside) -> None:
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        outside.enqueue_many(50, "another")
        outside.enqueue("q")
        assert await one.next() == "hint"
        await one.stop()
        assert one.told.get_nowait() is False
        assert one.told.empty()


async def test_many_new_jobs_are_few_hints(server: EmbeddedServer, outside: Outside) -> None:
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        outside.enqueue_many(100)
        assert await one.next() == "hint"
        outside.enqueue_many(100)
        await one.until("hint")
        await one.stop()
        # One for each batch, or a few where a batch came in pieces.
        assert one.told.qsize() < 10


async def test_a_restarted_server_is_found_again(server: EmbeddedServer, outside: Outside) -> None:
    async with listening(server.url, server.api_key) as one:
        assert [await one.next(), await one.next()] == [True, "hint"]
        await asyncio.to_thread(server.stop)
        await one.until(False)
        await one.until("failed")
        server.start()
        await one.until(True)
        assert await one.next() == "hint"
        outside.enqueue()
        assert await one.next() == "hint"


async def test_a_wrong_key_means_polling(server: EmbeddedServer) -> None:
    async with listening(server.url, "sp_test_not-the-key-of-this-server") as one:
        assert [await one.next(), await one.next()] == [401, 401]


def claim(outside: Outside) -> dict[str, str]:
    """Claim the one job; what acks of it must carry."""
    worker = outside.http.post("/workers/register", json={"queue_name": "q", "hostname": "h"}).json()["id"]
    answer = outside.http.post("/jobs/claim", json={"queue_name": "q", "worker_id": worker, "limit": 1})
    (job,) = answer.json()["jobs"]
    return {"worker_id": worker, "lease_id": job["lease_id"]}


# --- against servers that misbehave -------------------------------------------------------------------------


async def test_the_request() -> None:
    with RawServer(serving(opened)) as raw:
        async with listening(raw.url) as one:
            await one.until("hint")
        head = raw.requests[0].decode().lower()
    assert head.startswith("get /api/v1/events?queue=q&events=job.created%2cjob.status%2cjob.failed http/1.1")
    for header in (
        "accept: text/event-stream",
        "accept-encoding: identity",
        "authorization: bearer sp_test_any-key-at-all",
    ):
        assert f"\r\n{header}\r\n" in head
    assert head.count("\r\naccept: ") == 1


@pytest.mark.parametrize(
    "answer",
    [refusal(404), refusal(403), HEAD.replace(b"text/event-stream", b"text/html")],
    ids=["404", "403", "html"],
)
async def test_a_server_without_the_stream_is_left_alone(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with RawServer(serving(answer)) as raw, caplog.at_level("INFO", "spooled.worker"):
        async with listening(raw.url) as one:
            await one.next()
            assert one.told.empty()
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "polling, next try in 450.0 s" in record.getMessage()


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_passing_refusal_is_tried_again(status: int) -> None:
    with RawServer(serving(refusal(status), refusal(status), opened)) as raw:
        async with listening(raw.url) as one:
            assert [await one.next() for _ in range(4)] == [status, status, True, "hint"]


async def test_the_servers_time_to_wait_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: asyncio.Queue[float | None] = asyncio.Queue()
    monkeypatch.setattr(Quick, "refused", lambda self, status, wait=None: waits.put_nowait(wait) or 1000.0)
    with RawServer(serving(refusal(429, b"Retry-After: 7"))) as raw:
        async with listening(raw.url), asyncio.timeout(HOPELESS):
            assert await waits.get() == 7


async def test_a_silent_stream_is_given_up_and_opened_again() -> None:
    with RawServer(serving(opened)) as raw:
        async with listening(raw.url, silence=0.2) as one:
            assert [await one.next() for _ in range(5)] == [True, "hint", "failed", False, True]


async def test_a_stream_that_says_nothing_at_all_is_not_healthy() -> None:
    with RawServer(serving(lambda connection: connection.hang())) as raw:
        async with listening(raw.url, silence=0.2) as one:
            assert [await one.next(), await one.next()] == ["failed", "failed"]


async def test_headers_alone_are_not_healthy() -> None:
    def headers_only(connection: Connection) -> None:
        connection.send(HEAD.removesuffix(b": connected\n\n"))
        connection.hang()

    with RawServer(serving(headers_only)) as raw:
        async with listening(raw.url, silence=0.2) as one:
            assert [await one.next(), await one.next()] == ["failed", "failed"]


async def test_a_stream_cut_in_the_middle_of_a_chunk_is_opened_again() -> None:
    chunked = HEAD.replace(b"connection: close", b"transfer-encoding: chunked").replace(
        b": connected\n\n", b"ff\r\n: connected\n\n"
    )
    with RawServer(serving(chunked, opened)) as raw:
        async with listening(raw.url) as one:
            assert [await one.next() for _ in range(6)] == [True, "hint", "failed", False, True, "hint"]


async def test_what_is_not_for_us_is_no_hint() -> None:
    noise = [
        announcement("JobCreated", queue_name="another"),
        announcement("JobCompleted"),
        announcement("SomethingNew"),
        b"no JSON",
        b"\xff\xfe",
        b'{"type":"JobCreated"}',
        b"[]",
    ]
    body = HEAD + b"".join(b"event: job.created\ndata: " + line + b"\n\n" for line in noise)
    with RawServer(serving(body)) as raw:
        async with listening(raw.url) as one:
            assert [await one.next() for _ in range(4)] == [True, "hint", "ended", False]


async def test_the_log_has_a_line_when_it_is_lost_and_one_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = serving(HEAD, refusal(503), b"", refusal(500), opened)
    with RawServer(handle) as raw, caplog.at_level("INFO", "spooled.worker"):
        async with listening(raw.url) as one:
            await one.until(False)
            await one.until(True)
    lost, back = (record.getMessage() for record in caplog.records)
    assert lost.startswith("queue q: new jobs are not announced (the server ended the stream); polling")
    assert back == "queue q: new jobs are announced again"


async def test_the_end_of_a_long_stream_is_quiet(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wakeups, "STEADY", 0.0)
    with RawServer(serving(HEAD, opened)) as raw, caplog.at_level("INFO", "spooled.worker"):
        async with listening(raw.url) as one:
            assert [await one.next() for _ in range(6)] == [True, "hint", "ended", False, True, "hint"]
    assert not caplog.records


async def test_cancelling_closes_the_connection() -> None:
    gone = threading.Event()

    def watch(connection: Connection) -> None:
        connection.send(HEAD)
        if connection.read_request() is None:
            gone.set()

    with RawServer(serving(watch)) as raw:
        async with listening(raw.url) as one:
            await one.until("hint")
        assert await asyncio.to_thread(gone.wait, HOPELESS)
        assert one.task.cancelled()


# --- a transport of the user's ------------------------------------------------------------------------------


class Own(httpx.AsyncHTTPTransport):
    used = 0
    closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.used += 1
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


async def test_a_users_transport_is_used_and_left_open(server: EmbeddedServer, outside: Outside) -> None:
    async with Own() as transport:
        async with listening(server.url, server.api_key, transport=transport) as one:
            assert [await one.next(), await one.next()] == [True, "hint"]
            outside.enqueue()
            assert await one.next() == "hint"
        assert transport.used == 1
        assert not transport.closed


async def test_a_transport_with_a_bug_means_polling(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.INFO, "spooled.worker"):
        async with listening("http://127.0.0.1:1", transport=httpx.MockTransport(broken)) as one:
            async with asyncio.timeout(HOPELESS):
                await one.task
            assert one.told.empty()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "polling from now on" in record.getMessage()


def test_which_transports_can_be_listened_with() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert can_listen(None, None)
        assert can_listen(None, loop)
        assert can_listen(httpx.AsyncHTTPTransport(), None)
        assert not can_listen(httpx.AsyncHTTPTransport(), loop)
        assert not can_listen(httpx.HTTPTransport(), None)
    finally:
        loop.close()


# --- what is decided without a network ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "seconds"),
    [
        (announcement("JobCreated"), 0),
        (announcement("JobStatusChange", old_status="deadletter", new_status="pending"), 0),
        (announcement("JobStatusChange", old_status="processing", new_status="pending"), None),
        (announcement("JobStatusChange", old_status="pending", new_status="cancelled"), None),
        (announcement("JobFailed", retry_count=1), 1.5),
        (announcement("JobFailed", retry_count=6), 32.5),
        (announcement("JobFailed", retry_count=7), 60.5),
        (announcement("JobFailed", retry_count=10**6), 60.5),
        (announcement("JobFailed", retry_count=0), None),
    ],
)
def test_what_an_event_promises(event: bytes, seconds: float | None) -> None:
    assert claimable_in(event) == (None if seconds is None else ("q", seconds))


@given(st.floats(0, 1e6), st.sampled_from([0.01, 0.25]), st.floats(0, 1))
def test_a_hint_is_never_early_and_at_most_a_beat_late(when: float, beat: float, phase: float) -> None:
    moment = next_beat(when, beat, phase)
    assert when <= moment <= when + beat + 1e-6
    assert next_beat(moment, beat, phase) <= moment + beat + 1e-6


@given(st.lists(st.sampled_from(["failed", "ended", 401, 429, 500, 503]), min_size=1), st.floats(0, 0.999))
def test_troubles_in_a_row_back_off_up_to_a_cap(troubles: list[str | int], chance: float) -> None:
    decide = Reconnects(random=lambda: chance)
    delays = []
    for trouble in troubles:
        if trouble == "failed":
            delays.append(decide.failed())
        elif trouble == "ended":
            delays.append(decide.ended(STEADY / 2))
        else:
            delays.append(decide.refused(int(trouble)))
    assert delays == sorted(delays)
    assert 0.5 <= delays[0] <= 1.0
    assert delays[-1] <= LONGEST_DELAY


@pytest.mark.parametrize("trouble", ["failed", "ended"])
def test_a_steady_stream_makes_the_next_trouble_the_first(trouble: str) -> None:
    decide = Reconnects(random=lambda: 0.5)
    for _ in range(20):
        decide.failed()
    assert getattr(decide, trouble)(STEADY) <= 1.0
    assert decide.failed() < 2.0


@given(st.floats(0, 3600), st.integers(0, 20))
def test_a_time_to_wait_that_the_server_names_is_never_cut(retry_after: float, earlier: int) -> None:
    decide = Reconnects()
    for _ in range(earlier):
        decide.failed()
    assert retry_after <= decide.refused(429, retry_after) <= retry_after + 1.0


@pytest.mark.parametrize("status", [200, 204, 302, 400, 403, 404, 405, 410])
def test_a_refusal_for_good_is_not_asked_about_for_minutes(status: int) -> None:
    for chance in (0.0, 0.999):
        delay = Reconnects(random=lambda chance=chance: chance).refused(status)
        assert 0.75 * HOPELESS_DELAY <= delay <= 1.25 * HOPELESS_DELAY
