"""What probes see, and what the engine does about a server that forgets, limits, or is slow."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled import SpooledClient
from spooled.worker import JobContext, Middleware, SpooledWorker, WorkerHealth, WorkerState, _launch
from spooled.worker.middleware import AckInfo, ClaimInfo
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


@both
def test_health_follows_the_worker(
    kind: str, server: EmbeddedServer, client: SpooledClient, outside: Outside
):
    running = Running(kind, client, lambda ctx: None)
    assert (running.worker.health.state, running.worker.health.is_ready()) == (WorkerState.IDLE, False)
    with running:
        wait_until(lambda: running.worker.health.is_ready())
        # It is ready when it has registered, a moment before its first claim.
        wait_until(lambda: running.worker.health.last_claim_at and running.worker.health.last_heartbeat_at)
        health = running.worker.health
        assert health.worker_id == running.worker.worker_id
        assert health.last_claim_at is not None
        assert health.last_heartbeat_at is not None
        assert abs(health.last_claim_at - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)
        server.stop()
        wait_until(lambda: running.worker.health.claim_failures > 0)
        assert not running.worker.health.is_ready()
        assert "127.0.0.1" in (running.worker.health.last_error or "")
    assert not running.worker.health.is_ready()


def test_a_worker_that_hears_nothing_is_not_ready():
    old = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    health = WorkerHealth(WorkerState.RUNNING, "w", 1, old, old, 0, None)
    assert not health.is_ready()
    assert health.is_ready(within=3600)


class Scripted(httpx.HTTPTransport):
    """Answers some requests itself; the rest go to the server."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script
        self.seen: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        action = request.url.path.rpartition("/")[2]
        self.seen.append(action)
        return self.script(action, request, super().handle_request)


def test_the_worker_registers_again_when_the_server_has_forgotten_it(
    server: EmbeddedServer, outside: Outside
):
    forgotten = threading.Event()

    def script(action: str, request: httpx.Request, send: Any) -> httpx.Response:
        if action == "register":
            answer = send(request)
            answer.read()
            return httpx.Response(201, json={**answer.json(), "heartbeat_interval_secs": 1})
        if action == "heartbeat" and not forgotten.is_set():
            forgotten.set()
            return httpx.Response(404, json={"code": "NOT_FOUND", "message": "Resource not found"})
        return send(request)

    transport = Scripted(script)
    with (
        SpooledClient(api_key=server.api_key, base_url=server.url, transport=transport) as client,
        Running("threads", client, lambda ctx: None),
    ):
        wait_until(lambda: transport.seen.count("register") == 2)
        wait_until(lambda: [worker["status"] for worker in outside.workers()] == ["healthy"])


def test_draining_is_reported_at_once(client: SpooledClient, outside: Outside):
    outside.enqueue()
    release, entered = threading.Event(), threading.Event()

    def handler(ctx: JobContext[Any]) -> None:
        entered.set()
        release.wait(HOPELESS)

    with Running("threads", client, handler) as running:
        entered.wait(HOPELESS)
        running.request_stop()
        wait_until(lambda: [worker["status"] for worker in outside.workers()] == ["draining"])
        release.set()
        running.join()


@pytest.mark.single_acks
def test_acks_go_before_claims_while_the_server_limits_rates(server: EmbeddedServer, outside: Outside):
    outside.enqueue_many(3)
    limits = [2]
    between: list[str] = []

    def script(action: str, request: httpx.Request, send: Any) -> httpx.Response:
        if action == "complete" and limits[0]:
            limits[0] -= 1
            between.append("limited")
            return httpx.Response(
                429,
                headers={"Retry-After": "1"},
                json={"code": "RATE_LIMIT_EXCEEDED", "message": "slow down"},
            )
        if action in ("complete", "claim"):
            between.append(action)
        return send(request)

    transport = Scripted(script)
    with (
        SpooledClient(api_key=server.api_key, base_url=server.url, transport=transport) as client,
        Running("threads", client, lambda ctx: None, concurrency=1, poll_interval=0.01),
    ):
        wait_until(lambda: outside.counts()["completed"] == 3)
    first = between.index("limited")
    accepted = between.index("complete", first)
    assert "claim" not in between[first + 2 : accepted], "at most the claim that was already on its way"


