"""What happens to jobs, over a real server; the same for both kinds of worker."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.worker import FallbackResult, JobContext
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("payload", [{"a": [1, 2.5, None]}, None, [], "text", 7, True])
def test_a_job_is_run_with_its_payload_and_completed_with_the_result(
    kind: str, client: SpooledClient, outside: Outside, payload: Any
):
    job_id = outside.enqueue(payload=payload)
    seen: list[JobContext[Any]] = []

    def handler(ctx: JobContext[Any]) -> Any:
        seen.append(ctx)
        return {"got": ctx.payload}

    with Running(kind, client, handler):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == {"got": payload}
    (ctx,) = seen
    assert (ctx.job_id, ctx.queue_name, ctx.retry_count, ctx.max_retries) == (job_id, "q", 0, 3)
    assert (ctx.attempt, ctx.timeout_seconds) == (1, 300)
    assert not ctx.signal.is_set()


def test_events_tell_the_life_of_a_job_in_order(kind: str, client: SpooledClient, outside: Outside):
    good, bad = outside.enqueue(payload=1), outside.enqueue(payload=0, max_retries=0)
    running = Running(kind, client, lambda ctx: 1 // ctx.payload)
    with running:
        wait_until(lambda: {"job:completed", "job:failed"} <= set(running.names()))
        worker_id = running.worker.worker_id
        assert running.worker.state == "running"
        assert [worker["id"] for worker in outside.workers()] == [worker_id]
    assert running.names(good) == ["job:claimed", "job:started", "job:completed"]
    assert running.names(bad) == ["job:claimed", "job:started", "job:failed"]
    assert running.names()[0] == "started"
    assert running.names()[-1] == "stopped"
    assert (running.of("started")[0].worker_id, running.of("started")[0].queue_name) == (worker_id, "q")
    assert (running.of("stopped")[0].worker_id, running.of("stopped")[0].reason) == (worker_id, "graceful")
    assert running.of("job:completed")[0].result == 1
    failed = running.of("job:failed")[0]
    assert (failed.error, failed.will_retry) == (
        "ZeroDivisionError: integer division or modulo by zero",
        False,
    )
    assert running.worker.state == "stopped"
    assert running.worker.worker_id is None


class Peculiar(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        Peculiar("odd"),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_fails_that_job_only(
    kind: str, client: SpooledClient, outside: Outside, error: BaseException
):
    bad, good = outside.enqueue(payload="bad", max_retries=0), outside.enqueue(payload="good")

    def handler(ctx: JobContext[Any]) -> str:
        if ctx.payload == "bad":
            raise error
        return "fine"

    with Running(kind, client, handler, concurrency=1):
        wait_until(lambda: outside.status(good) == "completed")
    assert outside.status(bad) == "deadletter"
    assert str(outside.job(bad)["last_error"]).startswith(type(error).__name__)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (object(), "object"),
        (float("nan"), "NaN"),
        ({"a": [float("inf")]}, "NaN and Infinity"),
        ({1, object()}, "object"),
    ],
    ids=["object", "nan", "nested infinity", "set of objects"],
)
def test_a_result_that_json_cannot_hold_fails_the_job_and_says_why(
    kind: str, client: SpooledClient, outside: Outside, result: Any, reason: str
):
    bad = outside.enqueue(payload="bad", max_retries=0)
    with Running(kind, client, lambda ctx: result) as running:
        wait_until(lambda: outside.status(bad) == "deadletter")
        wait_until(lambda: running.of("job:failed"))
    assert reason in outside.job(bad)["last_error"]


def test_a_result_that_the_server_refuses_fails_the_job_and_says_why(
    kind: str, client: SpooledClient, outside: Outside
):
    bad = outside.enqueue(max_retries=0)
    with Running(kind, client, lambda ctx: "x" * 3_000_000):
        wait_until(lambda: outside.status(bad) == "deadletter")
    assert "its result was refused" in outside.job(bad)["last_error"]


def test_a_refused_result_is_replaced_by_the_one_that_the_handler_has_for_that(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue()
    runs: list[str] = []

    def handler(ctx: JobContext[Any]) -> FallbackResult:
        runs.append(ctx.job_id)
        return FallbackResult("x" * 3_000_000, lambda error: {"refused": type(error).__name__})

    with Running(kind, client, handler) as running:
        wait_until(lambda: outside.status(job_id) == "completed")
        wait_until(lambda: "job:completed" in running.names(job_id))
    assert outside.job(job_id)["result"]["refused"] in ("ValidationError", "PayloadTooLargeError")
    assert runs == [job_id]


def test_a_fallback_that_fails_or_is_refused_itself_fails_the_job(
    kind: str, client: SpooledClient, outside: Outside
):
    large = "x" * 3_000_000
    outcomes = {"fails": lambda error: 1 / 0, "odd": lambda error: object(), "large": lambda error: large}
    jobs = [outside.enqueue(payload=name, max_retries=0) for name in outcomes]
    with Running(kind, client, lambda ctx: FallbackResult(large, outcomes[ctx.payload])):
        wait_until(lambda: {outside.status(job) for job in jobs} == {"deadletter"})
    assert all("its result was refused" in outside.job(job)["last_error"] for job in jobs)


def test_a_fallback_is_not_asked_for_without_need(kind: str, client: SpooledClient, outside: Outside):
    job_id = outside.enqueue()
    with Running(kind, client, lambda ctx: FallbackResult({"n": 1}, lambda error: 1 / 0)):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == {"n": 1}


def test_a_failed_job_is_retried_until_its_retries_are_used_up(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue(max_retries=1)
    attempts: list[int] = []

    def handler(ctx: JobContext[Any]) -> None:
        attempts.append(ctx.attempt)
        raise RuntimeError("always")

    with Running(kind, client, handler) as running:
        wait_until(lambda: outside.status(job_id) == "deadletter")
        wait_until(lambda: len(running.of("job:failed")) == 2)
    assert attempts == [1, 2]
    assert [event.will_retry for event in running.of("job:failed")] == [True, False]


def test_at_most_concurrency_jobs_run_at_once_and_that_many_do(
    kind: str, client: SpooledClient, outside: Outside
):
    outside.enqueue_many(12)
    gate = threading.Event()
    now, most, lock = 0, 0, threading.Lock()

    async def coroutine(ctx: JobContext[Any]) -> None:
        enter()
        while not gate.is_set():
            await asyncio.sleep(0)
        leave()

    def enter() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)

    def leave() -> None:
        nonlocal now
        with lock:
            now -= 1

    def handler(ctx: JobContext[Any]) -> Any:
        if kind == "coroutines":
            return coroutine(ctx)
        enter()
        gate.wait(HOPELESS)
        leave()
        return None

    with Running(kind, client, handler, concurrency=4) as running:
        wait_until(lambda: now == 4)
        assert running.worker.active_job_count == 4
        gate.set()
        wait_until(lambda: outside.counts()["completed"] == 12)
    assert most == 4
    assert running.worker.active_job_count == 0


def test_the_worker_never_pauses_while_work_waits(kind: str, client: SpooledClient, outside: Outside):
    # With pauses of an hour, a worker that slept even once would never finish.
    outside.enqueue_many(30)
    with Running(kind, client, lambda ctx: None, concurrency=2, poll_interval=3600.0):
        wait_until(lambda: outside.counts()["completed"] == 30)


def test_every_job_of_a_long_backlog_is_done_exactly_once(kind: str, client: SpooledClient, outside: Outside):
    ids = outside.enqueue_many(500)
    runs: list[str] = []
    with Running(kind, client, lambda ctx: runs.append(ctx.job_id), concurrency=10):
        wait_until(lambda: outside.counts()["completed"] == 500)
    assert sorted(runs) == sorted(ids)


def test_a_job_that_outlives_its_timeout_is_aborted_and_fails(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue(timeout_seconds=1, max_retries=0)
    aborted = threading.Event()

    async def coroutine(ctx: Any) -> None:
        try:
            await ctx.signal.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            aborted.set()
            raise

    def handler(ctx: JobContext[Any]) -> Any:
        if kind == "coroutines":
            return coroutine(ctx)
        if ctx.signal.wait(HOPELESS):
            aborted.set()
        return "too late"

    with Running(kind, client, handler) as running:
        wait_until(lambda: outside.status(job_id) == "deadletter")
        wait_until(aborted.is_set)
    assert outside.job(job_id)["last_error"] == "Job timeout exceeded"
    assert running.names(job_id) == ["job:claimed", "job:started", "job:failed"]


def test_the_lease_is_renewed_while_the_handler_blocks(kind: str, client: SpooledClient, outside: Outside):
    job_id = outside.enqueue()
    release = threading.Event()

    def blocking(ctx: JobContext[Any]) -> None:  # under coroutines this blocks the user's loop, on purpose
        release.wait(HOPELESS)

    with Running(kind, client, blocking, lease_duration=5, heartbeat_fraction=0.05):
        wait_until(lambda: outside.status(job_id) == "processing")
        first = outside.job(job_id)["lease_expires_at"]
        wait_until(lambda: outside.job(job_id)["lease_expires_at"] > first)
        second = outside.job(job_id)["lease_expires_at"]
        wait_until(lambda: outside.job(job_id)["lease_expires_at"] > second)
        release.set()
        wait_until(lambda: outside.status(job_id) == "completed")


def test_a_lost_lease_aborts_the_handler_once_and_sends_no_ack(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id = outside.enqueue()
    aborted = threading.Event()

    async def coroutine(ctx: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            aborted.set()
            raise

    def handler(ctx: JobContext[Any]) -> Any:
        if kind == "coroutines":
            return coroutine(ctx)
        if ctx.signal.wait(HOPELESS):
            aborted.set()
        return "nobody wants this"

    with Running(kind, client, handler, lease_duration=5, heartbeat_fraction=0.05) as running:
        wait_until(lambda: outside.status(job_id) == "processing")
        lease_id = outside.job(job_id)["lease_id"]
        # Deleting the queue takes the job away from under the worker.
        assert outside.http.delete("/queues/q", params={"delete_jobs": "true"}).status_code == 204
        wait_until(lambda: running.of("job:lease_lost"))
        wait_until(aborted.is_set)
        wait_until(lambda: running.worker.active_job_count == 0)
        again = outside.enqueue()
        wait_until(lambda: outside.status(again) == "processing")
        outside.http.delete("/queues/q", params={"delete_jobs": "true"})
        wait_until(lambda: len(running.of("job:lease_lost")) == 2)
    assert running.names(job_id) == ["job:claimed", "job:started", "job:lease_lost"]
    lost = running.of("job:lease_lost")[0]
    assert (lost.job_id, lost.queue_name, lost.lease_id, lost.operation) == (
        job_id,
        "q",
        lease_id,
        "heartbeat",
    )
    assert "404" in lost.error


def test_event_handlers_may_be_many_and_may_raise(kind: str, client: SpooledClient, outside: Outside):
    job_ids = outside.enqueue_many(3)
    running = Running(kind, client, lambda ctx: None)
    heard: list[str] = []

    def broken(event: Any) -> None:
        heard.append("broken")
        raise SystemExit("an event handler must not take the worker with it")

    running.worker.on("job:completed", broken)
    running.worker.on("job:completed")(lambda event: heard.append("second"))
    with running:
        wait_until(lambda: outside.counts()["completed"] == 3)
        wait_until(lambda: len(heard) == 6)
    assert heard == ["broken", "second"] * 3
    assert sorted(event.job_id for event in running.of("job:completed")) == sorted(job_ids)
