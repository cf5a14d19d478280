"""New jobs are announced to a worker without being asked for: when it listens, and what it does where it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.clock import ManualClock
from spooled.testing import drain
from spooled.worker import SpooledWorker, WorkerGroup, _pacing
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import Answer, FaultProxy
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=ManualClock()) as running:
        yield running


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture
def through(server: EmbeddedServer, proxy: FaultProxy) -> Iterator[SpooledClient]:
    with SpooledClient(server.api_key, base_url=proxy.url) as client:
        yield client


@pytest.fixture
def hardly_asks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a worker that asks an empty queue once an hour, from the first time on."""
    monkeypatch.setattr(_pacing, "FIRST_PAUSE", 3600.0)
    return {"poll_interval": 3600.0}


def nothing(ctx: Any) -> None: ...


@both
@pytest.mark.parametrize("options", [{}, {"wakeups": "auto"}, {"wakeups": True}])
def test_a_new_job_is_found_though_the_worker_hardly_asks(
    kind: str, through: SpooledClient, outside: Outside, hardly_asks: dict[str, Any], options: dict[str, Any]
):
    with Running(kind, through, nothing, **hardly_asks, **options) as running:
        wait_until(lambda: running.worker.health.last_claim_at)
        for _ in range(3):
            job_id = outside.enqueue()
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")


def test_every_worker_of_a_group_hears_of_its_own_queue(
    through: SpooledClient, proxy: FaultProxy, outside: Outside, hardly_asks: dict[str, Any]
):
    workers = [SpooledWorker(through, name, **hardly_asks) for name in "ab"]
    for worker in workers:
        worker.process(nothing)
    with WorkerGroup(*workers):
        wait_until(lambda: all(worker.health.last_claim_at for worker in workers))
        for name in "abab":
            job_id = outside.enqueue(name)
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")
    assert proxy.seen["events"] == 2


def test_what_becomes_due_by_time_is_found_by_asking(
    through: SpooledClient,
    server: EmbeddedServer,
    proxy: FaultProxy,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(_pacing, "PUSH_PAUSE", 3600.0)
    job_id = outside.enqueue(scheduled_at="2099-01-01T00:00:00Z")
    with Running("threads", through, nothing):
        wait_until(lambda: proxy.seen["events"])
        now = proxy.seen["claim"]
        wait_until(lambda: proxy.seen["claim"] > now + 5)
        server.advance(200 * 365 * 86400)
        wait_until(lambda: outside.status(job_id) == "completed")


def test_without_wakeups_nothing_is_listened_to(through: SpooledClient, proxy: FaultProxy, outside: Outside):
    with Running("threads", through, nothing, wakeups=False):
        job_id = outside.enqueue()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert not proxy.seen["events"]


@pytest.mark.parametrize("way", ["burst", "drain", "group"])
def test_a_run_that_ends_when_nothing_is_left_opens_no_stream(
    way: str, through: SpooledClient, proxy: FaultProxy, outside: Outside
):
    outside.enqueue_many(3)
    worker = SpooledWorker(through, "q")
    worker.process(nothing)
    match way:
        case "burst":
            worker.start(burst=True)
        case "drain":
            drain(worker)
        case "group":
            WorkerGroup(worker).start(burst=True)
    assert outside.counts()["completed"] == 3
    assert not proxy.seen["events"]


@both
@pytest.mark.parametrize("status", [401, 403, 404, 405, 429, 500, 503])
def test_where_the_stream_is_refused_the_worker_polls_and_says_so_once(
    kind: str,
    status: int,
    through: SpooledClient,
    proxy: FaultProxy,
    outside: Outside,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG, "spooled")
    refused = proxy.on("events", Answer(status))
    with Running(kind, through, nothing) as running:
        wait_until(lambda: refused.hits)
        for _ in range(3):
            job_id = outside.enqueue()
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")
        if status >= 429:
            wait_until(lambda: refused.hits >= 2)
    assert not running.of("error")
    lines = [record for record in caplog.records if "announced" in record.getMessage()]
    assert [record.levelno for record in lines if record.levelno > logging.DEBUG] == [logging.INFO]


def test_a_transport_of_the_users_gives_up_no_connection_for_a_stream(
    server: EmbeddedServer, proxy: FaultProxy, outside: Outside
):
    # With its only connection in a stream, this one could not claim any more.
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    client = AsyncSpooledClient(server.api_key, base_url=proxy.url, transport=transport)
    worker = SpooledWorker(client, "q", poll_interval=0.05)
    done = threading.Event()
    worker.process(lambda ctx: done.set())
    with worker:
        job_id = outside.enqueue()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert not proxy.seen["events"]
