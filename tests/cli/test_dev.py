"""`spooled dev`: everything in one terminal."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled_contrib.server import DEVELOPMENT_KEY
from tests.processes import Process
from tests.waiting import wait_until

WORKER = """
from spooled import SpooledClient
from spooled.worker import SpooledWorker

worker = SpooledWorker(SpooledClient(), "emails")

@worker.process
def send(ctx):
    print("sent to", ctx.payload["to"])
"""

SLOW = """
import threading, time
from spooled import SpooledClient
from spooled.worker import SpooledWorker

worker = SpooledWorker(SpooledClient(), "emails", shutdown_timeout=60)

@worker.process
def send(ctx):
    print("begun")
    ctx.signal.wait()
    print("cut off")
"""

needs_watchfiles = pytest.mark.skipif(
    "CI" not in os.environ and __import__("importlib.util").util.find_spec("watchfiles") is None,
    reason="the package watchfiles is not installed",
)


@contextmanager
def dev(folder: Path, *arguments: str) -> Iterator[Process]:
    with Process("-m", "spooled", "dev", "--port", "0", *arguments, cwd=folder) as running:
        yield running


def url_of(running: Process) -> str:
    return running.find(r"listening on ([^;\s]+)")


def enqueue(url: str, **payload: Any) -> None:
    headers = {"Authorization": f"Bearer {DEVELOPMENT_KEY}"}
    body = {"queue_name": "emails", "payload": payload}
    assert httpx.post(f"{url}/api/v1/jobs", json=body, headers=headers).status_code == 201


def test_a_server_alone_says_how_to_use_it(tmp_path: Path) -> None:
    with dev(tmp_path) as running:
        url = url_of(running)
        running.wait_for("spooled dev MODULE:WORKER")
        assert f"export SPOOLED_BASE_URL={url}" in running.log
        assert f"export SPOOLED_API_KEY={DEVELOPMENT_KEY}" in running.log
        enqueue(url, to="nobody")
        running.send(signal.SIGINT)
        assert running.wait() == 0


@needs_watchfiles
def test_a_worker_runs_jobs_and_restarts_when_its_file_changes(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(WORKER)
    with dev(tmp_path, "tasks:worker") as running:
        url = url_of(running)
        running.wait_for("started on queue emails")
        enqueue(url, to="ada")
        running.wait_for("worker | sent to ada")
        (tmp_path / "tasks.py").write_text(WORKER.replace("sent to", "posted to"))
        running.wait_for("started on queue emails", times=2)
        enqueue(url, to="grace")
        running.wait_for("worker | posted to grace")
        running.terminate()
        assert running.wait() == 0
    assert "stopped (graceful)" in running.log


def test_the_second_signal_cuts_jobs_off(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(SLOW)
    with dev(tmp_path, "--no-reload", "tasks:worker") as running:
        url = url_of(running)
        running.wait_for("started on queue emails")
        enqueue(url)
        running.wait_for("begun")
        running.send(signal.SIGINT)
        running.wait_for("finishing what runs")
        running.wait_for("once more to stop at once")
        running.send(signal.SIGINT)
        assert running.wait() == 0
    assert "cutting off what runs" in running.log


def test_commands_find_the_server(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(
        "import os\nfor name in ('SPOOLED_BASE_URL', 'SPOOLED_API_KEY', 'CELERY_BROKER_URL'): print(os.environ[name])"
    )
    with dev(tmp_path, "--run", "python3 show.py") as running:
        assert running.wait() == 0
        url = url_of(running)
    assert f"python3 | {url}\n" in running.log
    assert f"python3 | spooled+http://:{DEVELOPMENT_KEY}@{url.partition('//')[2]}\n" in running.log
    assert "has ended by itself (exit code 0)" in running.log


def test_the_first_that_ends_by_itself_ends_all(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(WORKER)
    with dev(tmp_path, "--no-reload", "tasks:worker", "--run", 'python3 -c "raise SystemExit(7)"') as running:
        assert running.wait() == 7
    assert "has ended by itself (exit code 7); stopping the others" in running.log


def test_what_cannot_run_is_told(tmp_path: Path) -> None:
    with dev(tmp_path, "--run", "no-such-program --at all") as running:
        assert running.wait() == 127
    assert "cannot run no-such-program: No such file or directory" in running.log
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with Process("-m", "spooled", "dev", "--port", port, cwd=tmp_path) as running:
            assert running.wait() == 1
        assert f"cannot listen on 127.0.0.1 port {port}" in running.log


def test_jobs_are_kept_in_a_file(tmp_path: Path) -> None:
    for left in (1, 2):
        with dev(tmp_path, "--db", "dev.db") as running:
            url = url_of(running)
            enqueue(url, to="ada")
            headers = {"Authorization": f"Bearer {DEVELOPMENT_KEY}"}
            counts = httpx.get(f"{url}/api/v1/jobs/stats", headers=headers).json()
            assert counts["pending"] == left
            running.terminate()
            assert running.wait() == 0


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    for arguments, said in (
        (["--run", "'open"], "cannot be read"),
        (["--run", ""], "no command"),
        (["--port", "x"], "is not a port"),
    ):
        with Process("-m", "spooled", "dev", *arguments, cwd=tmp_path) as running:
            assert running.wait() == 2
        assert said in running.log


def test_a_worker_that_does_not_exist_ends_it(tmp_path: Path) -> None:
    with dev(tmp_path, "--no-reload", "nothing:worker") as running:
        assert running.wait() == 2
        wait_until(lambda: "worker | spooled: " in running.log)
