"""A file that cannot be written: not ready, 503, one line of log, and by itself well again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from spooled_contrib.server import EmbeddedServer
from tests.processes import Process
from tests.server.test_command import arguments, caller, environment
from tests.waiting import wait_until

pytestmark = pytest.mark.sqlite_only

JOB = {"queue_name": "mail", "payload": {"text": "x" * 2000}}
BIG = {"queue_name": "mail", "payload": {"text": "x" * 500_000}}


class Server:
    """A server process on a file, and a client of it."""

    def __init__(self, stack: contextlib.ExitStack, path: Path) -> None:
        self.path = path
        self.process = stack.enter_context(
            Process(*arguments("--port", "0", "--db", str(path)), environment=environment(), apart=True)
        )
        self.url = json.loads(self.process.find(r"(?m)^\{.*\}$"))["url"]
        self.http = stack.enter_context(caller(self.url))

    def ready(self) -> int:
        return self.http.get(self.url + "/health/ready").status_code

    def reason(self) -> str:
        reply = self.http.get(self.url + "/health/ready")
        assert reply.status_code == 503
        assert reply.json()["code"] == "SERVICE_UNAVAILABLE"
        assert str(self.path) not in reply.text
        return str(reply.json()["message"])

    def create(self, job=JOB) -> httpx.Response:
        return self.http.post("/jobs", json=job)

    def refuses(self, job=JOB) -> bool:
        reply = self.create(job)
        if reply.status_code == 201:
            return False
        assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE"), reply.text
        assert int(reply.headers["retry-after"]) > 0
        return True

    def log_lines(self, text: str) -> int:
        return sum(text in line for line in self.process.errors)


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:
        yield lambda path: Server(stack, path)


@pytest.fixture
def server(serve, tmp_path):
    server = serve(tmp_path / "jobs.db")
    assert server.create().status_code == 201
    assert server.ready() == 200
    return server


def goes_through_an_outage(server, reason, job=JOB, causes=1):
    """From ready to not ready; what must hold meanwhile. Each of so many causes, at most, is told once."""
    wait_until(lambda: server.refuses(job), f"writes are refused: {reason}")
    assert reason in server.reason()
    assert server.http.get(server.url + "/health/live").status_code == 200
    health = server.http.get(server.url + "/health")
    assert (health.status_code, health.json()["status"], health.json()["database"]) == (
        200,
        "degraded",
        False,
    )
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda _: server.refuses(job), range(40)))
    lines = [line for line in server.process.errors if "ERROR" in line]
    assert 1 <= len(lines) <= causes, lines
    assert all("the database cannot be used" in line for line in lines)
    assert "Traceback" not in server.process.log


def is_well_again(server, jobs):
    wait_until(lambda: server.ready() == 200, "ready by itself")
    made = server.create()
    assert made.status_code == 201, made.text
    assert server.http.get("/jobs/stats").json()["total"] == jobs + 1
    server.process.wait_for("the database can be used again; ")
    assert int(server.process.find(r"(\d+) requests were refused meanwhile")) >= 41
    assert server.log_lines("ERROR") == 1


def total(server):
    return server.http.get("/jobs/stats").json()["total"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process")
def test_a_file_that_may_not_grow(server):
    import resource

    size = max(name.stat().st_size for name in (server.path, Path(f"{server.path}-wal")))
    resource.prlimit(server.process.popen.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    goes_through_an_outage(server, "the disk", BIG)
    jobs = total(server)
    resource.prlimit(
        server.process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    is_well_again(server, jobs)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if not mounted or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(serve, small_disk):
    with contextlib.ExitStack() as stack:
        server = Server(stack, small_disk / "jobs.db")
        assert server.create().status_code == 201
        assert server.ready() == 200
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
            while True:
                opened.write(b"x" * 4096)
        wait_until(lambda: server.ready() == 503, "a full disk is noticed without any write")
        goes_through_an_outage(server, "the disk is full", BIG)
        jobs = total(server)
        filler.unlink()
        is_well_again(server, jobs)


def test_a_file_that_another_process_locks(server):
    with contextlib.closing(sqlite3.connect(server.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        goes_through_an_outage(server, "another process keeps the database locked")
        # Reading goes on... as far as it is let in: what takes long to fail is refused at once.
        assert server.http.get("/jobs").status_code == 503
        other.execute("ROLLBACK")
    is_well_again(server, 1)


@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal"])
def test_a_file_that_is_moved_away_and_back(server, name):
    path = server.path.with_name(name)
    away = path.with_name("away")
    path.rename(away)
    goes_through_an_outage(server, "deleted, or replaced")
    away.rename(path)
    is_well_again(server, 1)


def test_a_file_that_is_replaced_by_another(server, tmp_path):
    with EmbeddedServer(db=str(tmp_path / "other.db")):
        pass
    (tmp_path / "other.db").rename(server.path)
    wait_until(lambda: server.ready() == 503)
    goes_through_an_outage(server, "deleted, or replaced")


def test_a_deleted_file_is_noticed_by_readiness_alone(server):
    server.path.unlink()
    wait_until(lambda: server.ready() == 503)
    assert "deleted, or replaced" in server.reason()
    assert server.refuses()


def test_a_file_that_is_cut_off(server):
    wait_until(lambda: Path(f"{server.path}-wal").stat().st_size == 0)
    os.truncate(server.path, 4096)
    # What was cut off cannot be read, or reads as damaged, as it comes.
    goes_through_an_outage(server, "", causes=2)
    assert server.ready() == 503


def test_broken_pages_are_found_and_nothing_more_is_written(server):
    for _ in range(20):
        assert server.create(BIG).status_code == 201
    wait_until(lambda: Path(f"{server.path}-wal").stat().st_size == 0)
    with server.path.open("r+b") as opened:
        # Pages of every table and index: all but the first one.
        size = opened.seek(0, os.SEEK_END)
        opened.seek(4096)
        opened.write(os.urandom(size // 2))
    wait_until(lambda: server.ready() == 503, "broken pages are found")
    goes_through_an_outage(server, "damaged")
    server.process.send(signal.SIGTERM)
    assert server.process.wait() == 0
    assert "Traceback" not in server.process.log


def test_a_restart_ends_every_outage(serve, tmp_path):
    server = serve(tmp_path / "jobs.db")
    for _ in range(5):
        assert server.create().status_code == 201
    # Both: what was committed last is in the log.
    server.path.rename(tmp_path / "moved.db")
    Path(f"{server.path}-wal").rename(tmp_path / "moved.db-wal")
    wait_until(lambda: server.ready() == 503)
    server.process.terminate()
    assert server.process.wait() == 0
    again = serve(tmp_path / "moved.db")
    assert total(again) == 5


def test_a_stream_ends_and_sweeps_go_on_without_a_word(server):
    with server.http.stream("GET", "/events/queues/mail") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": connected"
        server.path.unlink()
        wait_until(lambda: server.ready() == 503)
    # Whatever runs by itself each second has failed by the time that the probe has failed often.
    for _ in range(3):
        server.refuses()
    assert server.log_lines("ERROR") == 1
    assert "Traceback" not in server.process.log


def test_an_outage_in_a_program(start_server, connect, tmp_path, caplog):
    caplog.set_level(logging.INFO, "spooled.server")
    path = tmp_path / "jobs.db"
    api = connect(start_server(db=str(path)))
    api.create()
    path.rename(tmp_path / "away.db")
    reply = api.post("/jobs", {"queue_name": "mail", "payload": 1})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    (tmp_path / "away.db").rename(path)
    wait_until(lambda: api.bare("GET", "/health/ready").status_code == 200)
    wait_until(lambda: "can be used again; 1 requests" in caplog.text)
    levels = [record.levelname for record in caplog.records if record.name == "spooled.server.database"]
    assert levels == ["ERROR", "INFO"]


def test_a_directory_that_the_program_leaves_is_no_outage(start_server, connect, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api = connect(start_server(db="jobs.db"))
    monkeypatch.chdir("/")
    api.create()
    assert api.bare("GET", "/health/ready").status_code == 200
