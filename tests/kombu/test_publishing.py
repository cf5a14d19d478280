"""Publishing and acks through a proxy: what asks to wait, and what is no answer at all."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Producer
from kombu.pools import reset as reset_pools

from spooled.errors import RateLimitError
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import Answer, Cut, Fault, FaultProxy, Request
from tests.kombu.conftest import through
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


def is_publish(request: Request) -> bool:
    return b"kombu" in request.body


def test_publishing_waits_as_long_as_the_server_says(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy
) -> None:
    rule = proxy.on(is_publish, Answer(429, "retry-after: 1\r\n"), times=4)
    app = Celery("producer", broker=through(proxy, server), set_as_current=False)
    app.send_task("app.add", (1, 2))
    app.close()
    reset_pools()
    assert rule.hits == 4  # Celery itself gives up after these
    assert outside.counts("celery")["pending"] == 1


def test_zero_seconds_are_no_reason_to_hurry(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy
) -> None:
    proxy.on(is_publish, Answer(429, "retry-after: 0\r\n"), times=3)
    with Connection(through(proxy, server)) as connection, connection.SimpleQueue("q") as queue:
        queue.put("x")
    assert outside.counts("q")["pending"] == 1


@pytest.mark.parametrize("headers", ["retry-after: 3600\r\n", ""], ids=["too long", "a quota"])
def test_what_waiting_does_not_help_is_told_at_once(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, headers: str
) -> None:
    rule = proxy.on(is_publish, Answer(429, headers))
    with Connection(through(proxy, server)) as connection, connection.channel() as channel:
        with pytest.raises(RateLimitError):
            Producer(channel, auto_declare=False).publish("x", routing_key="q")
        assert rule.hits == 1
    assert outside.counts("q")["total"] == 0


def test_the_time_out_of_the_publisher_counts(server: EmbeddedServer, proxy: FaultProxy) -> None:
    rule = proxy.on(is_publish, Answer(429, "retry-after: 5\r\n"))
    with Connection(through(proxy, server)) as connection, connection.channel() as channel:
        with pytest.raises(RateLimitError):
            Producer(channel, auto_declare=False).publish("x", routing_key="q", timeout=1)
        assert rule.hits == 1


def test_connecting_waits_too(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.on(lambda request: not request.body, Answer(429, "retry-after: 1\r\n"), times=1)
    with Connection(through(proxy, server)) as connection:
        connection.connect()


def test_a_task_costs_one_request(server: EmbeddedServer, outside: Outside, proxy: FaultProxy) -> None:
    """Its queue is declared, and its exchange has a binding, and neither is asked for or told."""
    app = Celery("producer", broker=through(proxy, server), set_as_current=False)
    app.send_task("app.add", (0,))
    before = proxy.seen.total()
    for number in range(5):
        app.send_task("app.add", (number,))
    assert proxy.seen.total() == before + 5
    app.close()
    reset_pools()
    assert outside.counts("celery")["pending"] == 6
    assert outside.counts("kombu-bindings")["total"] == 0


@pytest.mark.parametrize(
    "fault", [Cut(), Answer(503), Answer(502, body="<html>")], ids=["cut", "503", "page"]
)
def test_a_task_that_is_sent_again_is_one_task(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, fault: Fault
) -> None:
    # More than one call of the client tries, so that kombu's own policy has its turn.
    rule = proxy.on(is_publish, fault, times=4)
    app = Celery("producer", broker=through(proxy, server), set_as_current=False)
    app.conf.task_publish_retry_policy = {"interval_start": 0.01, "interval_step": 0, "max_retries": 5}
    app.send_task("app.add", (1, 2))
    assert rule.hits == 4
    assert outside.counts("celery")["total"] == 1
    # But two publishes of one message are two.
    with app.connection_for_write() as connection, connection.channel() as channel:
        producer = Producer(channel, auto_declare=False)
        for _ in range(2):
            producer.publish("kombu", routing_key="q", correlation_id="same", delivery_mode=2)
    assert outside.counts("q")["pending"] == 2
    app.close()
    reset_pools()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 502])
def test_a_page_of_a_proxy_is_no_answer_to_an_ack(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, status: int
) -> None:
    with Connection(through(proxy, server)) as connection, connection.SimpleQueue("q") as queue:
        queue.put("x")
        message = queue.get(timeout=HOPELESS)
        (job_id,) = (one["id"] for one in outside.http.get("/jobs", params={"queue_name": "q"}).json())
        page = Answer(status, "content-type: text/html\r\n", "<html>Who are you?</html>")
        between = proxy.on("complete", page, times=2)
        message.ack()
        wait_until(lambda: outside.status(job_id) == "completed")
        assert between.hits == 2
        # The lease was kept meanwhile: the message did not come back.
        assert outside.job(job_id)["retry_count"] == 0


@pytest.mark.parametrize("lost", [1, 8])
def test_an_ack_whose_answers_are_lost_is_one_ack(
    server: EmbeddedServer,
    outside: Outside,
    proxy: FaultProxy,
    lost: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server then says "already completed", which counts as done, by the core's rule."""
    with Connection(through(proxy, server)) as connection:
        message = only_message(connection)
        rule = proxy.on("complete", Cut(), times=lost)
        message.ack()
        wait_until(lambda: rule.hits == lost)
    assert outside.counts("lossy") == {**outside.counts("lossy"), "completed": 1, "pending": 0}
    assert "too late" not in caplog.text


@pytest.mark.parametrize("lost", [1, 8])
def test_giving_back_whose_answers_are_lost_loses_no_message(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, lost: int
) -> None:
    """The original was completed for the copy by a request whose answer never came, however often it was sent."""
    with Connection(through(proxy, server)) as connection:
        message = only_message(connection)
        rule = proxy.on("complete", Cut(), times=lost)
        message.requeue()
        wait_until(lambda: rule.hits == lost)
    assert outside.counts("lossy") == {
        **outside.counts("lossy"),
        "completed": 1,
        "pending": 1,
        "cancelled": 0,
    }


def test_giving_back_what_a_child_has_completed_makes_no_second_run(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy
) -> None:
    """Also when the answers that say so are lost."""
    with Connection(through(proxy, server)) as connection:
        message = only_message(connection)
        (job_id,) = [job["id"] for job in outside.http.get("/jobs?queue_name=lossy").json()]
        job = outside.job(job_id)
        ack = {"worker_id": job["assigned_worker_id"], "lease_id": job["lease_id"], "result": "done"}
        assert outside.http.post(f"/jobs/{job_id}/complete", json=ack).status_code == 200
        rule = proxy.on("complete", Cut(), times=8)
        message.requeue()
        wait_until(lambda: rule.hits == 8)
    assert outside.job(job_id)["result"] == "done"
    assert outside.counts("lossy") == {
        **outside.counts("lossy"),
        "completed": 1,
        "pending": 0,
        "cancelled": 1,
    }


def only_message(connection: Connection) -> Any:
    """Publish a message and fetch it, without a consumer that would fetch its copy."""
    with connection.SimpleQueue("lossy") as queue:
        queue.put("x")
    channel = connection.channel()
    got: list[Any] = []
    wait_until(lambda: got.append(channel.basic_get("lossy")) or got[-1] is not None)
    return got[-1]
