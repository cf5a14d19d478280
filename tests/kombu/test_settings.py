"""Celery's settings on Spooled: each test is one or more rows of the table in docs/celery.md."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

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
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Queue

HERE = Path(__file__).parent
app = Celery("app", broker=os.environ["BROKER"], backend="spooled://")
app.conf.update(json.loads(os.environ.get("CONF", "{}")))

def note(*words):
    with open(HERE / "notes", "a") as file:
        file.write(json.dumps(words) + "\\n")

@app.task(bind=True)
def tell(self, *words):
    info = self.request.delivery_info
    note("tell", *words, info["routing_key"], info["priority"])

@app.task
def fail():
    raise ValueError("no")

@app.task
def hang():
    while True:
        time.sleep(0.05)

@app.task
def soft():
    try:
        while True:
            time.sleep(0.05)
    except SoftTimeLimitExceeded:
        note("soft")

@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def die_once(self):
    note("die", bool(self.request.delivery_info["redelivered"]))
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)

@app.task(rate_limit="2/s")
def rare(n):
    note("rare", n, time.monotonic())

@app.task
def gate():
    note("begin")
    while not (HERE / "open").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def project(server: EmbeddedServer, tmp_path: Path) -> Project:
    made = Project(tmp_path, url_of(server))
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return made


def jobs(outside: Outside, **query: Any) -> list[dict[str, Any]]:
    return [outside.job(one["id"]) for one in outside.http.get("/jobs", params=query).json()]


def result_of(outside: Outside, task_id: str) -> dict[str, Any]:
    (job,) = jobs(outside, tag=f"id:{task_id}", queue_name="celery")
    meta: dict[str, Any] = json.loads(job["result"]["celery"])
    return meta


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2"])
def test_serializers_and_compression(
    connection: Connection, serializer: str, compression: str | None
) -> None:
    body = {"text": "ü" * 100, "list": [1, 2.5, None]}
    with connection.SimpleQueue("packed", serializer=serializer, compression=compression) as queue:
        queue.consumer.accept = {f"application/{'x-python-serialize' if serializer == 'pickle' else 'json'}"}
        queue.put(body)
        message = queue.get(timeout=HOPELESS)
        assert message.payload == body
        message.ack()


def test_queues_routes_and_priorities(project: Project, outside: Outside) -> None:
    conf = {
        "task_default_queue": "main queue",
        "task_default_priority": 3,
        "task_routes": {"app.fail": {"queue": "failing"}},
        "task_queue_max_priority": 10,
        "broker_transport_options": {"visibility_timeout": 3600, "queue_order_strategy": "priority"},
        "worker_prefetch_multiplier": 1,
    }
    project.send("tell.delay('default')", "tell.apply_async(('urgent',), priority=9)", "fail.delay()", **conf)
    assert {job["queue_name"] for job in jobs(outside)} == {"main..20queue", "failing"}
    with project.worker("solo", "-Q", "main queue,failing", **conf) as running:
        wait_until(lambda: len(project.notes) == 2, running.log)
        wait_until(lambda: outside.counts("failing")["completed"] == 1, running.log)
    # In the order of their priorities, whatever the order of sending.
    assert project.notes == [["tell", "urgent", "main queue", 9], ["tell", "default", "main queue", 3]]


def test_time_limits_and_a_lost_child(project: Project, outside: Outside) -> None:
    project.send(
        "hang.apply_async(time_limit=1, task_id='hard')",
        "soft.apply_async(soft_time_limit=0.5, task_id='soft')",
        "die_once.delay()",
    )
    with project.worker("prefork") as running:
        wait_until(lambda: outside.counts("celery")["completed"] >= 4, running.log)
        wait_until(lambda: sum(note[0] == "die" for note in project.notes) == 2, running.log)
    assert result_of(outside, "hard")["result"]["exc_type"] == "TimeLimitExceeded"
    assert result_of(outside, "soft")["status"] == "SUCCESS"
    assert [note[1] for note in project.notes if note[0] == "die"] == [False, True]


def test_what_is_acked_when_a_task_fails(project: Project, outside: Outside) -> None:
    conf = {"task_acks_late": True, "task_acks_on_failure_or_timeout": False, "task_ignore_result": True}
    project.send("fail.delay()", **conf)
    with project.worker("solo", **conf) as running:
        wait_until(lambda: outside.counts("celery")["completed"] == 1, running.log)
    (job,) = jobs(outside, queue_name="celery")
    assert job["result"] == {"spooled": {"outcome": "rejected"}}


def test_states_and_what_results_say(project: Project, outside: Outside) -> None:
    conf = {"result_extended": True, "task_track_started": True}
    project.send("gate.apply_async(task_id='gated')", **conf)
    status = "print(app.AsyncResult('gated').status)"
    assert project.send(status, **conf) == "PENDING\n"
    with project.worker("threads", **conf) as running:
        wait_until(lambda: project.notes, running.log)
        assert project.send(status, **conf) == "STARTED\n"
        (project.folder / "open").touch()
        wait_until(lambda: outside.counts("celery")["completed"] == 1, running.log)
        assert project.send(status, **conf) == "SUCCESS\n"
    meta = result_of(outside, "gated")
    assert (meta["name"], meta["queue"]) == ("app.gate", "celery")


def test_rate_limits_hold_tasks_without_losing_them(project: Project, outside: Outside) -> None:
    project.send("for n in range(4): rare.delay(n)")
    with project.worker("threads") as running:
        wait_until(lambda: outside.counts("celery")["completed"] == 4, running.log)
    times = sorted(note[2] for note in project.notes)
    # Two a second: the fourth cannot begin before one and a half second's worth of tokens has come.
    assert times[-1] - times[0] >= 0.9
    assert outside.counts("celery")["deadletter"] == 0


def test_a_worker_leaves_gossip_and_mingle_out(project: Project) -> None:
    with project.worker("solo") as running:
        running.wait_for(" ready.")
        assert "mingle" not in running.log
        assert "gossip" not in running.log.lower()


def test_commands_that_look_at_queues(project: Project, outside: Outside) -> None:
    project.send("for n in range(3): tell.delay(n)")
    assert "3" in project.celery("purge", "-f")
    assert outside.counts("celery")["pending"] == 0
    task_id = project.celery("call", "app.tell", "--args", '["by hand"]').strip()
    (job,) = jobs(outside, tag=f"id:{task_id}")
    assert job["payload"]["job_type"] == "app.tell"


def test_eager_tasks_need_no_server(tmp_path: Path) -> None:
    project = Project(tmp_path, "spooled+http://:sp_test_0123456789@127.0.0.1:9")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    with warnings.catch_warnings():
        assert project.send("print(tell.delay('now').status)", task_always_eager=True) == "SUCCESS\n"
