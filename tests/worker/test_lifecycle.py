"""Starting, stopping, starting again, and what happens when the server is not there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled import AsyncSpooledClient, AuthenticationError, SpooledClient
from spooled.worker import AsyncSpooledWorker, JobContext, SpooledWorker
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


class Gate:
    """A handler that waits until it is let go, or until it is aborted."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entered = threading.Event()
        self.open = threading.Event()
        self.aborted = threading.Event()

    def __call__(self, ctx: JobContext[Any]) -> Any:
        self.entered.set()
        if self.kind == "coroutines":
            return self._wait()
        while not (self.open.wait(0.01) or ctx.signal.is_set()):
            pass
        if ctx.signal.is_set():
            self.aborted.set()
        return "let go"

    async def _wait(self) -> str:
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.aborted.set()
            raise
        return "let go"


@both
def test_stop_waits_for_the_active_job(kind: str, client: SpooledClient, outside: Outside):
    job_id, gate = outside.enqueue(), Gate(kind)
    with Running(kind, client, gate) as running:
        gate.entered.wait(HOPELESS)
        later = None
        running.request_stop()
        wait_until(lambda: running.worker.state == "stopping")
        later = outside.enqueue()
        gate.open.set()
        running.join()
    assert outside.status(job_id) == "completed"
    assert outside.status(later) == "pending", "a stopping worker claims nothing more"
    assert [worker["status"] for worker in outside.workers()] == ["offline"]
    assert running.of("stopped")[0].reason == "graceful"


@both
def test_what_is_not_finished_at_the_deadline_is_aborted_and_given_back(
    kind: str, client: SpooledClient, outside: Outside
):
    job_id, gate = outside.enqueue(), Gate(kind)
    with Running(kind, client, gate, shutdown_timeout=0.1) as running:
        gate.entered.wait(HOPELESS)
        running.stop()
        wait_until(gate.aborted.is_set)
    note = outside.job(job_id)["result"]["spooled"]
    assert (note["outcome"], note["reason"]) == ("released", "Worker shutdown timeout")
    successor = outside.job(note["successor"])
    assert (successor["status"], successor["retry_count"], successor["max_retries"]) == ("pending", 0, 3)


@both
def test_a_second_stop_can_bring_the_deadline_forward(kind: str, client: SpooledClient, outside: Outside):
    job_id, gate = outside.enqueue(), Gate(kind)
    with Running(kind, client, gate, shutdown_timeout=3600.0) as running:
        gate.entered.wait(HOPELESS)
        running.request_stop()
        wait_until(lambda: running.worker.state == "stopping")
        running.request_stop(timeout=0)
        running.join()
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == "released"


@both
def test_a_worker_can_be_started_again(kind: str, client: SpooledClient, outside: Outside):
    first = Running(kind, client, lambda ctx: None)
    for _ in range(3):
        again = Running(kind, client, lambda ctx: None)
        if kind == "threads":
            again.worker, again.events = first.worker, first.events
            first.events.clear()
        job_id = outside.enqueue()
        with again:
            wait_until(lambda job_id=job_id: outside.status(job_id) == "completed")
        assert again.worker.state == "stopped"


async def test_an_async_worker_can_be_started_again_on_another_task(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)
        done = asyncio.Event()

        @worker.process
        async def handle(ctx: Any) -> None:
            done.set()

        for _ in range(3):
            await client.jobs.create(queue_name="q", payload={})
            async with worker:
                await done.wait()
                done.clear()
            assert worker.state == "stopped"


@both
def test_stopping_a_worker_that_waits_for_its_server_ends_it(kind: str):
    with SpooledClient(api_key="sp_test_nobody-listens", base_url="http://127.0.0.1:9") as client:
        running = Running(kind, client, lambda ctx: None)
        running.start()
        wait_until(lambda: running.of("error"), "the worker tells that it cannot register")
        assert running.worker.state == "starting"
        running.stop()
        assert running.error is None
        assert running.worker.state == "stopped"


@both
def test_a_refused_key_ends_the_worker_with_the_servers_answer(kind: str, server: EmbeddedServer):
    with SpooledClient(api_key="sp_test_wrong-key-of-a-good-length", base_url=server.url) as client:
        running = Running(kind, client, lambda ctx: None)
        running.start()
        running.join()
        assert isinstance(running.error, AuthenticationError)
        assert running.worker.state == "error"
        assert "wrong-key" not in str(running.error)


