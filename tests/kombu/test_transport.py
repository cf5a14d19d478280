"""Channels and queues over a real server."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import drain_until, url_of
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


def test_a_simple_queue(connection: Connection, outside: Outside) -> None:
    with connection.SimpleQueue("simple") as queue:
        queue.put({"n": 1})
        queue.put("text", priority=5)
        queue.put(b"\x00\xff", content_type="application/data", content_encoding="binary")
        assert queue.qsize() == 3
        got = [queue.get(timeout=HOPELESS) for _ in range(3)]
        assert [message.payload for message in got] == ["text", {"n": 1}, b"\x00\xff"]
        assert outside.counts("simple")["processing"] == 3
        for message in got:
            message.ack()
        wait_until(lambda: outside.counts("simple")["completed"] == 3)
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.05)
        with pytest.raises(queue.Empty):
            queue.get(block=False)


def test_text_can_be_read_in_spooled(connection: Connection, outside: Outside) -> None:
    with connection.SimpleQueue("readable") as queue:
        queue.put({"to": "ada"})
        (job,) = outside.http.get("/jobs", params={"queue_name": "readable"}).json()
        assert outside.job(job["id"])["payload"]["kombu"]["body"] == '{"to": "ada"}'
        queue.clear()


def test_direct_and_topic_exchanges(connection: Connection) -> None:
    topics = Exchange("topics", "topic")
    queues = [Queue("q.a", topics, routing_key="a.*"), Queue("q.all", topics, routing_key="#")]
    got: list[tuple[str, str]] = []
    with connection.channel() as channel:
        for queue in queues:
            queue(channel).declare()
        producer = Producer(channel, exchange=topics)
        producer.publish("one", routing_key="a.x")
        producer.publish("two", routing_key="b.x")

        def receive(queue: str) -> Callable[[Any, Any], None]:
            return lambda body, message: (got.append((queue, body)), message.ack())

        with (
            Consumer(channel, queues[:1], callbacks=[receive("a")]),
            Consumer(channel, queues[1:], callbacks=[receive("all")]),
        ):
            drain_until(connection, lambda: len(got) == 3)
    assert sorted(got) == [("a", "one"), ("all", "one"), ("all", "two")]


def test_names_that_spooled_does_not_know(connection: Connection, outside: Outside) -> None:
    with connection.SimpleQueue("celery@web: é") as queue:
        queue.put(1)
        message = queue.get(timeout=HOPELESS)
        message.ack()
    assert message.payload == 1
    wait_until(lambda: outside.counts("celery..40web..3A..20..C3..A9")["completed"] == 1)


def test_prefetch_is_never_exceeded(connection: Connection, outside: Outside) -> None:
    outside.enqueue_many(50, "many")
    held: list[Any] = []
    channel = connection.channel()
    channel.basic_qos(0, 7, False)
    with Consumer(channel, [Queue("many")], callbacks=[lambda body, message: held.append(message)]):
        drain_until(connection, lambda: len(held) == 7)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.05)
        assert (len(held), outside.counts("many")["processing"]) == (7, 7)
        # Acks come from other threads, and each makes room.
        thread = threading.Thread(target=held[0].ack)
        thread.start()
        thread.join()
        drain_until(connection, lambda: len(held) == 8)
        for message in held[1:]:
            message.ack()
        drain_until(connection, lambda: len(held) == 15)
        assert outside.counts("many")["processing"] <= 7
    channel.close()
    # What was held goes back, and costs no attempt.
    wait_until(lambda: outside.counts("many")["processing"] == 0)
    assert outside.counts("many")["pending"] == 42


def test_queues_have_equal_shares(connection: Connection, outside: Outside) -> None:
    outside.enqueue_many(100, "full")
    outside.enqueue_many(10, "small")
    order: list[str] = []
    channel = connection.channel()
    channel.basic_qos(0, 10, False)

    def receive(name: str) -> Callable[[Any, Any], None]:
        return lambda body, message: (order.append(name), message.ack())

    with (
        Consumer(channel, [Queue("full")], callbacks=[receive("full")]),
        Consumer(channel, [Queue("small")], callbacks=[receive("small")]),
    ):
        drain_until(connection, lambda: order.count("small") == 10)
    assert order.count("full") < 40
    channel.close()


def test_a_message_whose_job_was_completed_meanwhile_is_not_given_back(
    connection: Connection, outside: Outside
) -> None:
    """As by a child of a pool that has stored the result and died before it could say so."""
    with connection.SimpleQueue("rejects") as queue:
        queue.put("x")
        message = queue.get(timeout=HOPELESS)
        (job_id,) = [job["id"] for job in outside.http.get("/jobs?queue_name=rejects").json()]
        job = outside.job(job_id)
        ack = {"worker_id": job["assigned_worker_id"], "lease_id": job["lease_id"], "result": "done"}
        assert outside.http.post(f"/jobs/{job_id}/complete", json=ack).status_code == 200
        message.requeue()
        wait_until(lambda: outside.counts("rejects")["cancelled"] == 1, "the copy is taken back")
    assert outside.job(job_id)["result"] == "done"
    assert outside.counts("rejects")["pending"] == 0


def test_reject_and_requeue(connection: Connection, outside: Outside) -> None:
    with connection.SimpleQueue("rejects") as queue:
        queue.put("x", priority=3)
        first = queue.get(timeout=HOPELESS)
        assert not first.delivery_info.get("redelivered")
        first.requeue()
        second = queue.get(timeout=HOPELESS)
        assert second.payload == "x"
        assert second.delivery_info["redelivered"]
        assert second.delivery_tag != first.delivery_tag
        assert second.properties["priority"] == 3
        second.reject()
        wait_until(lambda: outside.counts("rejects")["processing"] == 0)
    assert outside.counts("rejects")["completed"] == 2
    results = [
        outside.job(job["id"])["result"]["spooled"]["outcome"]
        for job in outside.http.get("/jobs", params={"queue_name": "rejects"}).json()
    ]
    assert sorted(results) == ["rejected", "requeued"]


def test_without_acks(connection: Connection, outside: Outside) -> None:
    outside.enqueue_many(3, "fast")
    got: list[Any] = []
    channel = connection.channel()
    assert channel.basic_get("fast", no_ack=True) is not None
    with Consumer(channel, [Queue("fast")], no_ack=True, callbacks=[lambda body, message: got.append(body)]):
        drain_until(connection, lambda: len(got) == 2)
    wait_until(lambda: outside.counts("fast")["completed"] == 3)
    channel.close()


def test_purge_and_an_empty_get(connection: Connection, outside: Outside) -> None:
    outside.enqueue_many(120, "waste")
    outside.enqueue("waste", scheduled_at="2099-01-01T00:00:00Z")
    channel = connection.channel()
    assert channel.queue_purge("waste") == 121
    assert channel.basic_get("waste") is None
    assert outside.counts("waste")["cancelled"] == 121


def test_a_cancelled_consumer_gives_back_what_it_has_not_delivered(
    connection: Connection, outside: Outside
) -> None:
    outside.enqueue_many(20, "left")
    got: list[Any] = []
    channel = connection.channel()
    with Consumer(channel, [Queue("left")], callbacks=[lambda body, message: (got.append(1), message.ack())]):
        drain_until(connection, lambda: got)
    wait_until(lambda: outside.counts("left")["processing"] == 0)
    assert outside.counts("left")["pending"] == 20 - len(got)
    channel.close()


def test_a_message_that_comes_back_while_it_is_worked_on_is_not_delivered_twice() -> None:
    """As after an outage that was longer than the lease: the server gives the messages to whoever asks."""
    with EmbeddedServer(clock=ManualClock()) as server, Connection(url_of(server)) as connection:
        outside = Outside(server)
        jobs = outside.enqueue_many(5, "slow")
        held: list[Any] = []
        channel = connection.channel()
        with Consumer(channel, [Queue("slow")], callbacks=[lambda body, message: held.append(message)]):
            drain_until(connection, lambda: len(held) == 2)
            wait_until(lambda: outside.counts("slow")["processing"] == 5)
            server.advance(31)
            assert {outside.job(job)["retry_count"] for job in jobs} == {1}
            drain_until(connection, lambda: outside.counts("slow")["processing"] == 5 and len(held) == 5)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.2)
            assert sorted(message.payload["n"] for message in held) == [0, 1, 2, 3, 4]
            for message in held:
                message.ack()
            wait_until(lambda: outside.counts("slow")["completed"] == 5)
        channel.close()
        outside.http.close()


def test_a_message_is_gone_after_its_time_to_live() -> None:
    with EmbeddedServer(clock=ManualClock(time.time())) as server, Connection(url_of(server)) as connection:
        outside = Outside(server)
        with connection.SimpleQueue("short") as queue:
            queue.put(1, expiration=600)
            (job,) = outside.http.get("/jobs", params={"queue_name": "short"}).json()
            assert outside.job(job["id"])["expires_at"] is not None
            server.advance(601)
            with pytest.raises(queue.Empty):
                queue.get(block=False)
        outside.http.close()


def test_an_ack_that_came_too_late_counts_when_the_message_comes_back() -> None:
    with EmbeddedServer(clock=ManualClock()) as server, Connection(url_of(server)) as connection:
        outside = Outside(server)
        (job,) = outside.enqueue_many(1, "late")
        held: list[Any] = []
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        with Consumer(channel, [Queue("late")], callbacks=[lambda body, message: held.append(message)]):
            drain_until(connection, lambda: held)
            server.advance(31)
            held[0].ack()  # refused: the lease is over; then it is claimed again
            drain_until(connection, lambda: outside.status(job) == "completed")
        assert len(held) == 1
        channel.close()
        outside.http.close()


def test_an_outage_neither_loses_nor_doubles(server: EmbeddedServer, outside: Outside, tmp_path: Any) -> None:
    with (
        EmbeddedServer(db=str(tmp_path / "jobs.db")) as lasting,
        Connection(url_of(lasting)) as connection,
    ):
        looking = Outside(lasting)
        looking.enqueue_many(100, "q")
        got: list[int] = []
        channel = connection.channel()
        channel.basic_qos(0, 10, False)

        def receive(body: Any, message: Any) -> None:
            got.append(body["n"])
            if len(got) == 30:
                lasting.stop()
            message.ack()

        with Consumer(channel, [Queue("q")], callbacks=[receive]):
            drain_until(connection, lambda: len(got) >= 30)
            # Also while the server is away: what was fetched is delivered, and nothing is raised but the time-out.
            drain_until(connection, lambda: channel.qos.prefetch_count and not channel._prefetcher._inbox)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.2)
            lasting.start()
            drain_until(connection, lambda: len(got) >= 100)
        channel.close()
        wait_until(lambda: looking.counts("q")["completed"] == 100)
        looking.http.close()
    assert sorted(got) == list(range(100))


def test_what_is_worked_on_stays_with_its_process_through_a_long_outage(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="spooled.kombu")  # whatever others have set
    with (
        EmbeddedServer(db=str(tmp_path / "jobs.db")) as lasting,
        Connection(url_of(lasting, "poll=0.1&lease=5")) as one,
        Connection(url_of(lasting, "poll=0.1&lease=6")) as two,
    ):
        looking = Outside(lasting)
        with one.SimpleQueue("long") as mine, two.SimpleQueue("long") as theirs:
            mine.put("acked meanwhile")
            mine.put("worked on")
            acked, worked_on = mine.get(timeout=HOPELESS), mine.get(timeout=HOPELESS)
            lasting.stop()
            acked.ack()
            wait_until(lambda: "could not be renewed in time" in caplog.text)
            # Longer than both leases, and longer than a running server would need to see it.
            ended = time.monotonic() + 4.0
            wait_until(lambda: time.monotonic() > ended)
            lasting.start()
            wait_until(lambda: looking.counts("long")["completed"] == 1)
            with pytest.raises(theirs.Empty):
                theirs.get(timeout=1)
            worked_on.ack()
            wait_until(lambda: looking.counts("long")["completed"] == 2)
        jobs = looking.http.get("/jobs", params={"queue_name": "long"}).json()
        assert [looking.job(job["id"])["retry_count"] for job in jobs] == [0, 0]
        looking.http.close()


def test_drain_events_never_waits_longer_than_it_may(connection: Connection) -> None:
    with connection.SimpleQueue("empty") as queue:
        queue.consumer.consume()
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.01)


def test_connections_share_one_thread_that_ends_with_the_last(server: EmbeddedServer) -> None:
    def threads() -> int:
        return sum(thread.name == "spooled-kombu" for thread in threading.enumerate())

    before = threads()
    one, two = Connection(url_of(server)), Connection(url_of(server))
    one.connect()
    two.connect()
    assert threads() == before + 1
    one.close()
    with two.SimpleQueue("still") as queue:
        queue.put(1)
    two.close()
    wait_until(lambda: threads() == before)


def _child(url: str, pipe: Any) -> None:
    with Connection(url) as connection, connection.SimpleQueue("forked") as queue:
        queue.put(os.getpid())
    pipe.send("done")


def test_a_forked_child_has_a_manager_of_its_own(server: EmbeddedServer, outside: Outside) -> None:
    context = multiprocessing.get_context("fork")
    with Connection(url_of(server)) as connection, connection.SimpleQueue("forked") as queue:
        queue.put("parent")
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(url_of(server), theirs))
        child.start()
        assert ours.poll(HOPELESS)
        child.join(HOPELESS)
        assert child.exitcode == 0
        got = []
        for _ in range(2):
            message = queue.get(timeout=HOPELESS)
            got.append(message.payload)
            message.ack()
        assert got == ["parent", child.pid]
    child.close()
    ours.close()
    theirs.close()
