"""Only what has begun counts as a delivery: a task that kills its worker takes none with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Producer
from kombu.pools import reset as reset_pools

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import url_of
from tests.kombu.test_celery import Project
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

APP = """
import json, os, signal, time
from pathlib import Path

import spooled_contrib.kombu
from celery import Celery

HERE = Path(__file__).parent
app = Celery("app", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND"))
app.conf.update(worker_prefetch_multiplier=32)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))

def note(*words):
    with open(HERE / "notes", "a") as file:
        file.write(json.dumps(words) + "\\n")

@app.task
def harmless(number):
    note("harmless", number)

@app.task
def kill(what):
    note("kill")
    while what != "child" and not (HERE / "armed").exists():
        time.sleep(0.01)
    os.kill(os.getppid() if what == "main" else os.getpid(), signal.SIGKILL)
"""
HARMLESS = 8


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """Leases only end when a test says so."""
    with EmbeddedServer(clock=ManualClock(time.time())) as running:
        yield running


def project_of(folder: Path, server: EmbeddedServer, redeliveries: int) -> Project:
    made = Project(folder, url_of(server, f"poll=0.1&redeliveries={redeliveries}"))
    (folder / "app.py").write_text(APP, encoding="utf-8")
    return made


def kills(project: Project) -> int:
    return sum(note[0] == "kill" for note in project.notes)


def ran(project: Project) -> list[int]:
    return sorted(note[1] for note in project.notes if note[0] == "harmless")


def send(project: Project, what: str) -> None:
    """The one that kills, and the others. From this process: starting one takes long."""
    with Celery("sender", broker=project.broker, set_as_current=False) as app:
        app.send_task("app.kill", (what,), priority=9)
        for number in range(HARMLESS):
            app.send_task("app.harmless", (number,))
    reset_pools()


CONF: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
}


@pytest.mark.parametrize(("pool", "redeliveries"), [("prefork", 1), ("solo", 2), ("threads", 1), ("solo", 0)])
def test_a_task_that_kills_its_worker_again_and_again_takes_no_other_with_it(
    server: EmbeddedServer, outside: Outside, tmp_path: Path, pool: str, redeliveries: int
) -> None:
    project = project_of(tmp_path, server, redeliveries)
    what = "main" if pool == "prefork" else "itself"
    send(project, what)
    for round_ in range(redeliveries + 1):
        with project.worker(pool, "-c", "1", **CONF) as running:
            wait_until(lambda round_=round_: kills(project) == round_ + 1, running.log)
            wait_until(lambda: outside.counts("celery")["processing"] == 1 + HARMLESS, running.log)
            assert ran(project) == []
            (tmp_path / "armed").touch()
            running.wait()
        (tmp_path / "armed").unlink()
        server.advance(60)
    with project.worker(pool, "-c", "1", **CONF) as running:
        wait_until(lambda: len(ran(project)) == HARMLESS, running.log)
        wait_until(lambda: outside.counts("celery")["deadletter"] == 1, running.log)
        wait_until(lambda: not outside.counts("celery")["processing"], running.log)
        counts = outside.counts("celery")
    assert ran(project) == list(range(HARMLESS))
    assert kills(project) == redeliveries + 1
    assert (counts["pending"], counts["scheduled"], counts["deadletter"]) == (0, 0, 1)
    (dead,) = outside.http.get("/jobs/dlq").json()
    assert dead["job_type"] == "app.kill"
    assert f"it may come back {redeliveries} times" in dead["last_error"]


@pytest.mark.parametrize("backend", [None, "spooled://"])
def test_a_task_that_kills_its_child_is_not_requeued_for_ever(
    server: EmbeddedServer,
    outside: Outside,
    tmp_path: Path,
    backend: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `task_reject_on_worker_lost`, Celery gives it back each time, and says nothing of how often."""
    conf = {**CONF, "task_ignore_result": backend is None}
    if backend is not None:
        monkeypatch.setenv("BACKEND", backend)
    project = project_of(tmp_path, server, 2)
    send(project, "child")
    with project.worker("prefork", "-c", "1", **conf) as running:
        wait_until(lambda: outside.counts("celery")["deadletter"] == 1, running.log)
        wait_until(lambda: len(ran(project)) == HARMLESS, running.log)
    assert kills(project) == 3
    assert ran(project) == list(range(HARMLESS))


def lose(server: EmbeddedServer, outside: Outside, queue_name: str) -> None:
    """What a worker does that dies with what it has fetched."""
    claim = {"queue_name": queue_name, "worker_id": "dies", "limit": 100}
    assert outside.http.post("/jobs/claim", json=claim).json()["jobs"]
    server.advance(60)


def get(channel: Any, queue: str) -> Any:
    """The next message; it may come as a copy first."""
    found: list[Any] = []
    wait_until(lambda: found.append(channel.basic_get(queue)) or found[-1])
    return found[-1]


def test_what_was_only_fetched_may_be_lost_any_number_of_times(
    server: EmbeddedServer, outside: Outside
) -> None:
    url = url_of(server, "poll=0.1&redeliveries=2")
    with Connection(url) as connection, connection.channel() as channel:
        Producer(channel, auto_declare=False).publish("x", routing_key="fetched")
        for _ in range(4):
            for _ in range(3):
                lose(server, outside, "fetched")
            # It is counted now, and comes again as if it had never been lost.
            message = get(channel, "fetched")
            assert message.delivery_info["redelivered"]
            message.requeue()
            wait_until(lambda: outside.counts("fetched")["pending"] == 1)
        get(channel, "fetched").ack()
        wait_until(lambda: not outside.counts("fetched")["processing"])
    assert outside.counts("fetched")["deadletter"] == 0


def test_a_message_that_was_begun_too_often_is_a_dead_letter(
    server: EmbeddedServer, outside: Outside
) -> None:
    """A consumer of kombu's own begins when it gets the message."""
    url = url_of(server, "poll=0.1&redeliveries=1")
    with Connection(url) as connection, connection.SimpleQueue("begun") as queue:
        queue.put("x")
    for _ in range(2):
        # It is not given back: the connection is left as if its process had died.
        connection = Connection(url)
        channel = connection.channel()
        get(channel, "begun")
        channel._held.clear()
        connection.transport.manager._held.clear()
        connection.close()
        server.advance(60)
    with Connection(url) as connection, connection.channel() as channel:
        wait_until(lambda: not channel.basic_get("begun") and outside.counts("begun")["deadletter"] == 1)


def test_marks_are_only_made_for_what_has_come_back(server: EmbeddedServer, outside: Outside) -> None:
    with Connection(url_of(server)) as connection, connection.SimpleQueue("quick") as queue:
        queue.put("x")
        queue.get(timeout=HOPELESS).ack()
        wait_until(lambda: outside.counts("quick")["completed"] == 1)
    assert outside.counts("kombu-begun")["total"] == 0
