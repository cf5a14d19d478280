"""Several queues in one process."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from spooled import AsyncSpooledClient, AuthenticationError, SpooledClient
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup
from spooled_contrib.server import EmbeddedServer
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


def worker_on(client: SpooledClient, queue: str, handler: Any = None) -> SpooledWorker:
    worker = SpooledWorker(client, queue, poll_interval=0.05)
    worker.process(handler or (lambda ctx: ctx.queue_name))
    return worker


def test_a_group_works_on_all_its_queues_with_one_io_thread(client: SpooledClient, outside: Outside):
    queues = ["a", "b", "c"]
    jobs = {queue: outside.enqueue(queue) for queue in queues}
    group = WorkerGroup(*(worker_on(client, queue) for queue in queues))
    with group:
        wait_until(lambda: all(outside.status(job) == "completed" for job in jobs.values()))
        names = [
            thread.name
            for thread in threading.enumerate()
            if "spooled" in thread.name and "-io" in thread.name
        ]
        assert names == ["spooled-io"]
        assert {worker["queue_name"] for worker in outside.workers()} == set(queues)
    assert {queue: outside.job(job)["result"] for queue, job in jobs.items()} == {
        queue: queue for queue in queues
    }
    assert all(worker.state == "stopped" for worker in group.workers)
    with group:
        again = outside.enqueue("b")
        wait_until(lambda: outside.status(again) == "completed")


def test_one_worker_of_a_group_may_stop_alone(client: SpooledClient, outside: Outside):
    first, second = worker_on(client, "a"), worker_on(client, "b")
    with WorkerGroup(first, second):
        wait_until(lambda: second.state == "running")
        first.stop()
        assert first.state == "stopped"
        job = outside.enqueue("b")
        wait_until(lambda: outside.status(job) == "completed")


def test_a_worker_that_is_refused_takes_the_group_down_with_a_clear_error(
    server: EmbeddedServer, outside: Outside
):
    made = outside.http.post("/api-keys", json={"name": "short-lived"}).json()
    with (
        SpooledClient(api_key=made["key"], base_url=server.url) as doomed,
        SpooledClient(api_key=server.api_key, base_url=server.url) as client,
    ):
        first, second = worker_on(doomed, "a"), worker_on(client, "b")
        errors: list[BaseException] = []

        def run() -> None:
            try:
                WorkerGroup(first, second).start()
            except AuthenticationError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: first.state == second.state == "running")
        outside.http.delete(f"/api-keys/{made['id']}")
        thread.join(HOPELESS)
    assert len(errors) == 1
    assert (first.state, second.state) == ("error", "stopped")


async def test_an_async_group(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        done: set[str] = set()
        workers = []
        for queue in ("a", "b"):
            worker = AsyncSpooledWorker(client, queue, poll_interval=0.05)

            @worker.process
            async def handle(ctx: Any) -> None:
                done.add(ctx.queue_name)
                if done == {"a", "b"}:
                    for one in workers:
                        one.stop()

            workers.append(worker)
            await client.jobs.create(queue_name=queue, payload={})
        await asyncio.wait_for(AsyncWorkerGroup(*workers).start(), 30)
    assert done == {"a", "b"}


def test_groups_refuse_what_they_cannot_run(client: SpooledClient):
    worker = worker_on(client, "a")
    with pytest.raises(ValueError, match="at least one"):
        WorkerGroup()
    with pytest.raises(ValueError, match="twice"):
        WorkerGroup(worker, worker)
    with pytest.raises(TypeError, match="AsyncWorkerGroup"):
        WorkerGroup(AsyncSpooledWorker(client, "a"))  # type: ignore[arg-type]


@pytest.mark.parametrize("signals", [1, 2])
def test_run_workers_drains_at_the_first_signal_and_stops_at_the_second(
    server: EmbeddedServer, outside: Outside, signals: int
):
    program = """
import sys, threading
from spooled import SpooledClient
from spooled.worker import SpooledWorker, run_workers
client = SpooledClient(api_key=sys.argv[1], base_url=sys.argv[2])
workers = [SpooledWorker(client, queue, poll_interval=0.05) for queue in ("a", "b")]
for worker in workers:
    @worker.process
    def handle(ctx, worker=worker):
        print("in", flush=True)
        while worker.state != "stopping":
            pass
        print("told", flush=True)
        if sys.argv[3] == "2":
            ctx.signal.wait(30)
run_workers(*workers)
print(*(worker.state.value for worker in workers))
"""
    job = outside.enqueue("b")
    with Process("-c", program, server.api_key, server.url, str(signals)) as process:
        process.wait_for("in\n")
        process.send(signal.SIGTERM)
        process.wait_for("told\n")
        if signals == 2:
            process.send(signal.SIGINT)
        process.wait_for("stopped stopped\n")
        assert process.wait() == 0
    assert ("spooled" in (outside.job(job)["result"] or {})) == (signals == 2)
