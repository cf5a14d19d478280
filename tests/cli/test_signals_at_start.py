"""A signal at any moment of a worker's start ends it, whatever the server does."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Spawn
from tests.ports import free_port
from tests.waiting import HOPELESS

WORKERS = """
import time
from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, SpooledWorker, WorkerGroup

print("importing", flush=True)
IMPORT
options = {"poll_interval": 0.1, "shutdown_timeout": 1.0}
threads = SpooledWorker(SpooledClient(), "q", **options)
threads.process(lambda ctx: None)
coroutines = AsyncSpooledWorker(AsyncSpooledClient(), "q", **options)
coroutines.process(lambda ctx: None)
other = SpooledWorker(SpooledClient(), "other", **options)
other.process(lambda ctx: None)
group = WorkerGroup(threads, other)
print("imported", flush=True)
"""


@contextlib.contextmanager
def frozen() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server that takes connections and never says a word; its address, and what waits for a request."""
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as connections:

        def requested() -> None:
            listening.settimeout(HOPELESS)
            connection = connections.enter_context(listening.accept()[0])
            assert connection.recv(1)

        yield f"http://127.0.0.1:{listening.getsockname()[1]}", requested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_during_the_import(spawn: Spawn, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "tasks.py").write_text(WORKERS.replace("IMPORT", "time.sleep(1000)"), encoding="utf-8")
    process = spawn("worker", "tasks:threads")
    process.wait_for("importing")
    process.send(number)
    assert process.finish().code in (-number, 128 + number)


@pytest.mark.parametrize("target", ["threads", "coroutines", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("answer", ["frozen", "refusing"])
def test_before_it_is_registered(
    spawn: Spawn, tmp_path: Path, answer: str, target: str, number: signal.Signals
) -> None:
    (tmp_path / "tasks.py").write_text(WORKERS.replace("IMPORT", ""), encoding="utf-8")
    with frozen() as (address, requested):
        if answer == "refusing":
            address = f"http://127.0.0.1:{free_port()}"
        process = spawn(
            "worker", f"tasks:{target}", "--wait", "1000", SPOOLED_BASE_URL=address, SPOOLED_TIMEOUT="1000"
        )
        process.wait_for("imported")
        if answer == "refusing":
            process.wait_for("trying again")
        else:
            requested()
        process.send(number)
        result = process.finish()
    assert result.code == 0
    assert "Traceback" not in result.err
