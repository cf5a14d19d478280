"""Handlers that go on after their time-out: no second run beside them, and they are found out."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.worker import JobContext, JobStuckEvent, SpooledWorker, StuckWorkerError
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)

BEATS: dict[str, Any] = {"lease_duration": 5, "heartbeat_fraction": 0.05}
STUCK: dict[str, Any] = {**BEATS, "timeout_grace": 0.1}


class Deaf:
    """A handler that takes no notice of its abortion, for payloads that say so; counts what runs at one time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.aborted: list[str] = []
        self.runs: list[str] = []
        self.running: list[str] = []
        self.overlaps: list[str] = []

    def __call__(self, ctx: JobContext[Any]) -> Any:
        if ctx.payload != "deaf":
            return "heard"
        self._begin(ctx.job_id)
        if self.kind == "coroutines":
            return self._go_on(ctx.job_id)
        ctx.signal.wait(HOPELESS)
        self.aborted.append(ctx.job_id)
        self.release.wait(HOPELESS)
        self._end(ctx.job_id)
        return "too late"

    async def _go_on(self, job_id: str) -> str:
        while not self.release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.aborted.append(job_id)
        self._end(job_id)
        return "too late"

    def _begin(self, job_id: str) -> None:
        with self.lock:
            self.runs.append(job_id)
            if job_id in self.running:
                self.overlaps.append(job_id)
            self.running.append(job_id)

    def _end(self, job_id: str) -> None:
        with self.lock:
            self.running.remove(job_id)


@both
def test_a_job_does_not_run_again_while_it_runs_here(kind: str, client: SpooledClient, outside: Outside):
    handler = Deaf(kind)
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1, max_retries=3)
    with Running(kind, client, handler, concurrency=3, **BEATS) as running:
        wait_until(lambda: handler.aborted)
        ends = outside.job(job_id)["lease_expires_at"]
        wait_until(lambda: outside.job(job_id)["lease_expires_at"] > ends, "the lease is renewed")
        assert (outside.status(job_id), outside.job(job_id)["retry_count"]) == ("processing", 0)
        assert running.names(job_id) == ["job:claimed", "job:started"]
        handler.release.set()
        wait_until(lambda: "job:failed" in running.names(job_id))
        assert outside.job(job_id)["last_error"] == "Job timeout exceeded"
        assert outside.job(job_id)["retry_count"] == 1
    assert not handler.overlaps


@both
def test_a_stuck_handler_is_told_once_and_the_others_go_on(
    kind: str, client: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    handler = Deaf(kind)
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1)
    with Running(kind, client, handler, concurrency=2, **STUCK) as running:
        wait_until(lambda: running.of("job:stuck"))
        assert running.worker.health.stuck == 1
        wait_until(running.worker.health.is_ready, "one slot is left")
        others = [outside.enqueue(payload=n) for n in range(5)]
        wait_until(lambda: {outside.status(one) for one in others} == {"completed"})
        (event,) = running.of("job:stuck")
        assert isinstance(event, JobStuckEvent)
        assert (event.job_id, event.queue_name, event.on_stuck) == (job_id, "q", "keep")
        assert round(event.seconds, 3) >= 0.1
        assert outside.status(job_id) == "processing"
        handler.release.set()
        wait_until(lambda: "job:failed" in running.names(job_id))
        assert running.worker.health.stuck == 0
    assert len([one for one in caplog.records if "is stuck" in one.getMessage()]) == 1


@both
def test_a_worker_whose_slots_are_all_stuck_is_not_ready(kind: str, client: SpooledClient, outside: Outside):
    handler = Deaf(kind)
    ids = [outside.enqueue(payload="deaf", timeout_seconds=1) for _ in range(2)]
    with Running(kind, client, handler, concurrency=2, **STUCK) as running:
        wait_until(lambda: running.worker.health.stuck == 2)
        assert running.worker.state == "running"
        assert not running.worker.health.is_ready()
        waiting = outside.enqueue()
        handler.release.set()
        wait_until(lambda: outside.status(waiting) == "completed")
        wait_until(lambda: running.worker.health.is_ready())
    assert sorted(handler.runs) == sorted(ids)


@both
def test_a_stuck_job_may_be_failed_although_it_runs(kind: str, client: SpooledClient, outside: Outside):
    handler = Deaf(kind)
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1, max_retries=0)
    with Running(kind, client, handler, on_stuck="fail", **STUCK) as running:
        wait_until(lambda: outside.status(job_id) == "deadletter")
        assert handler.running == [job_id]
        assert outside.job(job_id)["last_error"] == "Job timeout exceeded"
        assert running.worker.health.stuck == 1
        handler.release.set()
        wait_until(lambda: running.worker.health.stuck == 0)
    assert running.names(job_id) == ["job:claimed", "job:started", "job:stuck", "job:failed"]


