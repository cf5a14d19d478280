"""The worker guide is the promise: every code block in it runs as it is written, against a real server.

Each block becomes the body of a program that is started as a process of its own. A fragment that builds on an
earlier block of the guide gets that block in front of it. Nothing in a block is changed.
"""

from __future__ import annotations

import os
import re
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled_contrib.server import EmbeddedServer
from tests.processes import Process
from tests.waiting import wait_until

GUIDE = Path(__file__).parents[2] / "docs" / "worker-guide.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
BASIC, OPTIONS, CONTEXT, EVENTS, SHUTDOWN, ERRORS, ASYNC = BLOCKS

# The key that the guide shows. The server is started with it, so that even this line runs unchanged.
KEY = "sk_live_..."

CLIENT = """
from spooled import SpooledClient
from spooled.worker import SpooledWorker
client = SpooledClient(api_key="sk_live_...")
"""
WORKER = CLIENT + 'worker = SpooledWorker(client, queue_name="my-queue", concurrency=10)\n'
HANDLER = """
@worker.process
def handle_job(ctx):
    return {"echo": ctx.payload}
"""
# What the guide leaves to the reader.
DO_WORK = "def do_work(payload): return payload['number'] * 2\n"
SAY_WHEN_READY = """
@worker.on("started")
def _say_ready(event):
    print("READY", flush=True)
"""
START = "worker.start()\n"


@pytest.fixture
def guide_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(api_key=KEY) as running:
        yield running


class Api:
    """Looks at the server from outside, without our own client."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._http = httpx.Client(base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {KEY}"})

    def enqueue(self, payload: Any, **options: Any) -> str:
        body = {"queue_name": "my-queue", "payload": payload, **options}
        answer = self._http.post("/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self._http.get(f"/jobs/{job_id}").json())

    def workers(self) -> list[dict[str, Any]]:
        return list(self._http.get("/workers").json())

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def api(guide_server: EmbeddedServer) -> Iterator[Api]:
    looking = Api(guide_server)
    yield looking
    looking.close()


Run = Callable[[str], Process]


@pytest.fixture
def run(guide_server: EmbeddedServer) -> Iterator[Run]:
    """Runs a guide block as a process."""
    environment = {**os.environ, "SPOOLED_BASE_URL": guide_server.url}
    environment.pop("SPOOLED_API_KEY", None)
    with ExitStack() as programs:
        yield lambda source: programs.enter_context(
            Process("-W", "error", "-c", textwrap.dedent(source), environment=environment, apart=True)
        )


def test_the_guide_has_the_blocks_that_are_tested_here():
    assert len(BLOCKS) == 7


def test_basic_usage(run: Run, api: Api):
    job_id = api.enqueue({"number": 21})
    # The last line of the block starts the worker, so what makes it stop comes before the block.
    program = run(DO_WORK + BASIC)
    program.wait_for(f"Processing: {job_id}")
    wait_until(lambda: api.job(job_id)["status"] == "completed")
    assert api.job(job_id)["result"] == {"success": True, "result": 42}


def test_worker_options(run: Run, api: Api):
    program = run(CLIENT + OPTIONS + HANDLER + SAY_WHEN_READY + START)
    program.wait_for("READY")
    (worker,) = api.workers()
    assert (worker["hostname"], worker["max_concurrency"]) == ("worker-1", 10)
    detail = api._http.get(f"/workers/{worker['id']}").json()
    assert (detail["worker_type"], detail["version"], detail["metadata"]) == (
        "python",
        "1.0.0",
        {"env": "prod"},
    )
    job_id = api.enqueue({"a": 1})
    wait_until(lambda: api.job(job_id)["status"] == "completed")


def test_job_context(run: Run, api: Api):
    job_id = api.enqueue({"a": 1})
    logging = "import logging; logging.basicConfig(level='INFO', format='LOG %(message)s')\n"
    program = run(logging + WORKER + CONTEXT + START)
    assert "{'key': 'value'}" in program.find("Processing started.*")
    program.wait_for("50% Halfway done")
    wait_until(lambda: api.job(job_id)["status"] == "completed")
    assert api.job(job_id)["result"] == {"result": "done"}


def test_event_handlers(run: Run, api: Api):
    good = api.enqueue({"fail": False})
    bad = api.enqueue({"fail": True}, max_retries=0)
    handler = """