@both
def test_a_key_revoked_while_working_ends_the_worker(kind: str, server: EmbeddedServer, outside: Outside):
    made = outside.http.post("/api-keys", json={"name": "short-lived"}).json()
    with SpooledClient(api_key=made["key"], base_url=server.url) as client:
        running = Running(kind, client, lambda ctx: None)
        with running:
            outside.http.delete(f"/api-keys/{made['id']}")
            running.join()
        assert isinstance(running.error, AuthenticationError)
        assert running.of("stopped")[0].reason == "error"


@both
def test_a_server_that_goes_away_and_comes_back_costs_no_job(kind: str, tmp_path: Path):
    server = EmbeddedServer(db=str(tmp_path / "jobs.db"))
    server.start()
    try:
        with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
            gate = Gate(kind)
            outside = Outside(server)
            job_id = outside.enqueue()
            with Running(kind, client, gate) as running:
                gate.entered.wait(HOPELESS)
                server.stop()
                # The handler returns while nobody can take its ack.
                gate.open.set()
                wait_until(lambda: any("complete of job" not in str(e.error) for e in running.of("error")))
                server.start()
                wait_until(lambda: outside.status(job_id) == "completed")
                second = outside.enqueue()
                wait_until(lambda: outside.status(second) == "completed")
            assert running.names(job_id) == ["job:claimed", "job:started", "job:completed"]
            outside.http.close()
    finally:
        server.stop()


def test_stop_from_the_workers_own_handler_does_not_wait_for_itself(client: SpooledClient, outside: Outside):
    worker = SpooledWorker(client, "q", poll_interval=0.05)
    job_id = outside.enqueue()

    @worker.process
    def handle(ctx: JobContext) -> str:
        worker.stop()
        return "stopped from inside"

    worker.start()
    assert outside.job(job_id)["result"] == "stopped from inside"


def test_stop_from_an_event_handler_does_not_wait_for_itself(client: SpooledClient, outside: Outside):
    worker = SpooledWorker(client, "q", poll_interval=0.05)
    worker.process(lambda ctx: None)
    job_id = outside.enqueue()
    worker.on("job:completed", lambda event: worker.stop())
    worker.start()
    assert outside.status(job_id) == "completed"


async def test_stop_from_a_coroutine_handler_does_not_wait_for_itself(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)

        @worker.process
        async def handle(ctx: Any) -> str:
            await worker.stop()
            return "stopped from inside"

        job = await client.jobs.create(queue_name="q", payload={})
        await worker.start()
        assert (await client.jobs.get(job.id)).result == "stopped from inside"


async def test_cancelling_start_drains_first(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)
        entered, go_on = asyncio.Event(), asyncio.Event()

        @worker.process
        async def handle(ctx: Any) -> str:
            entered.set()
            await go_on.wait()
            return "finished all the same"

        job = await client.jobs.create(queue_name="q", payload={})
        task = asyncio.create_task(worker.start())
        await entered.wait()
        task.cancel()
        while worker.state != "stopping":
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.jobs.get(job.id)).status == "completed"


async def test_plain_functions_run_in_threads_under_the_async_worker(server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)
        where: list[threading.Thread] = []

        @worker.process
        def handle(ctx: Any) -> None:
            where.append(threading.current_thread())
            worker.stop()

        await client.jobs.create(queue_name="q", payload={})
        await worker.start()
        assert where != [threading.main_thread()]


def test_auto_start_begins_with_the_handler(client: SpooledClient, outside: Outside):
    worker = SpooledWorker(client, "q", poll_interval=0.05, auto_start=True)
    assert worker.state == "idle"
    job_id = outside.enqueue()
    worker.process(lambda ctx: None)
    wait_until(lambda: outside.status(job_id) == "completed")
    worker.stop()
    assert worker.state == "stopped"


