"""Exchanges and bindings that all processes share. Connections with different options share nothing but the server."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import ChannelError
from kombu.pools import reset as reset_pools

from spooled.clock import ManualClock
from spooled_contrib.kombu import _bindings
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import drain_until, url_of
from tests.waiting import wait_until
from tests.worker.conftest import Outside

VIDEO = Queue("video", Exchange("media", "direct"), routing_key="media.video")
_numbers = itertools.count(1)


def another(server: EmbeddedServer) -> Connection:
    """A connection that stands for another process: it has a thread and a memory of its own."""
    return Connection(url_of(server, f"poll={0.1 + next(_numbers) / 1000}"))


def declare(server: EmbeddedServer, *queues: Queue) -> None:
    """Declare them in a process that is gone then."""
    with another(server) as connection, connection.channel() as channel:
        for queue in queues:
            queue(channel).declare()


def publish(server: EmbeddedServer, body: Any, exchange: str, routing_key: str = "", **options: Any) -> None:
    """Publish from a process that has declared nothing."""
    with another(server) as connection, connection.channel() as channel:
        Producer(channel, auto_declare=False).publish(
            body, exchange=exchange, routing_key=routing_key, **options
        )


def waiting(outside: Outside, queue_name: str) -> int:
    return outside.counts(queue_name)["pending"]


@pytest.mark.parametrize(
    ("kind", "bound", "routing_key"),
    [
        ("direct", "media.video", "media.video"),
        ("direct", "media", "media"),
        ("topic", "media.*", "media.video"),
        ("topic", "#", "anything.else"),
        ("fanout", "", "whatever"),
    ],
)
def test_a_process_that_has_declared_nothing_reaches_the_queues_of_others(
    server: EmbeddedServer, outside: Outside, kind: str, bound: str, routing_key: str
) -> None:
    declare(server, Queue("video", Exchange("media", kind), routing_key=bound), Queue("another"))
    publish(server, "x", "media", routing_key)
    assert waiting(outside, "video") == 1
    assert waiting(outside, "another") == 0


def test_queues_of_several_processes_all_get_it(server: EmbeddedServer, outside: Outside) -> None:
    topics = Exchange("topics", "topic")
    declare(server, Queue("one", topics, routing_key="a.*"))
    with another(server) as connection, connection.channel() as channel:
        Queue("two", topics, routing_key="*.b")(channel).declare()
        declare(server, Queue("three", topics, routing_key="a.b"), Queue("four", topics, routing_key="c"))
        Producer(channel, exchange=topics).publish("x", routing_key="a.b")
    assert [waiting(outside, name) for name in ("one", "two", "three", "four")] == [1, 1, 1, 0]


def test_celerys_tasks_arrive_by_exchange_and_routing_key(server: EmbeddedServer, outside: Outside) -> None:
    declare(server, VIDEO)
    with Celery("producer", broker=url_of(server), set_as_current=False) as app:
        app.send_task("app.encode", exchange="media", routing_key="media.video")
        app.send_task("app.encode", exchange="media", routing_key="media.video", exchange_type="topic")
        # Without an exchange, a queue needs no declaration.
        app.send_task("app.encode", exchange="", routing_key="undeclared")
    reset_pools()
    assert waiting(outside, "video") == 2
    assert outside.counts("undeclared")["pending"] + outside.counts("celery")["pending"] == 1


def test_a_queue_with_the_name_of_its_exchange_is_known_when_it_is_consumed(
    server: EmbeddedServer, outside: Outside
) -> None:
    """Celery names queues so, and its producers declare them too: that alone must cost no request."""
    plain = Queue("plain", Exchange("plain"), routing_key="plain")
    declare(server, plain)
    assert outside.counts("kombu-bindings")["total"] == 0
    with another(server) as connection, connection.channel() as channel:
        plain(channel).declare()
        Producer(channel, exchange=plain.exchange).publish("by its own", routing_key="plain")
        with Consumer(channel, [plain]):
            pass
    assert outside.counts("kombu-bindings")["total"] == 1
    publish(server, "by another", "plain", "plain")
    wait_until(lambda: waiting(outside, "plain") == 2)


def test_bindings_last_longer_than_their_process_and_their_server(tmp_path: Path) -> None:
    clock = ManualClock(time.time())
    with EmbeddedServer(db=str(tmp_path / "jobs.db"), clock=clock) as server:
        declare(server, VIDEO, Queue("brief", VIDEO.exchange, routing_key="media.video", auto_delete=True))
        server.advance(30 * 86_400)
        server.stop()
        server.start()
        outside = Outside(server)
        publish(server, "x", "media", "media.video")
        assert waiting(outside, "video") == 1
        assert waiting(outside, "brief") == 0
        outside.http.close()


def test_a_server_that_has_lost_its_memory_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bindings, "ASSURANCE", 0.0)
    monkeypatch.setattr(_bindings, "LOOK", 0.05)
    with EmbeddedServer() as server, another(server) as connection, connection.channel() as channel:
        VIDEO(channel).declare()
        outside = Outside(server)
        (job,) = outside.http.get("/jobs", params={"queue_name": "kombu-bindings"}).json()
        assert outside.http.delete("/queues/kombu-bindings", params={"delete_jobs": "true"}).status_code < 300
        wait_until(lambda: outside.counts("kombu-bindings")["scheduled"] == 1)
        # But what somebody has taken back is not made again.
        (again,) = outside.http.get("/jobs", params={"queue_name": "kombu-bindings"}).json()
        assert again["id"] != job["id"]
        outside.http.delete(f"/jobs/{again['id']}")
        manager = connection.transport.manager
        wait_until(lambda: not manager.bindings._own)
        assert outside.counts("kombu-bindings")["scheduled"] == 0
        outside.http.close()


def test_many_processes_and_many_starts_make_one_job(server: EmbeddedServer, outside: Outside) -> None:
    for _ in range(5):
        declare(server, VIDEO)
    assert outside.counts("kombu-bindings")["total"] == 1
    assert outside.counts("kombu-bindings")["pending"] == 0  # nothing that looks as if it waited for a worker


Undo = Callable[[Any], object]


@pytest.mark.parametrize(
    "undo",
    [
        lambda channel: channel.queue_unbind("video", "media", "media.video"),
        lambda channel: channel.queue_delete("video"),
        lambda channel: channel.exchange_delete("media"),
    ],
    ids=["unbind", "delete the queue", "delete the exchange"],
)
@pytest.mark.parametrize("knows", [True, False], ids=["declared here", "declared elsewhere"])
def test_bindings_can_be_taken_back_and_made_again(
    server: EmbeddedServer, outside: Outside, undo: Undo, knows: bool
) -> None:
    for _ in range(3):
        declare(server, VIDEO)
        publish(server, "x", "media", "media.video")
        assert waiting(outside, "video") >= 1
        with another(server) as connection, connection.channel() as channel:
            if knows:
                VIDEO(channel).declare()
            undo(channel)
            channel.queue_purge("video")
        with pytest.raises(ChannelError, match="no exchange 'media'"):
            publish(server, "x", "media", "media.video")
    assert waiting(outside, "video") == 0


def test_a_deleted_queue_keeps_nothing_and_only_if_it_may(server: EmbeddedServer, outside: Outside) -> None:
    outside.enqueue("video")
    with another(server) as connection, connection.channel() as channel:
        channel.queue_delete("video", if_empty=True)
        assert waiting(outside, "video") == 1
        channel.queue_delete("video")
        assert waiting(outside, "video") == 0


def test_a_message_for_no_queue_is_not_lost_without_a_word(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="spooled.kombu")
    with another(server) as connection, connection.channel() as channel:
        media, topics, news = Exchange("media"), Exchange("topics", "topic"), Exchange("news", "fanout")
        for exchange in (media, topics, news):
            exchange(channel).declare()
        producer = Producer(channel, auto_declare=False)

        # An exchange that there is not.
        with pytest.raises(ChannelError, match="NOT_FOUND - no exchange 'nowhere'"):
            producer.publish("x", exchange="nowhere", routing_key="a")
        # A task is sent to be run; the first protocol has it in the body.
        first_protocol, known = {"task": "app.add", "id": "1"}, {"correlation_id": "1", "reply_to": ""}
        for exchange in (media, topics):
            with pytest.raises(ChannelError, match=r"NO_ROUTE .* 'a\.b'"):
                producer.publish("x", exchange=exchange, routing_key="a.b", headers={"task": "app.add"})
            with pytest.raises(ChannelError, match="NO_ROUTE"):
                producer.publish(first_protocol, exchange=exchange, routing_key="a.b", **known)
            with pytest.raises(ChannelError, match="NO_ROUTE"):
                producer.publish("x", exchange=exchange, routing_key="a.b", mandatory=True)
        # Other messages go to whoever wants them: nobody.
        assert not caplog.records
        for _ in range(3):
            producer.publish("x", exchange=topics, routing_key="a.b")
        producer.publish("x", exchange=news)
        assert [record.getMessage() for record in caplog.records] == [
            "no queue is bound to the topic exchange topics for the routing key a.b: what is sent there is dropped"
        ]


def test_celery_says_that_nobody_gets_a_task(server: EmbeddedServer) -> None:
    app = Celery("producer", broker=url_of(server), set_as_current=False)
    with pytest.raises(ChannelError, match="no exchange 'media'"):
        app.send_task("app.encode", exchange="media", routing_key="media.video")
    app.close()
    reset_pools()


def test_a_queue_for_what_nobody_gets(server: EmbeddedServer, outside: Outside) -> None:
    """kombu's own option."""
    options = {"deadletter_queue": "lost"}
    with (
        Connection(url_of(server), transport_options=options) as connection,
        connection.channel() as channel,
    ):
        Producer(channel, auto_declare=False).publish("x", exchange="nowhere", routing_key="a")
    assert waiting(outside, "lost") == 1


