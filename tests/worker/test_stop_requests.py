"""A request to stop is heard at any moment from the call of `start()` on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import (
    AsyncSpooledWorker,
    AsyncWorkerGroup,
    SpooledWorker,
    WorkerGroup,
    _base_worker,
    _engine,
    _io_thread,
    _launch,
    _worker_run,
    group,
)
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

QUICK: dict[str, Any] = {"poll_interval": 0.05}

MOMENTS = [
    pytest.param(_base_worker, "Engine", id="before the engine is made"),
    pytest.param(_engine, "LeaseKeeper", id="while the engine is made"),
    pytest.param(_base_worker, "EventDispatcher", id="while the worker is put together"),
    pytest.param(_worker_run.WorkerRun, "bind", id="while the engine is handed over"),
    pytest.param(_io_thread.IoThread, "start", id="before the I/O thread runs"),
    pytest.param(_worker_run.WorkerRun, "launched", id="when the I/O thread runs"),
    pytest.param(_engine.Engine, "run", id="before the engine runs"),
    pytest.param(_engine.Engine, "_register", id="before it registers"),
    pytest.param(_engine.Engine, "_started", id="when it has registered"),
    pytest.param(_engine.Engine, "_work", id="before it claims"),
]
"""Places in the code that a start passes on its way: where they are found and their names."""


def call_first(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, action: Callable[[], object]) -> None:
    """Do something, once, right before what is called `name`."""
    original = getattr(where, name)
    done = threading.Event()

    def watched(*args: Any, **options: Any) -> Any:
        if not done.is_set():
            done.set()
            action()
        return original(*args, **options)

    monkeypatch.setattr(where, name, watched)


def stop_elsewhere(stop: Callable[[], object]) -> Callable[[], None]:
    """Stop in a thread of its own, and go on when the request was made; the thread may wait for the end."""

    def action() -> None:
        requested = threading.Event()
        original = _worker_run.WorkerRun.request_stop

        def request(run: Any, timeout: float | None) -> None:
            original(run, timeout)
            requested.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_worker_run.WorkerRun, "request_stop", request)
            threading.Thread(target=stop, daemon=True).start()
            assert requested.wait(HOPELESS), "the request found no run"

    return action


def ends(target: Callable[[], object]) -> None:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(HOPELESS)
    assert not thread.is_alive(), "the worker has not heard the request to stop"


def plain(client: SpooledClient, queue_name: str = "q") -> SpooledWorker:
    worker = SpooledWorker(client, queue_name, **QUICK)
    worker.process(lambda ctx: None)
    return worker


@pytest.mark.parametrize(("where", "name"), MOMENTS)
@pytest.mark.parametrize("again", [False, True], ids=["first start", "second start"])
def test_a_stop_from_another_thread_is_heard_while_a_worker_starts(
    again: bool, where: Any, name: str, client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    worker = plain(client)
    if again:
        worker.start(burst=True)
    call_first(monkeypatch, where, name, stop_elsewhere(worker.stop))
    ends(worker.start)
    assert worker.state == "stopped"


@pytest.mark.parametrize(
    ("where", "name"), [*MOMENTS, pytest.param(_launch, "_by_connections", id="first of all")]
)
def test_a_stop_is_heard_while_a_group_starts(
    where: Any, name: str, client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    workers = WorkerGroup(plain(client, "a"), plain(client, "b"))
    call_first(monkeypatch, where, name, stop_elsewhere(workers.stop))
    ends(workers.start)
    assert [worker.state for worker in workers.workers] == ["stopped"] * 2


def test_a_stop_is_heard_while_a_group_takes_its_workers(
    client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    first, second = plain(client, "a"), plain(client, "b")
    workers = WorkerGroup(first, second)
    original = second._begin
    stop = stop_elsewhere(workers.stop)

    def begin(run: Any) -> None:
        stop()
        original(run)

    monkeypatch.setattr(second, "_begin", begin)
    ends(workers.start)
    assert [worker.state for worker in workers.workers] == ["stopped"] * 2


@pytest.mark.parametrize(("where", "name"), MOMENTS)
@pytest.mark.parametrize("together", [False, True], ids=["worker", "group"])
def test_a_stop_is_heard_while_an_asynchronous_worker_starts(
    together: bool, where: Any, name: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> None:
        async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
            workers = [AsyncSpooledWorker(client, queue_name, **QUICK) for queue_name in "ab"]
            for worker in workers:
                worker.process(lambda ctx: None)
            subject = AsyncWorkerGroup(*workers) if together else workers[0]
            call_first(monkeypatch, where, name, subject.stop)
            await subject.start()
            assert subject.state in ("stopped", "idle")

    ends(lambda: asyncio.run(main()))


@pytest.mark.parametrize("together", [False, True], ids=["worker", "group"])
async def test_a_stop_before_the_first_step_of_start_keeps_the_worker_from_beginning(
    together: bool, server: EmbeddedServer, outside: Outside
):
    job_id = outside.enqueue()
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", **QUICK)
        worker.process(lambda ctx: None)
        subject = AsyncWorkerGroup(worker) if together else worker
        starting = asyncio.create_task(subject.start())
        await subject.stop()
        async with asyncio.timeout(30):
            await starting
        assert (outside.status(job_id), subject.state) == ("pending", "idle")
        await subject.start(burst=True)
        assert outside.status(job_id) == "completed", "only the one start was stopped"


@pytest.mark.parametrize("together", [False, True], ids=["worker", "group"])
async def test_a_start_that_is_cancelled_before_its_first_step_leaves_nothing_behind(
    together: bool, server: EmbeddedServer, outside: Outside
):
    job_id = outside.enqueue()
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", **QUICK)
        worker.process(lambda ctx: None)
        subject = AsyncWorkerGroup(worker) if together else worker
        starting = asyncio.create_task(subject.start())
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await subject.stop()
        await subject.start(burst=True)
        assert outside.status(job_id) == "completed"


def test_a_stop_before_any_start_does_nothing_and_spoils_nothing(client: SpooledClient, outside: Outside):
    job_id, worker = outside.enqueue(), plain(client)
    for subject in (worker, WorkerGroup(worker)):
        subject.stop()
        assert subject.state == "idle"
    worker.start(burst=True)
    assert outside.status(job_id) == "completed"


@pytest.mark.parametrize("together", [False, True], ids=["worker", "group"])
def test_a_start_that_fails_leaves_the_worker_as_it_was(
    together: bool, client: SpooledClient, outside: Outside
):
    job_id, worker = outside.enqueue(), plain(client)
    subject = WorkerGroup(worker) if together else worker
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_base_worker, "Engine", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            subject.start()
    assert subject.state == "idle"
    subject.stop()
    subject.start(burst=True)
    assert (outside.status(job_id), subject.state) == ("completed", "stopped")


def test_only_one_of_two_starts_at_once_works(client: SpooledClient, monkeypatch: pytest.MonkeyPatch):
    worker = plain(client)
    refused: list[BaseException] = []

    def start_too() -> None:
        try:
            worker.start()
        except RuntimeError as error:
            refused.append(error)
        finally:
            worker.stop()

    call_first(monkeypatch, _base_worker, "Engine", lambda: ends(lambda: stop_elsewhere(start_too)()))
    ends(worker.start)
    assert "already" in str(refused[0])


def test_many_stops_at_once_are_one(client: SpooledClient, outside: Outside):
    worker = plain(client)
    starting = threading.Thread(target=worker.start, daemon=True)
    starting.start()
    wait_until(lambda: worker.state == "running")
    stopping = [threading.Thread(target=worker.stop, args=(timeout,)) for timeout in (None, 5.0, 0.0) * 3]
    for one in stopping:
        one.start()
    for one in [*stopping, starting]:
        one.join(HOPELESS)
        assert not one.is_alive()
    assert worker.state == "stopped"
    job_id = outside.enqueue()
    worker.start(burst=True)
    assert outside.status(job_id) == "completed"


def test_hundreds_of_stops_at_random_moments_are_all_heard():
    # Nothing listens there, so that starting takes as long as a worker needs to put itself together.
    with SpooledClient(api_key="sp_test_nobody-listens", base_url="http://127.0.0.1:9") as client:
        worker = plain(client)
        for number in range(200):
            starting = threading.Thread(target=worker.start, daemon=True)
            starting.start()
            spins = (number % 20) * 50
            while worker.state in ("idle", "stopped") and starting.is_alive():
                pass
            for _ in range(spins):
                pass
            worker.stop(0.0)
            starting.join(HOPELESS)
            assert not starting.is_alive(), f"the stop of try {number} was lost"


PROGRAM = """
import os, signal, sys, threading
from spooled import SpooledClient
from spooled.worker import SpooledWorker, WorkerGroup, run_workers, _base_worker, _io_thread, _worker_run, group

