"""Handlers that are aborted clean up to the end, for a bounded time, before the worker ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, JobContext, Middleware
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


class Cleaning:
    """A handler that waits until it is aborted, and then cleans up in several steps.

    Args:
        kind: The kind of worker that it is for.
        ends: Whether its clean-up ends.
    """

    def __init__(self, kind: str, *, ends: bool = True) -> None:
        self.kind = kind
        self.entered = threading.Event()
        self.cleaning = threading.Event()
        self.cleaned = threading.Event()
        self.release = threading.Event()
        self._ends = ends

    def __call__(self, ctx: JobContext[Any]) -> Any:
        self.entered.set()
        if self.kind == "coroutines":
            return self._wait()
        ctx.signal.wait(HOPELESS)
        self.cleaning.set()
        self.release.wait(0.2 if self._ends else 30)
        self.cleaned.set()
        return "what it returns is ignored"

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaning.set()
            for _ in range(20):
                await asyncio.sleep(0.01)
            while not self._ends and not self.release.is_set():
                await asyncio.sleep(0.01)
            self.cleaned.set()


@both
def test_clean_up_ends_before_the_worker_does(
    kind: str, client: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "spooled")
    handler, job_id = Cleaning(kind), outside.enqueue()
    with Running(kind, client, handler, shutdown_timeout=0.0) as running:
        handler.entered.wait(HOPELESS)
        running.stop()
        assert handler.cleaned.is_set()
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == "released"
    assert running.of("stopped")[0].reason == "deadline"
    assert not [one for one in caplog.records if one.exc_info], "nothing has failed"
    ended = [one for one in caplog.records if f"job {job_id} ended" in one.getMessage()]
    assert len(ended) == 1, "one line says how it ended"


@both
def test_a_job_is_not_given_back_while_its_clean_up_runs(kind: str, client: SpooledClient, outside: Outside):
    handler, job_id = Cleaning(kind, ends=False), outside.enqueue()
    with Running(kind, client, handler, shutdown_timeout=0.0, cleanup_grace=60.0) as running:
        handler.entered.wait(HOPELESS)
        running.request_stop()
        handler.cleaning.wait(HOPELESS)
        assert outside.status(job_id) == "processing"
        assert outside.counts()["pending"] == 0
        handler.release.set()
        running.join()
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == "released"
    assert outside.counts()["pending"] == 1


@both
def test_clean_up_that_never_ends_does_not_hold_the_worker(
    kind: str, client: SpooledClient, outside: Outside, caplog: pytest.LogCaptureFixture
):
    handler, job_id = Cleaning(kind, ends=False), outside.enqueue()
    with Running(kind, client, handler, shutdown_timeout=0.0, cleanup_grace=0.1) as running:
        handler.entered.wait(HOPELESS)
        running.stop()
    assert not handler.cleaned.is_set() or kind == "coroutines"  # their loop was closed by the harness
    released = outside.job(job_id)["result"]["spooled"]
    assert released["outcome"] == "released"
    if kind == "threads":  # it still runs, so the copy waits for as long as a lease would have lasted
        assert outside.status(released["successor"]) == "scheduled"
    assert any(job_id in one.getMessage() and "cleanup_grace" in one.getMessage() for one in caplog.records)
    handler.release.set()


@both
def test_clean_up_after_a_time_out_ends_before_the_worker_does(
    kind: str, client: SpooledClient, outside: Outside
):
    handler, job_id = Cleaning(kind, ends=False), outside.enqueue(timeout_seconds=1, max_retries=0)
    with Running(kind, client, handler, cleanup_grace=60.0) as running:
        handler.cleaning.wait(HOPELESS)
        running.request_stop()
        wait_until(lambda: running.worker.state == "stopping")
        assert outside.status(job_id) == "processing"
        handler.release.set()
        running.join()
        assert handler.cleaned.is_set()
        assert outside.status(job_id) == "deadletter"


@both
def test_clean_up_after_a_lost_lease_ends_before_the_worker_does(
    kind: str, client: SpooledClient, outside: Outside
):
    handler, job_id = Cleaning(kind, ends=False), outside.enqueue()
    with Running(
        kind, client, handler, cleanup_grace=60.0, lease_duration=5, heartbeat_fraction=0.05
    ) as running:
        handler.entered.wait(HOPELESS)
        outside.http.delete(f"/jobs/{job_id}")
        lease = outside.job(job_id)
        outside.http.post(
            f"/jobs/{job_id}/complete",
            json={"worker_id": lease["assigned_worker_id"], "lease_id": lease["lease_id"], "result": None},
        )
        wait_until(lambda: "job:lease_lost" in running.names(job_id))
        running.request_stop()
        wait_until(lambda: running.worker.state == "stopping")
        handler.release.set()
        running.join()
        assert handler.cleaned.is_set()


async def test_the_clean_up_of_asynchronous_middleware_ends_first(server: EmbeddedServer):
    steps: list[str] = []

    class Pool(Middleware):
        async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Awaitable[object]]) -> object:
            try:
                return await call_next()
            finally:
                await asyncio.sleep(0.1)
                steps.append("middleware")

    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05, middleware=[Pool()])
        entered = asyncio.Event()

        @worker.process
        async def handle(ctx: Any) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.1)
                steps.append("handler")

        await client.jobs.create(queue_name="q", payload={})
        async with worker:
            await entered.wait()
            await worker.stop(timeout=0)
            steps.append("stopped")
    assert steps == ["handler", "middleware", "stopped"]


async def test_a_coroutine_that_is_aborted_before_its_first_step_gives_its_slot_back(
    server: EmbeddedServer, outside: Outside
):
    # The first job blocks the loop for longer than the second may take, which is aborted before it has begun.
    first, second = outside.enqueue(payload="block"), outside.enqueue(payload="wait", timeout_seconds=1)
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", concurrency=2, poll_interval=0.05)

        @worker.process
        async def handle(ctx: Any) -> None:
            if ctx.payload == "block":
                wait_until(lambda: outside.job(second)["last_error"] == "Job timeout exceeded")

        async with worker:
            while outside.status(first) != "completed":
                await asyncio.sleep(0.01)
            assert worker._engine is not None
            while worker._engine._handlers:
                await asyncio.sleep(0.01)
