"""Claims ahead of a consumer: announced and not looked for, shared by the channel's queues, bounded by its room."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from spooled.worker import _pacing
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import Answer, Delay, FaultProxy, Rule
from tests.kombu.conftest import drain_until, through
from tests.waiting import wait_until
from tests.worker.conftest import Outside

NEVER = 3600.0


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that was found empty is not looked into again by itself."""
    monkeypatch.setattr(_pacing, "FIRST_PAUSE", NEVER)


def claims_of(proxy: FaultProxy, queue_name: str) -> Rule:
    """Count the claims of a queue that go through the proxy."""
    return proxy.on(
        lambda request: request.kind == "claim" and b'"%s"' % queue_name.encode() in request.body, Delay(0)
    )


@contextmanager
def consuming(connection: Connection, *queues: str, prefetch: int = 0) -> Iterator[list[Any]]:
    got: list[Any] = []
    with connection.channel() as channel:
        if prefetch:
            channel.basic_qos(0, prefetch, False)
        with Consumer(channel, [Queue(name) for name in queues], on_message=got.append):
            yield got


@pytest.mark.usefixtures("no_second_look")
def test_a_new_message_is_announced(server: EmbeddedServer, outside: Outside, proxy: FaultProxy) -> None:
    quiet = claims_of(proxy, "quiet")
    url = through(proxy, server, f"poll={NEVER}")
    with Connection(url) as connection, consuming(connection, "quiet", "busy") as got:
        looks = 0
        for number in range(6):
            outside.enqueue("busy", {"n": number})
            drain_until(connection, lambda number=number: len(got) > number)
            if number == 2:
                # Those before were found by the first look, or because the stream had opened.
                looks = quiet.hits
        assert quiet.hits == looks
        assert proxy.seen["events"] == 1


@pytest.mark.usefixtures("no_second_look")
def test_control_messages_are_announced_too(server: EmbeddedServer, proxy: FaultProxy) -> None:
    """Several channels of a process share the stream."""
    url = through(proxy, server, f"poll={NEVER}")
    with (
        Connection(url) as connection,
        consuming(connection, "one") as one,
        consuming(connection, "other") as other,
    ):
        drain_until(connection, lambda: proxy.seen["events"])
        for _ in range(3):
            before = len(one), len(other)
            for name in ("one", "other"):
                with connection.Producer() as producer:
                    producer.publish("x", routing_key=name)
            drain_until(connection, lambda before=before: len(one) > before[0] and len(other) > before[1])
        assert proxy.seen["events"] == 1


@pytest.mark.parametrize(
    ("query", "refusal"),
    [("wakeups=off", None), ("wakeups=auto", Answer(404)), ("wakeups=auto", Answer(429))],
)
def test_messages_are_found_without_announcements(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, query: str, refusal: Answer | None
) -> None:
    if refusal is not None:
        proxy.on("events", refusal)
    with (
        Connection(through(proxy, server, f"poll=0.1&{query}")) as connection,
        consuming(connection, "q") as got,
    ):
        for number in range(3):
            outside.enqueue("q", {"n": number})
            drain_until(connection, lambda number=number: len(got) > number)
    assert bool(proxy.seen["events"]) == (refusal is not None)


def test_no_more_is_claimed_than_there_is_room_for(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        outside.enqueue_many(20, name)
    seen = []
    with Connection(through(proxy, server)) as connection, consuming(connection, *names, prefetch=4) as got:
        for round_ in range(10):
            drain_until(connection, lambda round_=round_: len(got) >= 4 * (round_ + 1))
            seen.append(sum(outside.counts(name)["processing"] for name in names))
            if round_ < 9:
                for message in got[-4:]:
                    message.ack()
                wait_until(lambda round_=round_: _completed(outside, names) == 4 * (round_ + 1))
    assert max(seen) <= 4
    assert len(got) == 40


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_a_full_queue_does_not_keep_the_others_from_their_turn(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, prefetch: int
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        outside.enqueue_many(100, name)
    with (
        Connection(through(proxy, server)) as connection,
        consuming(connection, *names, prefetch=prefetch) as got,
    ):
        for number in range(30):
            drain_until(connection, lambda number=number: len(got) > number)
            got[number].ack()
        wait_until(lambda: _completed(outside, names) == 30)
    by_queue = [outside.counts(name)["completed"] for name in names]
    assert min(by_queue) >= 5, by_queue


def test_an_outage_is_told_once_and_its_end(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spooled.kombu")
    rule = proxy.on("claim", Answer(503), times=3)
    with Connection(through(proxy, server)) as connection, consuming(connection, "q") as got:
        outside.enqueue("q")
        drain_until(connection, lambda: got)
    assert rule.hits == 3
    told = [record.getMessage() for record in caplog.records if "claiming from q" in record.getMessage()]
    assert len(told) == 2, told
    assert "503" in told[0]
    assert told[1] == "claiming from q works again"


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_key_that_is_refused_for_a_while_does_not_end_it(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy, status: int
) -> None:
    rule = proxy.on(
        "claim", Answer(status, "content-type: application/json\r\n", '{"code":"X","message":"no"}'), times=3
    )
    with Connection(through(proxy, server)) as connection, consuming(connection, "q") as got:
        outside.enqueue("q")
        drain_until(connection, lambda: got)
    assert rule.hits == 3


def test_a_queue_that_is_cancelled_is_not_claimed_from(
    server: EmbeddedServer, outside: Outside, proxy: FaultProxy
) -> None:
    """And what was fetched from it goes back; the other one goes on."""
    left, kept = claims_of(proxy, "left"), claims_of(proxy, "kept")
    with Connection(through(proxy, server)) as connection, connection.channel() as channel:
        got: list[Any] = []
        consumer = Consumer(channel, [Queue("left"), Queue("kept")], on_message=got.append)
        with consumer:
            drain_until(connection, lambda: left.hits and kept.hits)
            consumer.cancel_by_queue("left")
            drain_until(connection, lambda before=kept.hits: kept.hits > before + 3)
            before = left.hits
            outside.enqueue("left")
            outside.enqueue("kept")
            drain_until(connection, lambda: got)
            drain_until(connection, lambda before=kept.hits: kept.hits > before + 3)
            assert left.hits == before
    assert outside.counts("left")["pending"] == 1


def _completed(outside: Outside, names: list[str]) -> int:
    return sum(outside.counts(name)["completed"] for name in names)
