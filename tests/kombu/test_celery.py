"""Celery's own worker on Spooled, as processes: every pool, ETAs, retries, ends of all kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import POOLS, url_of
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

APP = """
import json, os, time
from pathlib import Path

import spooled_contrib.kombu
from celery import Celery, chain

HERE = Path(__file__).parent
app = Celery("app", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))

def note(*words):
    with open(HERE / "notes", "a") as file:
        file.write(json.dumps(words) + "\\n")

@app.task(name="app.add")
def add(one, two):
    note("add", one, two)
    return one + two

@app.task(bind=True, max_retries=2)
def flaky(self, until):
    note("flaky", self.request.retries)
    if self.request.retries < until:
        raise self.retry(countdown=0.2)

@app.task(autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=0.1, max_retries=1)
def auto(n):
    note("auto", n)
    raise ValueError("no")

@app.task(acks_late=True)
def gate(name):
    note("begin", name)
    # The test is another process, and lets this go on with a file; nothing but a look says that it is there.
    while not (HERE / "open").exists():
        time.sleep(0.01)
    note("end", name)

@app.task
def spawn(count):
    for number in range(count):
        add.delay("spawned", number)
"""


class Project:
    """An app in a folder, its notes, and its processes."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        (folder / "app.py").write_text(APP, encoding="utf-8")

    @property
    def notes(self) -> list[list[Any]]:
        path = self.folder / "notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def environment(self, **conf: Any) -> dict[str, str]:
        return {**os.environ, "BROKER": self.broker, "CONF": json.dumps(conf)}

    def send(self, *lines: str, **conf: Any) -> str:
        """Run lines of a producer; returns what it has printed."""
        return self._run("-c", "from app import *\n" + "\n".join(lines), **conf)

    def celery(self, *arguments: str, **conf: Any) -> str:
        """Run a command of Celery's; returns what it has printed."""
        return self._run("-m", "celery", "-A", "app", *arguments, **conf)

    def _run(self, *arguments: str, **conf: Any) -> str:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(**conf),
            check=True,
            timeout=HOPELESS,
            stdout=subprocess.PIPE,
            text=True,
        )
        return ended.stdout

    def worker(self, pool: str = "threads", *options: str, **conf: Any) -> Process:
        return worker(self.folder, self.environment(**conf), pool, *options)


def worker(folder: Path, environment: dict[str, str], pool: str, *options: str) -> Process:
    """Celery's worker of the folder's app."""
    command = ["-m", "celery", "-A", "app", "worker", "--pool", pool, "-c", "2", "-l", "info", *options]
    return Process(*command, cwd=folder, environment=environment)


@pytest.fixture
def project(server: EmbeddedServer, tmp_path: Path) -> Project:
    return Project(tmp_path, url_of(server))


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_chains_and_retries(project: Project, outside: Outside, pool: str) -> None:
    project.send(
        "add.delay(1, 2)",
        "chain(add.si(3, 4), add.si(5, 6))()",
        "flaky.delay(2)",
        "auto.delay(1)",
        "spawn.delay(3)",
        "add.apply_async((7, 8), queue='other')",
    )
    expected = [
        *[["add", one, two] for one, two in ((1, 2), (3, 4), (5, 6), (7, 8))],
        *[["add", "spawned", number] for number in range(3)],
        *[["flaky", number] for number in range(3)],
        *[["auto", 1]] * 2,
    ]
    with project.worker(pool, "-Q", "celery,other") as running:
        wait_until(lambda: len(project.notes) >= len(expected), running.log)
        wait_until(lambda: outside.counts("celery")["processing"] == 0)
        running.terminate()
        assert running.wait() == 0
    assert sorted(project.notes, key=str) == sorted(expected, key=str)
    assert "Unrecoverable" not in running.log
    counts = outside.counts("celery")
    assert (counts["pending"], counts["scheduled"], counts["processing"], counts["deadletter"]) == (
        0,
        0,
        0,
        0,
    )


def test_etas_wait_in_the_queue_and_not_in_the_worker(project: Project, outside: Outside) -> None:
    project.send(
        "for n in range(1000): add.apply_async(('later', n), countdown=3600)",
        "add.apply_async(('gone', 0), expires=3600)",
        "add.apply_async(('first', 0), priority=9)",
    )
    assert outside.counts("celery")["scheduled"] == 1000
    with project.worker("threads") as running:
        wait_until(lambda: len(project.notes) == 2, running.log)
        counts = outside.counts("celery")
        running.terminate()
        assert running.wait() == 0
    # Not one of them was even received.
    assert counts["scheduled"] == 1000
    assert running.log.count("received") == 2
    # Which of two threads notes first is up to them.
    assert sorted(note[1] for note in project.notes) == ["first", "gone"]


