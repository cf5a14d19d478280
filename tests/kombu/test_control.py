"""Remote control and events: broadcast over Spooled's queues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.pools import reset as reset_pools

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import drain_until, url_of
from tests.kombu.test_celery import Project
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


@pytest.fixture
def project(server: EmbeddedServer, tmp_path: Path) -> Project:
    return Project(tmp_path, url_of(server))


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[Celery]:
    made = Celery("control", broker=url_of(server), set_as_current=False)
    yield made
    made.pool.force_close_all()
    made.close()
    reset_pools()


def test_a_broadcast_reaches_every_process(server: EmbeddedServer) -> None:
    exchange = Exchange("news", "fanout")
    got: list[str] = []
    with (
        Connection(url_of(server)) as one,
        Connection(url_of(server, "poll=0.2")) as two,
        one.channel() as channel,
    ):
        other = two.channel()
        queue = Queue("readers.two", exchange, auto_delete=True)
        with Consumer(other, [queue], no_ack=True, callbacks=[lambda body, message: got.append(body)]):
            exchange(channel).declare()
            Producer(channel, exchange=exchange).publish("extra", declare=[exchange])
            drain_until(two, lambda: got)
        assert got == ["extra"]
        other.close()


def test_broadcasts_that_are_given_back_still_expire(server: EmbeddedServer, outside: Outside) -> None:
    """Who would have read them is gone with its channel."""
    queue = Queue("readers.gone", Exchange("news", "fanout"), auto_delete=True)
    got: list[int] = []
    with Connection(url_of(server)) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [queue], callbacks=[lambda body, message: got.append(body)])
        consumer.consume()
        for number in range(3):
            Producer(channel, exchange=queue.exchange).publish(number)
        drain_until(connection, lambda: len(got) == 1)
        wait_until(lambda: outside.counts("readers.gone")["processing"] == 3)
        channel.close()
        wait_until(lambda: outside.counts("readers.gone")["pending"] == 3)
    left = outside.http.get("/jobs", params={"queue_name": "readers.gone", "status": "pending"}).json()
    assert all(outside.job(job["id"])["expires_at"] for job in left)


@pytest.fixture
def worker(project: Project) -> Iterator[Process]:
    with project.worker("threads", "-n", "one@test") as running:
        running.wait_for("one@test ready")
        yield running


def test_inspect(project: Project, app: Celery, worker: Process) -> None:
    inspect = app.control.inspect(timeout=3)
    assert inspect.ping() == {"one@test": {"ok": "pong"}}, worker.log
    project.send("gate.delay('x')")
    wait_until(lambda: project.notes)
    (active,) = inspect.active()["one@test"]
    assert active["name"] == "app.gate"
    assert "app.add" in inspect.registered()["one@test"]
    (project.folder / "open").touch()


def test_a_worker_answers_while_all_of_its_children_are_busy(project: Project, app: Celery) -> None:
    with project.worker("prefork", "-n", "one@test") as running:
        running.wait_for("one@test ready")
        project.send("for n in range(8): gate.delay(n)")
        wait_until(lambda: len(project.notes) == 2, running.log)
        assert app.control.inspect(timeout=3).ping() == {"one@test": {"ok": "pong"}}, running.log
        (project.folder / "open").touch()
        wait_until(lambda: sum(note[0] == "end" for note in project.notes) == 8, running.log)


def test_revoke_and_shutdown(project: Project, app: Celery, worker: Process, outside: Outside) -> None:
    app.control.revoke("doomed", reply=True, timeout=3)
    project.send("add.apply_async((1, 2), task_id='doomed')", "add.delay(3, 4)")
    wait_until(lambda: project.notes, worker.log)
    wait_until(lambda: outside.counts("celery")["completed"] == 2)
    assert project.notes == [["add", 3, 4]]
    assert "Discarding revoked task" in worker.log
    app.control.shutdown()
    assert worker.wait() == 0


def test_a_command_that_waits_for_no_answer_arrives(
    project: Project, app: Celery, worker: Process, outside: Outside
) -> None:
    app.AsyncResult("doomed").revoke()
    app.control.broadcast(
        "rate_limit", arguments={"task_name": "app.add", "rate_limit": "100/s"}, timeout=None
    )
    wait_until(lambda: "New rate limit for tasks of type app.add" in worker.log, worker.log)
    project.send("add.apply_async((1, 2), task_id='doomed')", "add.delay(3, 4)")
    wait_until(lambda: outside.counts("celery")["completed"] == 2)
    wait_until(lambda: project.notes, worker.log)
    assert project.notes == [["add", 3, 4]]


def test_events(project: Project, app: Celery) -> None:
    seen: list[dict[str, Any]] = []
    with (
        project.worker("threads", "-n", "one@test", "-E") as running,
        app.connection_for_read() as connection,
    ):
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})

        def capture() -> None:
            receiver.capture(limit=None, timeout=HOPELESS, wakeup=False)

        listening = threading.Thread(target=capture, daemon=True)
        listening.start()
        wait_until(lambda: any(event["type"] == "worker-heartbeat" for event in seen), running.log)
        project.send("add.delay(1, 2)")
        wait_until(lambda: any(event["type"] == "task-succeeded" for event in seen), running.log)
        receiver.should_stop = True
        listening.join(HOPELESS)


def test_it_can_be_turned_off(project: Project, app: Celery, outside: Outside) -> None:
    conf = {"worker_enable_remote_control": False}
    with project.worker("threads", "--without-heartbeat", **conf) as running:
        running.wait_for(" ready.")
        assert app.control.inspect(timeout=0.5).ping() is None
    queues = {job["queue_name"] for job in outside.http.get("/jobs").json()}
    assert not any("pidbox" in queue and "reply" not in queue for queue in queues)


def test_an_event_waits_for_no_server_and_arrives_when_there_is_one(tmp_path: Path) -> None:
    events = Exchange("celeryev", "topic", durable=True)
    got: list[str] = []
    with EmbeddedServer(db=str(tmp_path / "jobs.db")) as server, Connection(url_of(server)) as connection:
        listening = connection.channel()
        queue = Queue("celeryev.somebody", events, routing_key="#", auto_delete=True, durable=False)
        with Consumer(listening, [queue], no_ack=True, callbacks=[lambda body, _: got.append(body)]):
            channel = connection.channel()
            producer = Producer(channel, exchange=events)
            producer.publish("before", routing_key="worker.online", declare=[events])
            drain_until(connection, lambda: "before" in got)
            server.stop()
            producer.publish("meanwhile", routing_key="worker.heartbeat", retry=True)
            server.start()
            drain_until(connection, lambda: "meanwhile" in got)
        listening.close()
        channel.close()
    assert got == ["before", "meanwhile"]