def test_every_claim_and_ack_reaches_middleware(client: SpooledClient, outside: Outside):
    class Recorder(Middleware):
        def __init__(self) -> None:
            self.claims: list[ClaimInfo] = []
            self.acks: list[AckInfo] = []
            self.around_jobs: list[str] = []

        def claimed(self, claim: ClaimInfo) -> None:
            self.claims.append(claim)

        def acked(self, ack: AckInfo) -> None:
            self.acks.append(ack)

        def run(self, ctx: JobContext[Any], call_next: Any) -> object:
            self.around_jobs.append(ctx.job_id)
            return {"wrapped": call_next()}

    recorder = Recorder()
    good, bad = outside.enqueue(payload=1), outside.enqueue(payload=0, max_retries=0)
    worker = SpooledWorker(client, "q", poll_interval=0.05, middleware=[recorder])
    worker.process(lambda ctx: 1 // ctx.payload)
    with worker:
        wait_until(lambda: len(recorder.acks) == 2)
    assert outside.job(good)["result"] == {"wrapped": 1}
    assert sorted(recorder.around_jobs) == sorted([good, bad])
    acks = {ack.job_id: ack for ack in recorder.acks}
    assert (acks[good].operation, acks[good].outcome, acks[good].attempts, acks[good].error) == (
        "complete", "accepted", 1, None,
    )  # fmt: skip
    assert (acks[bad].operation, acks[bad].outcome) == ("fail", "accepted")
    assert (acks[bad].error or "").startswith("ZeroDivisionError")
    assert acks[good].run_seconds is not None
    assert acks[good].seconds >= acks[good].run_seconds >= 0
    assert sum(claim.jobs for claim in recorder.claims) == 2
    assert all(claim.queue_name == "q" and claim.error is None for claim in recorder.claims)


def libuv_threads() -> set[Path]:
    """Threads that uvloop starts where a name is resolved; Python does not see them."""
    tasks = Path("/proc/self/task")
    return {task for task in tasks.glob("*/comm") if "libuv" in task.read_text()} if tasks.is_dir() else set()


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_no_more_threads_than_slots_and_three(client: SpooledClient, outside: Outside, transport: str):
    before, foreign_before = set(threading.enumerate()), libuv_threads()
    outside.enqueue_many(50)
    gate = threading.Event()
    with Running(
        "threads", client, lambda ctx: gate.wait(HOPELESS), concurrency=8, transport=transport
    ) as running:
        wait_until(lambda: running.worker.active_job_count == 8)
        ours = [
            thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("spooled")
        ]
        gate.set()
        foreign = libuv_threads() - foreign_before
    # The main thread is the third: I/O, events, and the one that waits in start().
    assert len(ours) <= 8 + 2, ours
    assert not foreign, "threads that only the operating system knows"


SPEED = 4


class FastClock:
    """The machine's clock, several times as fast."""

    def __init__(self) -> None:
        self._start, self._began = time.time(), time.monotonic()

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * SPEED


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds are short, so that a test need not wait for real leases."""

    def __init__(self) -> None:
        super().__init__()
        select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = lambda timeout=None: select(timeout and timeout / SPEED)  # type: ignore[attr-defined]

    def time(self) -> float:
        return super().time() * SPEED


@both
def test_a_handler_that_blocks_for_three_leases_runs_once(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_launch, "new_io_loop", lambda *, fast: FastLoop())
    clock = FastClock()
    runs: list[str] = []

    def blocking(ctx: JobContext[Any]) -> str:
        runs.append(ctx.job_id)
        blocked_until = clock.monotonic() + 16  # three leases of five seconds, and one second more
        while clock.monotonic() < blocked_until:
            threading.Event().wait(0.05)  # blocks this thread: under coroutines, the whole of the user's loop
        return "once"

    with (
        EmbeddedServer(clock=clock) as server,
        SpooledClient(api_key=server.api_key, base_url=server.url) as client,
    ):
        outside = Outside(server)
        job_id = outside.enqueue()
        with Running(kind, client, blocking, lease_duration=5) as running:
            wait_until(lambda: outside.status(job_id) == "completed")
        assert (outside.job(job_id)["retry_count"], running.of("job:lease_lost")) == (0, [])
        outside.http.close()
    assert runs == [job_id]


@pytest.mark.parametrize("transport", ["httpx", "aiohttp", "auto"])
@both
def test_both_transports_do_the_same(kind: str, client: SpooledClient, outside: Outside, transport: str):
    outside.enqueue_many(60)
    with Running(kind, client, lambda ctx: None, transport=transport, concurrency=10):
        wait_until(lambda: outside.counts()["completed"] == 60)


def test_a_transport_that_cannot_be_had_is_refused(server: EmbeddedServer):
    with SpooledClient(
        api_key=server.api_key, base_url=server.url, transport=httpx.HTTPTransport()
    ) as client:
        worker = SpooledWorker(client, "q", transport="aiohttp")
        worker.process(lambda ctx: None)
        with pytest.raises(ValueError, match="transport of its own"):
            worker.start()
    with pytest.raises(ValueError, match="transport must be one of"):
        SpooledWorker(client, "q", transport="carrier pigeon")  # type: ignore[arg-type]


@both
def test_with_wakeups_a_job_is_found_though_the_worker_hardly_asks(
    kind: str, client: SpooledClient, outside: Outside
):
    # Asking once an hour, the worker can only know from the server's events.
    with Running(kind, client, lambda ctx: None, wakeups=True, poll_interval=3600.0) as running:
        wait_until(lambda: running.worker.health.last_claim_at)
        for _ in range(3):
            job_id = outside.enqueue()
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")