client = SpooledClient(api_key=sys.argv[1], base_url=sys.argv[2])
worker = SpooledWorker(client, "q", poll_interval=0.05)
worker.process(lambda ctx: None)
where, name = sys.argv[4].split(":")
where = eval(where)
original = getattr(where, name)
once = []

def watched(*args, **options):
    if not once:
        once.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
    return original(*args, **options)

setattr(where, name, watched)
if sys.argv[3] == "run_workers":
    run_workers(worker)
else:
    subject = worker if sys.argv[3] == "worker" else WorkerGroup(worker)
    signal.signal(signal.SIGTERM, lambda *_: subject.stop())
    subject.start()
print(worker.state.value)
"""


@pytest.mark.parametrize("kind", ["worker", "group", "run_workers"])
@pytest.mark.parametrize(
    "place",
    [
        "_base_worker:Engine",
        "_worker_run.WorkerRun:bind",
        "_io_thread.IoThread:start",
        "_worker_run.WorkerRun:launched",
    ],
)
def test_a_signal_handler_may_stop_at_any_moment_of_a_start(kind: str, place: str, server: EmbeddedServer):
    command = [sys.executable, "-c", PROGRAM, server.api_key, server.url, kind, place]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HOPELESS, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped\n", "")


def test_a_signal_that_comes_right_after_its_handler_was_installed_is_heard(
    client: SpooledClient, monkeypatch: pytest.MonkeyPatch
):
    worker = plain(client)
    original = signal.signal
    installed: list[int] = []

    def install(number: int, handler: Any) -> Any:
        before = original(number, handler)
        if not installed:
            installed.append(number)
            os.kill(os.getpid(), number)
        return before

    monkeypatch.setattr(signal, "signal", install)
    group.run_workers(worker)
    assert worker.state == "stopped"


def test_the_end_of_a_block_stops_a_worker_that_is_still_starting():
    with SpooledClient(api_key="sp_test_nobody-listens", base_url="http://127.0.0.1:9") as client:
        worker = SpooledWorker(client, "q", auto_start=True, **QUICK)
        worker.process(lambda ctx: None)
        worker.stop()
        assert worker.state == "stopped"
        with worker:
            pass
        assert worker.state == "stopped"