def test_a_worker_needs_a_handler_and_runs_once_at_a_time(client: SpooledClient):
    worker = SpooledWorker(client, "q")
    with pytest.raises(RuntimeError, match=r"@worker\.process"):
        worker.start()
    worker.process(lambda ctx: None)
    with worker:
        with pytest.raises(RuntimeError, match="already"):
            worker.start()
        with pytest.raises(RuntimeError, match="before the worker is started"):
            worker.process(lambda ctx: 1)
    worker.stop()
    worker.handler("mail")(lambda ctx: 1)
    with pytest.raises(ValueError, match="already has the handler"):
        worker.handler("mail")(lambda ctx: 2)


def test_a_coroutine_handler_is_sent_to_the_async_worker(client: SpooledClient):
    async def handle(ctx: Any) -> None: ...

    with pytest.raises(TypeError, match="AsyncSpooledWorker"):
        SpooledWorker(client, "q").process(handle)


@pytest.mark.single_acks
def test_a_transport_of_the_users_is_always_used(server: EmbeddedServer, outside: Outside):
    class Counting(httpx.HTTPTransport):
        paths: list[str] = []

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.paths.append(request.url.path)
            return super().handle_request(request)

    job_id = outside.enqueue()
    with SpooledClient(api_key=server.api_key, base_url=server.url, transport=Counting()) as client:
        worker = SpooledWorker(client, "q", poll_interval=0.05)
        worker.process(lambda ctx: None)
        with worker:
            wait_until(lambda: outside.status(job_id) == "completed")
    assert "/api/v1/workers/register" in Counting.paths
    assert "/api/v1/jobs/claim" in Counting.paths
    assert f"/api/v1/jobs/{job_id}/complete" in Counting.paths


async def test_an_async_transport_of_the_users_is_called_on_the_users_loop(server: EmbeddedServer):
    loops: set[asyncio.AbstractEventLoop] = set()

    class Noting(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            loops.add(asyncio.get_running_loop())
            return await super().handle_async_request(request)

    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url, transport=Noting()) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)

        @worker.process
        async def handle(ctx: Any) -> None:
            worker.stop()

        await client.jobs.create(queue_name="q", payload={})
        await worker.start()
    assert loops == {asyncio.get_running_loop()}


def test_a_signal_that_another_thread_receives_is_handled_while_start_waits(server: EmbeddedServer):
    # The handler can only run in the main thread, so this needs a process whose main thread is in start().
    program = """
import signal, sys, threading
from spooled import SpooledClient
from spooled.worker import SpooledWorker
worker = SpooledWorker(SpooledClient(api_key=sys.argv[1], base_url=sys.argv[2]), "q")
worker.process(lambda ctx: None)
signal.signal(signal.SIGTERM, lambda *_: worker.stop())

def receive(event):
    threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()

worker.on("started", receive)
worker.start()
print(worker.state.value)
"""
    command = [sys.executable, "-c", program, server.api_key, server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HOPELESS, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped\n", "")


def test_a_claim_in_flight_is_taken_in_and_its_jobs_are_run(server: EmbeddedServer, outside: Outside):
    answered, hold = threading.Event(), threading.Event()

    class Holding(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.url.path.endswith("/claim") and b'"id"' in response.read():
                answered.set()
                hold.wait(HOPELESS)
            return response

    with (
        SpooledClient(api_key=server.api_key, base_url=server.url, transport=Holding()) as client,
        Running("threads", client, lambda ctx: "run all the same") as running,
    ):
        job_id = outside.enqueue()
        answered.wait(HOPELESS)
        running.request_stop()
        wait_until(lambda: running.worker.state == "stopping")
        hold.set()
        running.join()
    assert outside.job(job_id)["result"] == "run all the same"


def test_a_stuck_thread_does_not_keep_the_process_alive(server: EmbeddedServer, outside: Outside):
    program = """
import sys, threading
from spooled import SpooledClient
from spooled.worker import SpooledWorker
worker = SpooledWorker(SpooledClient(api_key=sys.argv[1], base_url=sys.argv[2]), "q", poll_interval=0.05)

@worker.process
def stuck(ctx):
    threading.Thread(target=worker.stop, args=(0,)).start()
    threading.Event().wait()

worker.start()
print(worker.state.value)
"""
    job_id = outside.enqueue(max_retries=0)
    command = [sys.executable, "-c", program, server.api_key, server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HOPELESS, check=False)
    assert (ended.returncode, ended.stdout) == (0, "stopped\n")
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == "released"
