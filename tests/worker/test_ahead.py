"""Claims ahead of free slots, and acks that hold none: on a way that takes its time, with a proxy between."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.clock import ManualClock
from spooled.worker import JobContext, SpooledWorker
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import Answer, Delay, FaultProxy, Hang, Reset
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)

FAR = 0.25
"""Seconds of a round trip: far more than a handler that does nothing takes, also on a busy machine."""


@pytest.fixture(params=[True, False], ids=["batches", "single"])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=ManualClock(), ack_batches=request.param) as running:
        yield running


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture
def far(server: EmbeddedServer, proxy: FaultProxy) -> Iterator[SpooledClient]:
    with SpooledClient(server.api_key, base_url=proxy.url) as client:
        yield client


class Gated:
    """A handler that waits for `open` when the payload says so, and knows how many run and have run."""

    def __init__(self, *, heeds_signal: bool = True) -> None:
        self._heeds_signal = heeds_signal
        self.open = threading.Event()
        self.runs: Counter[str] = Counter()
        self.waits: list[str] = []
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, ctx: JobContext[Any]) -> None:
        with self._lock:
            self.runs[ctx.job_id] += 1
            self._now += 1
            self.most = max(self.most, self._now)
        if isinstance(ctx.payload, dict) and ctx.payload.get("wait"):
            self.waits.append(ctx.job_id)
            while not (self.open.wait(0.01) or (self._heeds_signal and ctx.signal.is_set())):
                pass
        with self._lock:
            self._now -= 1


@both
def test_a_long_way_costs_few_claims_and_no_more_handlers_than_there_are_slots(
    kind: str, proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    proxy.on(lambda request: request.kind in ("claim", "complete"), Delay(FAR))
    ids = outside.enqueue_many(200)
    now: list[str] = []
    most = [0]
    runs: Counter[str] = Counter()

    def handle(ctx: JobContext[Any]) -> None:
        now.append(ctx.job_id)
        most[0] = max(most[0], len(now))
        runs[ctx.job_id] += 1
        now.remove(ctx.job_id)

    with Running(kind, far, handle, concurrency=2) as running:
        wait_until(lambda: outside.counts()["completed"] == 200)
        wait_until(lambda: not running.worker.active_job_count)
        claims = proxy.seen["claim"]
    assert runs == Counter(ids)
    assert most[0] <= 2
    # Without jobs ahead, two slots take a hundred claims.
    assert claims < 50


def test_what_is_claimed_ahead_keeps_its_lease_and_begins_in_order(
    proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    proxy.on("claim", Delay(FAR))
    handler, order = Gated(), list[int]()

    def handle(ctx: JobContext[Any]) -> None:
        order.append(ctx.payload["n"])
        handler(ctx)

    with Running("threads", far, handle, concurrency=1, lease_duration=5, heartbeat_fraction=0.05) as running:
        ahead = get_ahead(running, handler, outside)
        beats = proxy.seen["heartbeat"]
        wait_until(lambda: proxy.seen["heartbeat"] >= beats + 3 * ahead)
        assert outside.counts()["processing"] == ahead + 1
        handler.open.set()
        wait_until(lambda: not outside.counts()["processing"] and not outside.counts()["pending"])
    assert order == sorted(order)
    assert set(handler.runs.values()) == {1}


def get_ahead(running: Running, handler: Gated, outside: Outside) -> int:
    """Have a worker with one slot run one job that waits, with others behind it; how many."""
    quick = [{"n": n} for n in range(60)]
    payloads = [*quick, *({"n": n, "wait": True} for n in range(60, 160))]
    for start in range(0, len(payloads), 80):
        jobs = [{"payload": payload} for payload in payloads[start : start + 80]]
        outside.http.post("/jobs/bulk", json={"queue_name": "q", "jobs": jobs}).raise_for_status()
    wait_until(lambda: handler.waits and outside.counts()["completed"] == 60)
    wait_until(lambda: running.worker.active_job_count == outside.counts()["processing"])
    ahead = running.worker.active_job_count - 1
    assert len(handler.waits) == 1
    # Events come from a thread of their own.
    wait_until(lambda: running.names().count("job:started") == sum(handler.runs.values()))
    assert ahead > 0
    return ahead


@both
def test_what_was_claimed_ahead_and_has_not_begun_is_given_back_at_the_deadline(
    kind: str, proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    proxy.on("claim", Delay(FAR))
    handler = Gated()

    def handle(ctx: JobContext[Any]) -> Any:
        if kind == "threads" or not ctx.payload.get("wait"):
            return handler(ctx)
        # A coroutine that blocked its loop would block `stop`, too.
        handler.runs[ctx.job_id] += 1
        handler.waits.append(ctx.job_id)
        return asyncio.sleep(3600)

    with Running(kind, far, handle, concurrency=1) as running:
        ahead = get_ahead(running, handler, outside)
        running.stop(timeout=0)
    begun = set(handler.runs)
    jobs = outside.http.get("/jobs", params={"queue_name": "q", "limit": 100, "status": "completed"}).json()
    given_back = [
        job
        for job in (outside.job(job["id"]) for job in jobs)
        if job["result"] and job["result"]["spooled"]["outcome"] == "released"
    ]
    assert len(given_back) == ahead + 1
    assert len([job for job in given_back if job["id"] not in begun]) == ahead
    for job in given_back:
        successor = outside.job(job["result"]["spooled"]["successor"])
        assert (successor["status"], successor["retry_count"]) == ("pending", 0)
    assert running.of("stopped")[0].reason == "deadline"


def held_by(running: Running) -> set[str]:
    return {event.job_id for event in running.of("job:claimed")}


def test_a_lease_that_is_lost_before_its_job_has_begun_costs_no_run(
    server: EmbeddedServer, proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    proxy.on("claim", Delay(FAR))
    handler = Gated(heeds_signal=False)  # or the next ones begin before their own heartbeats tell
    with Running("threads", far, handler, concurrency=1, heartbeat_fraction=0.01) as running:
        ahead = get_ahead(running, handler, outside)
        stopped = proxy.on("claim", Reset())
        wait_until(lambda: len(held_by(running) - set(handler.runs)) == ahead)
        held = held_by(running) - set(handler.runs)
        server.advance(31)
        wait_until(lambda: len(running.of("job:lease_lost")) == ahead + 1)
        assert not held & set(handler.runs)
        wait_until(lambda: running.worker.active_job_count == 0)
        handler.open.set()
        proxy.off(stopped)
        wait_until(lambda: not outside.counts()["processing"] and not outside.counts()["pending"])
    assert {handler.runs[job_id] for job_id in held} == {1}


def test_long_jobs_are_left_to_idle_workers(
    server: EmbeddedServer, proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    """A worker that has learnt how far away its server is, and that its handlers are quick, meets long ones."""
    proxy.on("claim", Delay(FAR))
    busy, idle = Gated(), Gated()
    with (
        Running("threads", far, busy, concurrency=2) as first,
        SpooledClient(server.api_key, base_url=server.url) as near,
    ):
        outside.enqueue_many(150)
        wait_until(lambda: outside.counts()["completed"] == 150 and not first.worker.active_job_count)
        for _ in range(4):
            outside.enqueue(payload={"wait": True})
        wait_until(lambda: len(busy.waits) == 2)
        with Running("threads", near, idle, concurrency=2):
            wait_until(lambda: len(idle.waits) == 2)
            assert first.worker.active_job_count == 2
            busy.open.set()
            idle.open.set()
            wait_until(lambda: outside.counts()["completed"] == 154)


@both
def test_a_server_that_takes_no_acks_is_not_asked_for_more_and_more_jobs(
    kind: str, request: pytest.FixtureRequest, proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    batches = request.node.callspec.params["server"]
    proxy.on("claim", Delay(0.05))
    outside.enqueue_many(400)
    broken = proxy.on("complete", Answer(503, body='{"code":"INTERNAL_ERROR","message":"down"}'))
    handler = Gated()
    with Running(kind, far, handler, concurrency=4) as running:
        wait_until(lambda: broken.hits >= (10 if batches else 60))
        assert running.worker.active_job_count <= 2 * 4
        assert sum(handler.runs.values()) <= 2 * 4
        proxy.off(broken)
        wait_until(lambda: outside.counts()["completed"] == 400)
    assert set(handler.runs.values()) == {1}


@pytest.mark.parametrize("server", [False], indirect=True, ids=["single"])
def test_acks_that_nothing_answers_hold_no_slot(proxy: FaultProxy, far: SpooledClient, outside: Outside):
    silent = proxy.on("complete", Hang(forward=True), times=1)
    first = outside.enqueue()
    handler = Gated()
    with Running("threads", far, handler, concurrency=1) as running:
        wait_until(lambda: silent.hits and outside.status(first) == "completed")
        second = outside.enqueue()
        wait_until(lambda: outside.status(second) == "completed")
        wait_until(lambda: running.worker.active_job_count == 1)
        running.request_stop()


@pytest.mark.parametrize("limit", [1, 59, 150])
def test_no_more_than_max_jobs_are_claimed_ahead(
    proxy: FaultProxy, far: SpooledClient, outside: Outside, limit: int
):
    proxy.on("claim", Delay(0.05))
    outside.enqueue_many(200)
    worker = SpooledWorker(far, "q", concurrency=2)
    worker.process(lambda ctx: None)
    worker.start(max_jobs=limit)
    assert outside.counts()["completed"] == limit
    assert outside.counts()["pending"] == 200 - limit


def test_a_burst_ends_when_everything_is_done(proxy: FaultProxy, far: SpooledClient, outside: Outside):
    proxy.on(lambda request: True, Delay(0.05))
    outside.enqueue_many(150)
    handler = Gated()
    worker = SpooledWorker(far, "q", concurrency=2, poll_interval=60)
    worker.process(handler)
    worker.start(burst=True)
    assert sum(handler.runs.values()) == outside.counts()["completed"] == 150
    assert handler.most <= 2


# --- answers that name a job more than once -------------------------------------------------------------------


def claimed_outside(outside: Outside, worker_id: str) -> dict[str, Any]:
    body = {"queue_name": "q", "worker_id": worker_id, "limit": 1}
    [job] = outside.http.post("/jobs/claim", json=body).json()["jobs"]
    return dict(job)


def answer(*jobs: dict[str, Any]) -> Answer:
    return Answer(200, "content-type: application/json\r\n", json.dumps({"jobs": jobs}))


@both
def test_a_job_that_stands_twice_in_an_answer_runs_once(
    kind: str, proxy: FaultProxy, far: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    job_id = outside.enqueue()
    job = claimed_outside(outside, "w1")
    proxy.on("claim", answer(job, job), times=1)
    handler = Gated()
    with Running(kind, far, handler, worker_id="w1") as running:
        wait_until(lambda: outside.status(job_id) == "completed" and not running.worker.active_job_count)
    assert handler.runs == {job_id: 1}
    assert running.names(job_id) == ["job:claimed", "job:started", "job:completed"]
    assert "1 of them distinct" in caplog.text


def test_a_job_that_comes_again_under_the_lease_that_it_has_here_runs_once(
    proxy: FaultProxy, far: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    job_id = outside.enqueue(payload={"wait": True})
    job = claimed_outside(outside, "w1")
    again = proxy.on("claim", answer(job), times=3)
    handler = Gated()
    with Running("threads", far, handler, worker_id="w1", concurrency=5) as running:
        wait_until(lambda: again.hits == 3)
        wait_until(lambda: caplog.text.count("runs once") >= 2)
        assert running.worker.active_job_count == 1
        handler.open.set()
        wait_until(lambda: outside.status(job_id) == "completed" and not running.worker.active_job_count)
    assert handler.runs == {job_id: 1}


def test_of_two_leases_for_one_job_the_last_counts(proxy: FaultProxy, far: SpooledClient, outside: Outside):
    job_id = outside.enqueue()
    job = claimed_outside(outside, "w1")
    proxy.on("claim", answer({**job, "lease_id": "an-older-one"}, job), times=1)
    handler = Gated()
    with Running("threads", far, handler, worker_id="w1"):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert handler.runs == {job_id: 1}


def test_a_job_that_stands_twice_counts_once_for_max_jobs(
    proxy: FaultProxy, far: SpooledClient, outside: Outside
):
    outside.enqueue_many(3)
    job = claimed_outside(outside, "w1")
    proxy.on("claim", answer(job, job), times=1)
    worker = SpooledWorker(far, "q", concurrency=2, worker_id="w1", poll_interval=0.05)
    worker.process(lambda ctx: None)
    worker.start(max_jobs=2)
    assert outside.counts()["completed"] == 2