def test_a_lasting_queue_of_a_fanout_keeps_its_messages(tmp_path: Path) -> None:
    with EmbeddedServer(clock=ManualClock()) as server:
        outside = Outside(server)
        declare(server, Queue("archive", Exchange("news", "fanout")))
        publish(server, "x", "news")
        server.advance(86_400)
        with another(server) as connection, connection.channel() as channel:
            assert channel.basic_get("archive").payload == "x"
        outside.http.close()


@pytest.fixture
def listeners(server: EmbeddedServer) -> Iterator[list[str]]:
    """More than a page of queues of a broadcast, as of as many workers."""
    names = [f"listener.{number}" for number in range(240)]
    news = Exchange("news", "fanout", durable=False)
    with another(server) as connection, connection.channel() as channel:
        for name in names:
            Queue(name, news, auto_delete=True, durable=False)(channel).declare()
        yield names


def test_a_broadcast_reaches_more_than_a_hundred(
    server: EmbeddedServer, outside: Outside, listeners: list[str]
) -> None:
    publish(server, "x", "news")
    assert [name for name in listeners if waiting(outside, name) != 1] == []


def test_a_routing_key_is_found_among_more_than_a_hundred(server: EmbeddedServer, outside: Outside) -> None:
    topics = Exchange("topics", "topic")
    declare(server, *[Queue(f"q{number}", topics, routing_key=f"key.{number}") for number in range(240)])
    for number in (0, 99, 100, 239):
        publish(server, "x", "topics", f"key.{number}")
        assert waiting(outside, f"q{number}") == 1