def test_what_spooled_shows(project: Project, outside: Outside) -> None:
    project.send("add.apply_async((1, 2), expires=3600, task_id='my-id')")
    (job,) = outside.http.get("/jobs", params={"tag": "id:my-id", "queue_name": "celery"}).json()
    assert job["job_type"] == "app.add"
    full = outside.job(job["id"])
    assert full["tags"] == ["task:app.add", "id:my-id", "root:my-id"]
    assert full["expires_at"] is not None
    # More often than it may come back: what was only fetched does not count.
    assert full["max_retries"] > 5


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(
    project: Project, outside: Outside, pool: str
) -> None:
    project.send("for n in range(6): gate.delay(n)")
    with project.worker(pool) as running:
        wait_until(lambda: len(project.notes) == 2, running.log)
        wait_until(lambda: outside.counts("celery")["processing"] == 6)
        running.terminate()
        running.wait_for("Warm shutdown")
        (project.folder / "open").touch()
        assert running.wait() == 0
    done = sorted(note[1] for note in project.notes if note[0] == "end")
    counts = outside.counts("celery")
    assert (counts["processing"], counts["pending"]) == (0, 6 - len(done))
    with project.worker(pool) as running:
        wait_until(lambda: len([note for note in project.notes if note[0] == "end"]) == 6, running.log)
    assert sorted(note[1] for note in project.notes if note[0] == "end") == list(range(6))


def test_a_killed_workers_tasks_run_again_after_the_lease(tmp_path: Path) -> None:
    with EmbeddedServer(clock=ManualClock()) as server:
        outside = Outside(server)
        project = Project(tmp_path, url_of(server))
        project.send("gate.delay('one')", "for n in range(3): add.delay('prefetched', n)")
        with project.worker("solo") as running:
            wait_until(lambda: project.notes, running.log)
            wait_until(lambda: outside.counts("celery")["processing"] == 4)
            running.kill()
        assert project.notes == [["begin", "one"]]
        (tmp_path / "open").touch()
        server.advance(29)
        assert outside.counts("celery")["processing"] == 4
        server.advance(11)
        with project.worker("solo") as running:
            wait_until(lambda: len(project.notes) == 6, running.log)
            wait_until(lambda: outside.counts("celery")["completed"] == 4)
        outside.http.close()
    assert sorted(project.notes[1:], key=str) == sorted(
        [["begin", "one"], ["end", "one"], *[["add", "prefetched", n] for n in range(3)]], key=str
    )


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with EmbeddedServer(db=str(tmp_path / "jobs.db")) as server:
        outside = Outside(server)
        project = Project(tmp_path, url_of(server))
        project.send("for n in range(300): add.delay('n', n)")
        with project.worker("threads") as running:
            wait_until(lambda: len(project.notes) > 50, running.log)
            server.stop()
            running.wait_for("claiming from celery failed")
            server.start()
            # Tasks are acked before they run, so that the last ack says nothing about the last task.
            wait_until(lambda: outside.counts("celery")["completed"] == 300, running.log)
            wait_until(lambda: len(project.notes) >= 300, running.log)
            assert not running.ended
        outside.http.close()
    assert sorted(note[2] for note in project.notes) == list(range(300))


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_ends_when_it_is_told_to_while_its_server_is_away(tmp_path: Path, pool: str) -> None:
    with EmbeddedServer() as server:
        project = Project(tmp_path, url_of(server))
        project.send("gate.delay('x')", "for n in range(20): add.delay('n', n)")
        with project.worker(pool, "-E") as running:
            wait_until(lambda: ["begin", "x"] in project.notes, running.log)
            server.stop()
            (tmp_path / "open").touch()
            # Its heartbeats are events: there is one every two seconds.
            running.wait_for("sending events failed")
            running.terminate()
            assert running.wait() == 0, running.log


def test_a_worker_with_a_wrong_key_says_so_and_ends(project: Project, server: EmbeddedServer) -> None:
    project.broker = project.broker.replace(server.api_key, "sp_test_" + "x" * 40)
    with project.worker("solo") as running:
        assert running.wait() != 0
    assert "Unknown API key" in running.log
    assert "sp_test_" + "x" * 40 not in running.log


def test_an_outage_longer_than_the_leases_doubles_nothing_in_several_processes(tmp_path: Path) -> None:
    with EmbeddedServer(db=str(tmp_path / "jobs.db")) as server:
        outside = Outside(server)
        project = Project(tmp_path, url_of(server, "poll=0.1&lease=5"))
        with project.worker("threads", "-n", "one@x") as one, project.worker("prefork", "-n", "two@x") as two:
            wait_until(lambda: "one@x ready" in one.log and "two@x ready" in two.log)
            project.send("for n in range(2): gate.delay(n)", "for n in range(100): add.delay('n', n)")
            wait_until(lambda: sum(note[0] == "begin" for note in project.notes) == 2, one.log)
            server.stop()
            wait_until(lambda: "could not be renewed in time" in one.log + two.log, one.log)
            (tmp_path / "open").touch()
            server.start()
            wait_until(lambda: outside.counts("celery")["completed"] == 102, one.log)
            wait_until(lambda: len(project.notes) >= 104, one.log)
        outside.http.close()
    ran = sorted(note[2] for note in project.notes if note[0] == "add")
    assert ran == list(range(100))
    assert sorted(note[1] for note in project.notes if note[0] == "begin") == [0, 1]
    assert sorted(note[1] for note in project.notes if note[0] == "end") == [0, 1]
