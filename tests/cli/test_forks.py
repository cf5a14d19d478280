"""Processes that handlers start are no business of the worker's, and the worker's signals are none of theirs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from tests import forks, processes
from tests.cli.conftest import Api, Process, Spawn
from tests.waiting import wait_until

HANDLER = """
import asyncio, sys, threading
sys.path.insert(0, {root!r})
from tests import forks
from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, SpooledWorker, run_workers

threads = SpooledWorker(SpooledClient(), "q", poll_interval=0.1)
threads.process(lambda ctx: forks.run(ctx.payload["way"]))
coroutines = AsyncSpooledWorker(AsyncSpooledClient(), "q", poll_interval=0.1)

@coroutines.process
async def handle(ctx):
    if ctx.payload["way"] == "kept loop":
        asyncio.get_running_loop().run_in_executor(None, never_ends)
        return "left"
    return forks.run(ctx.payload["way"])

def never_ends():
    print("in a thread of the loop's", flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    run_workers(threads)
"""
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.py"
    path.write_text(HANDLER.format(root=ROOT), encoding="utf-8")
    return path


def worker(tmp_path: Path, spawn: Spawn, *argv: str) -> Process:
    process = spawn("worker", *argv, strict=False)
    process.wait_for("started on queue q")
    return process


@pytest.mark.parametrize("target", ["threads", "coroutines"])
def test_a_handler_may_start_processes(spawn: Spawn, api: Api, tmp_path: Path, target: str) -> None:
    process = worker(tmp_path, spawn, f"tasks:{target}")
    # Twice: what a first job did to the worker's signals would be seen by a second one.
    jobs = [(api.enqueue("q", {"way": way}, max_retries=0), way) for way in [*forks.WAYS, *forks.WAYS]]
    for job, way in jobs:
        wait_until(lambda job=job: api.job(job)["status"] != "pending" or process.ended, process.log)
        wait_until(lambda job=job: api.job(job)["status"] != "processing" or process.ended, process.log)
        assert not process.ended, (way, process.log)
        assert api.job(job)["result"] == forks.WAYS[way][1], (way, api.job(job), process.log)
    assert "is stopping" not in process.log
    process.terminate()
    assert process.finish().code == 0


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("fork executor", signal.SIGTERM),
        ("fork executor", signal.SIGINT),
        ("fork pool", signal.SIGTERM),
        ("fork pool", signal.SIGINT),
        ("fork manager", signal.SIGTERM),
        ("fork queue", signal.SIGTERM),
        ("spawn executor", signal.SIGTERM),
        ("forkserver executor", signal.SIGTERM),
        ("thread", signal.SIGTERM),
        ("atexit", signal.SIGTERM),
    ],
)
def test_what_a_module_keeps_does_not_keep_the_worker(
    spawn: Spawn, api: Api, tmp_path: Path, what: str, number: signal.Signals
) -> None:
    process = worker(tmp_path, spawn, "tasks:threads")
    jobs = [api.enqueue("q", {"way": f"kept {what}"}) for _ in range(3)]
    wait_until(lambda: {api.job(job)["status"] for job in jobs} == {"completed"}, process.log)
    if number is signal.SIGINT:
        # As a terminal does it. What the processes of a pool make of it is theirs.
        os.killpg(process.popen.pid, number)
    else:
        process.send(number)
    result = process.finish()
    assert result.code == 0
    assert "stopped (graceful)" in result.err
    if what == "thread":
        assert "threads that are not daemons: never-ends" in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_executor_of_the_loop_that_is_busy_for_ever_does_not_keep_the_worker(
    spawn: Spawn, api: Api, tmp_path: Path, number: signal.Signals
) -> None:
    process = worker(tmp_path, spawn, "tasks:coroutines")
    api.enqueue("q", {"way": "kept loop"})
    process.wait_for("in a thread of the loop's")
    process.send(number)
    result = process.finish()
    assert result.code == 0
    assert "stopped (graceful)" in result.err


def test_forks_of_run_workers(spawn: Spawn, api: Api, server: EmbeddedServer, tmp_path: Path) -> None:
    settings = {**os.environ, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}
    with processes.Process(str(tmp_path / "tasks.py"), cwd=tmp_path, environment=settings) as process:
        for way in ("terminated", "pool"):
            job = api.enqueue("q", {"way": way}, max_retries=0)
            wait_until(lambda job=job: api.job(job)["status"] == "completed", process.log)
            assert api.job(job)["result"] == forks.WAYS[way][1]
        process.terminate()
        assert process.wait() == 0
