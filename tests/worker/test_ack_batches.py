"""Acks in batches from the worker's side: what the server offers is used, and each job keeps an answer of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from spooled import SpooledClient
from spooled._async._session import AsyncSession
from spooled._http._messages import Request as HttpRequest
from spooled._http._messages import Response
from spooled.config import ClientConfig
from spooled.worker._lease_table import Lease
from spooled.worker._options import WorkerOptions
from spooled.worker._pacing import BatchPacer, Tempo
from spooled.worker._requests import WorkerRequests
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import Answer, FaultProxy, Request
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture
def through(server: EmbeddedServer, proxy: FaultProxy) -> Iterator[SpooledClient]:
    with SpooledClient(server.api_key, base_url=proxy.url) as client:
        yield client


def is_batch(request: Request) -> bool:
    return b'"completes":[' in request.body


class Gate:
    """Holds the handlers of all jobs until it is opened, so that they end together."""

    def __init__(self) -> None:
        self.entered: set[str] = set()
        self.open = threading.Event()

    def __call__(self, ctx: Any) -> str:
        self.entered.add(ctx.job_id)
        self.open.wait(HOPELESS)
        return str(ctx.job_id)


@both
def test_what_ends_together_is_acked_together(
    kind: str, through: SpooledClient, proxy: FaultProxy, outside: Outside
):
    outside.enqueue_many(300)
    with Running(kind, through, lambda ctx: None, concurrency=20):
        wait_until(lambda: outside.counts()["completed"] == 300)
    requests = proxy.seen["complete"] + proxy.seen["claim"]
    assert requests < 300 * 0.5, proxy.seen


@pytest.mark.single_acks
def test_a_server_that_offers_nothing_gets_one_request_for_each(
    through: SpooledClient, proxy: FaultProxy, outside: Outside
):
    batches = proxy.on(is_batch, Answer(500))
    outside.enqueue_many(30)
    with Running("threads", through, lambda ctx: None, concurrency=10):
        wait_until(lambda: outside.counts()["completed"] == 30)
    assert (batches.hits, proxy.seen["complete"]) == (0, 30)


def test_a_job_that_was_lost_in_the_middle_harms_no_other(through: SpooledClient, outside: Outside):
    ids = outside.enqueue_many(9)
    gate = Gate()
    with Running("threads", through, gate, concurrency=9, heartbeat_fraction=0.8) as running:
        wait_until(lambda: len(gate.entered) == 9)
        job = outside.job(ids[4])
        ack = {"worker_id": job["assigned_worker_id"], "lease_id": job["lease_id"], "result": "elsewhere"}
        assert outside.http.post(f"/jobs/{ids[4]}/complete", json=ack).status_code == 200
        gate.open.set()
        wait_until(lambda: outside.counts()["completed"] == 9 and not running.worker.active_job_count)
        (lost,) = running.of("job:lease_lost")
    assert lost.job_id == ids[4]
    assert [outside.job(one)["result"] for one in ids] == [*ids[:4], "elsewhere", *ids[5:]]


def test_large_results_go_alone_and_too_large_ones_fail_alone(
    through: SpooledClient, proxy: FaultProxy, outside: Outside
):
    sizes = [10, 1_500_000, 3_000_000, 10]
    ids = [outside.enqueue(payload=size, max_retries=0) for size in sizes]
    with Running("threads", through, lambda ctx: "x" * ctx.payload, concurrency=4):
        wait_until(lambda: outside.counts()["completed"] == 3 and outside.counts()["deadletter"] == 1)
    assert [outside.status(one) for one in ids] == ["completed", "completed", "deadletter", "completed"]
    assert "its result was refused" in outside.job(ids[2])["last_error"]


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        pytest.param(Answer(404, body='{"code":"NOT_FOUND","message":"No route"}'), 1, id="no such endpoint"),
        pytest.param(Answer(405, body="<html>"), 1, id="the page of a proxy"),
        pytest.param(Answer(400, body='{"code":"VALIDATION_ERROR","message":"no"}'), 0, id="unreadable"),
    ],
)
def test_what_is_refused_as_a_batch_is_sent_one_by_one(
    answer: Answer,
    lines: int,
    through: SpooledClient,
    proxy: FaultProxy,
    outside: Outside,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "spooled")
    refused = proxy.on(is_batch, answer)
    outside.enqueue_many(40)
    with Running("threads", through, lambda ctx: None, concurrency=5) as running:
        wait_until(lambda: outside.counts()["completed"] == 40)
        assert not running.of("job:lease_lost")
    assert refused.hits >= 1
    told = [one for one in caplog.records if "no acks in batches any more" in one.getMessage()]
    assert len(told) == lines


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(200, body='{"completes":[],"fails":[],"claim":null}'), id="fewer answers"),
        pytest.param(Answer(200, body="<html>"), id="the page of a proxy"),
        pytest.param(Answer(503), id="503"),
        pytest.param(Answer(429, "retry-after: 0\r\n"), id="429"),
    ],
)
def test_what_is_no_answer_is_tried_again(
    answer: Answer, through: SpooledClient, proxy: FaultProxy, outside: Outside
):
    broken = proxy.on(is_batch, answer, times=2)
    ids = outside.enqueue_many(10)
    runs: list[str] = []
    with Running("threads", through, lambda ctx: runs.append(ctx.job_id), concurrency=10) as running:
        wait_until(lambda: outside.counts()["completed"] == 10)
        assert not running.of("job:lease_lost")
    assert broken.hits == 2
    assert sorted(runs) == sorted(ids)


# --- the requests by themselves -----------------------------------------------------------------------------


class Api:
    """A transport that answers when it is told to."""

    def __init__(self, *, alone: Exception | None = None) -> None:
        self.batches: list[int] = []
        self.open = asyncio.Event()
        self.refuse: bytes | None = None
        self._alone = alone

    async def send(self, request: HttpRequest) -> Response:
        if request.path.endswith("/register"):
            return Response(200, {}, b'{"id":"w","settle":{"max":100}}')
        if request.path.endswith("/complete"):
            if self._alone is not None:
                raise self._alone
            return Response(200, {}, b"{}")
        assert request.path.endswith("/settle")
        assert request.body is not None
        count = len(json.loads(request.body)["completes"])
        self.batches.append(count)
        await self.open.wait()
        if self.refuse is not None:
            return Response(413, {}, self.refuse)
        return Response(200, {}, json.dumps({"completes": [{"status": 200}] * count}).encode())

    async def aclose(self) -> None:
        """Nothing to close."""


def begin(requests: WorkerRequests, count: int) -> list[asyncio.Task[None]]:
    leases = [Lease(f"j{n}", "l", "w", 30.0, 30.0) for n in range(count)]
    return [asyncio.create_task(requests.send(lease, b"null")) for lease in leases]


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def of(api: Api) -> WorkerRequests:
    requests = WorkerRequests(WorkerOptions("q"), Tempo(10, 30.0))
    requests.open(AsyncSession(ClientConfig(api_key="sp_test_0123456789"), api))
    await requests.register()
    return requests


async def test_a_full_batch_goes_out_while_another_is_under_way():
    api = Api()
    requests = await of(api)
    first = begin(requests, 1)
    await turns()
    more = begin(requests, 60)
    await turns()
    assert api.batches == [1]
    more += begin(requests, 69)
    await turns()
    assert api.batches == [1, 100]
    api.open.set()
    await asyncio.gather(*first, *more)
    assert sum(api.batches) == 130


async def test_closing_sends_nothing_more_and_leaves_nothing_behind():
    api = Api()
    requests = await of(api)
    tasks = begin(requests, 3)
    await turns()
    tasks += begin(requests, 3)
    await turns()
    for task in tasks:
        task.cancel()
    await requests.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    await turns()
    assert api.batches == [3]
    assert not [one for one in asyncio.all_tasks() if "_send_together" in repr(one)]


async def test_whatever_an_attempt_raises_reaches_who_has_sent_it():
    api = Api(alone=RuntimeError("a bug"))
    api.refuse = b'{"code": "PAYLOAD_TOO_LARGE", "message": "too large"}'
    requests = await of(api)
    tasks = begin(requests, 3)
    api.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in results] == ["a bug"] * 3


def test_the_pace_of_batches():
    pacer = BatchPacer(full=5, patience=1.0)
    assert pacer.may_send(0.0, 1)
    pacer.sent(0.0)
    assert not pacer.may_send(0.5, 4)
    assert pacer.may_send(0.5, 5)
    assert pacer.patience(0.4) == pytest.approx(0.6)
    assert pacer.may_send(1.0, 1)
    pacer.sent(1.0)
    pacer.answered()
    assert not pacer.may_send(1.5, 1)
    pacer.answered()
    assert pacer.may_send(1.5, 1)