def test_more_than_a_hundred_replies_arrive(server: EmbeddedServer) -> None:
    replies = Exchange("replies", "direct", durable=False)
    queue = Queue("ticket", replies, routing_key="ticket", auto_delete=True, durable=False)
    got: list[int] = []
    with (
        another(server) as asking,
        asking.channel() as channel,
        Consumer(channel, [queue], no_ack=True, callbacks=[lambda body, message: got.append(body)]),
        another(server) as answering,
        answering.channel() as other,
    ):
        replies(other).declare()
        producer = Producer(other, auto_declare=False)
        for number in range(240):
            producer.publish(number, exchange="replies", routing_key="ticket")
        drain_until(asking, lambda: len(got) == 240)
    assert sorted(got) == list(range(240))


def test_renewals_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a binding's number of jobs, it is one binding; and what has expired is none."""
    monkeypatch.setattr(_bindings, "RENEWAL", 0.0)
    monkeypatch.setattr(_bindings, "LOOK", 0.01)
    news = Exchange("news", "fanout", durable=False)
    with EmbeddedServer(clock=ManualClock()) as server:
        outside = Outside(server)
        with another(server) as connection, connection.channel() as channel:
            Queue("gone", news, auto_delete=True)(channel).declare()
            wait_until(lambda: outside.counts("kombu-bindings")["pending"] > 110)
        server.advance(_bindings.LIFETIME + 1)
        with another(server) as connection, connection.channel() as channel:
            Queue("here", news, auto_delete=True)(channel).declare()
            wait_until(lambda: outside.counts("kombu-bindings")["pending"] > 220)
            publish(server, "x", "news")
        assert waiting(outside, "here") == 1
        assert waiting(outside, "gone") == 0
        outside.http.close()


def test_a_key_for_one_queue_is_enough_to_consume_it(
    server: EmbeddedServer, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="spooled.kombu")
    made = outside.http.post("/api-keys", json={"name": "one queue", "queues": ["plain", "video"]}).json()
    url = url_of(server).replace(server.api_key, made["key"])
    plain = Queue("plain", Exchange("plain"), routing_key="plain")
    got: list[Any] = []
    with Connection(url) as connection, connection.channel() as channel:
        VIDEO(channel).declare()
        producer = Producer(channel, auto_declare=False)
        producer.publish("x", exchange="media", routing_key="media.video")
        callbacks = [lambda body, message: (got.append(body), message.ack())]
        with Consumer(channel, [plain], callbacks=callbacks):
            producer.publish("y", routing_key="plain")
            drain_until(connection, lambda: got)
    assert waiting(outside, "video") == 1
    assert "other processes do not hear of queue video and its exchange media" in caplog.text