@worker.process
def handle_job(ctx):
    if ctx.payload["fail"]:
        raise ValueError("as planned")
    return {"fine": True}
import signal
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
"""
    program = run(WORKER + EVENTS + handler + START)
    for status, job_id in (("completed", good), ("deadletter", bad)):
        wait_until(lambda status=status, job_id=job_id: api.job(job_id)["status"] == status)
    program.send(signal.SIGTERM)
    assert program.wait() == 0, program.log
    said = "".join(program.lines).splitlines()  # without what is logged meanwhile
    assert re.match(r"Worker \S+ started on my-queue", said[0])
    assert said[-1] == "Worker stopped: graceful"
    for job_id in (good, bad):
        assert said.index(f"Job {job_id} claimed") < said.index(f"Job {job_id} started")
    assert f"Job {good} completed: {{'fine': True}}" in said
    failed = said.index(f"Job {bad} failed: ValueError: as planned")
    assert "Will retry: False" in said[failed:]


def test_the_error_event(run: Run, guide_server: EmbeddedServer):
    program = run(WORKER + EVENTS + HANDLER + START)
    program.wait_for("started on my-queue")
    guide_server.stop()
    program.wait_for("Worker error: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_shutdown_waits_for_the_active_job(run: Run, api: Api, number: int):
    job_id = api.enqueue({})
    handler = """
import threading
told_to_stop = threading.Event()
@worker.process
def handle_job(ctx):
    print("IN JOB", flush=True)
    told_to_stop.wait(30)
    return {"finished": True}
"""
    # The block's own shutdown function runs first; the job ends only after the signal has arrived.
    release = """
_stop = worker.stop
def stop_and_release():
    told_to_stop.set()
    _stop()
worker.stop = stop_and_release
"""
    program = run(WORKER + handler + release + SHUTDOWN)
    program.wait_for("IN JOB")
    program.send(number)
    assert program.wait() == 0, program.log
    assert "Shutting down...\n" in program.lines
    assert api.job(job_id)["status"] == "completed"
    assert [worker["status"] for worker in api.workers()] == ["offline"]


def test_graceful_shutdown_without_any_job(run: Run):
    program = run(WORKER + HANDLER + SAY_WHEN_READY + SHUTDOWN)
    program.wait_for("READY")
    program.send(signal.SIGTERM)
    assert program.wait() == 0, program.log
    assert program.lines[-1] == "Shutting down...\n"


def test_error_handling(run: Run, api: Api):
    fine = api.enqueue({"should_fail": False})
    failing = api.enqueue({"should_fail": True})
    run(WORKER + ERRORS + START)
    wait_until(lambda: api.job(fine)["status"] == "completed")
    wait_until(lambda: api.job(failing)["retry_count"] >= 1)
    assert api.job(failing)["last_error"] == "ValueError: Intentional failure"
    assert api.job(failing)["status"] in ("pending", "processing")


def test_blocks_pasted_one_after_the_other_on_one_worker(run: Run, api: Api):
    """The guide registers a handler in several blocks; the last one counts, as with the official SDK."""
    failing = api.enqueue({"should_fail": True})
    program = run(WORKER + CONTEXT + EVENTS + ERRORS + START)
    wait_until(lambda: api.job(failing)["retry_count"] >= 1)
    assert api.job(failing)["last_error"] == "ValueError: Intentional failure"
    assert program.log.count("takes the place of") == 1


def test_async_worker(run: Run, api: Api):
    jobs = [api.enqueue({"n": n}) for n in range(10)]
    run(ASYNC)
    wait_until(lambda: all(api.job(job)["status"] == "completed" for job in jobs))
    assert api.job(jobs[0])["result"] == {"success": True}