@both
def test_a_worker_may_end_because_of_a_stuck_job(kind: str, client: SpooledClient, outside: Outside):
    handler, busy = Deaf(kind), threading.Event()
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1)
    options = {**STUCK, "on_stuck": "exit", "cleanup_grace": 0.1}

    def either(ctx: JobContext[Any]) -> Any:
        if ctx.payload != "slow":
            return handler(ctx)
        if kind == "coroutines":
            return asyncio.to_thread(busy.wait)
        busy.wait(HOPELESS)
        return None

    running = Running(kind, client, either, concurrency=2, **options)
    with running:
        slow = outside.enqueue(payload="slow")
        wait_until(lambda: running.of("job:stuck"))
        wait_until(lambda: running.worker.state == "stopping")
        busy.set()
        if kind == "coroutines":
            wait_until(lambda: outside.status(slow) == "completed")
            handler.release.set()  # asyncio.run waits for it
        running.join()
    assert isinstance(running.error, StuckWorkerError)
    assert job_id in str(running.error)
    assert running.worker.state == "error"
    assert [event.reason for event in running.of("stopped")] == ["stuck"]
    assert outside.status(slow) == "completed"
    if kind == "threads":
        assert outside.status(job_id) == "processing", "its lease runs out when the process is gone"
    handler.release.set()


@both
def test_a_handler_that_ignores_its_lost_lease_is_stuck_too(
    kind: str, client: SpooledClient, outside: Outside
):
    handler = Deaf(kind)
    job_id = outside.enqueue(payload="deaf")
    with Running(kind, client, handler, concurrency=1, **STUCK) as running:
        wait_until(lambda: handler.runs)
        assert outside.http.delete("/queues/q", params={"delete_jobs": "true"}).status_code == 204
        wait_until(lambda: running.of("job:stuck"))
        assert not running.worker.health.is_ready()
        handler.release.set()
        again = outside.enqueue()
        wait_until(lambda: outside.status(again) == "completed")
    assert running.names(job_id) == ["job:claimed", "job:started", "job:lease_lost", "job:stuck"]


@both
def test_a_handler_that_ends_within_the_grace_is_not_stuck(
    kind: str, client: SpooledClient, outside: Outside
):
    handler = Deaf(kind)
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1, max_retries=0)
    with Running(kind, client, handler, timeout_grace=HOPELESS) as running:
        wait_until(lambda: handler.aborted)
        assert running.worker.health.stuck == 0
        handler.release.set()
        wait_until(lambda: outside.status(job_id) == "deadletter")
        assert not running.of("job:stuck")


def test_no_grace_at_all(client: SpooledClient, outside: Outside):
    handler = Deaf("threads")
    outside.enqueue(payload="deaf", timeout_seconds=1)
    with Running("threads", client, handler, timeout_grace=0) as running:
        wait_until(lambda: running.of("job:stuck"))
        handler.release.set()


def test_a_stuck_job_that_is_left_behind_is_not_acked(client: SpooledClient, outside: Outside):
    handler = Deaf("threads")
    job_id = outside.enqueue(payload="deaf", timeout_seconds=1)
    with Running("threads", client, handler, cleanup_grace=0.1, **STUCK) as running:
        wait_until(lambda: running.of("job:stuck"))
        running.stop(timeout=HOPELESS)
        assert [event.reason for event in running.of("stopped")] == ["forced"]
    job = outside.job(job_id)
    assert (job["status"], job["retry_count"]) == ("processing", 0)
    handler.release.set()


def test_what_a_shutdown_leaves_behind_waits_as_long_as_its_lease(client: SpooledClient, outside: Outside):
    handler = Deaf("threads")
    job_id = outside.enqueue(payload="deaf")
    with Running("threads", client, handler, cleanup_grace=0.1, lease_duration=60) as running:
        wait_until(lambda: handler.runs)
        before = dt.datetime.now(dt.UTC)
        running.stop(timeout=0)
    told = outside.job(job_id)["result"]["spooled"]
    copy = outside.job(told["successor"])
    assert (told["outcome"], copy["status"]) == ("released", "scheduled")
    assert dt.datetime.fromisoformat(copy["scheduled_at"]) >= before + dt.timedelta(seconds=59)
    handler.release.set()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_grace": -1}, "timeout_grace"),
        ({"timeout_grace": "x"}, "timeout_grace"),
        ({"on_stuck": "kill"}, "on_stuck must be one of keep, fail, exit"),
        ({"on_stuck": None}, "on_stuck"),
    ],
)
def test_options(client: SpooledClient, options: dict[str, Any], words: str):
    with pytest.raises((TypeError, ValueError), match=words):
        SpooledWorker(client, "q", **options)
