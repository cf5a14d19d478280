"""The parts of realtime that are decided without a network."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled import ClientConfig, ConfigurationError, SpooledClient, errors
from spooled.realtime import (
    EVENT_TYPES,
    ConnectionState,
    JobCompleted,
    ReconnectOptions,
    SubscriptionFilter,
    WebSocketConnectionOptions,
)
from spooled.realtime._async_clients import BUFFERED, AsyncEventStream
from spooled.realtime._clients import EventStream
from spooled.realtime._dispatcher import WAITING, Dispatcher
from spooled.realtime._filters import EVERYTHING, Subscriptions, as_filter
from spooled.realtime._reconnect_policy import ReconnectPolicy, is_final
from spooled.realtime._sse_source import where
from spooled.realtime._websocket_source import address
from spooled.realtime.events import RealtimeEvent, event_type, read_event
from tests.waiting import HOPELESS

from .conftest import KEY, Kind, make_client, result


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level another test has left behind."""
    caplog.set_level(logging.WARNING, logger="spooled")


AT = "2026-01-31T12:00:00+00:00"
WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def message(kind: str, **data: object) -> bytes:
    return json.dumps({"type": kind, "data": data}).encode()


# --- events ---


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        (
            "JobStatusChange", "job.status_changed",
            {"job_id": "j", "queue_name": "q", "old_status": "pending", "new_status": "completed"},
        ),
        ("JobCreated", "job.created", {"job_id": "j", "queue_name": "q", "priority": 5}),
        ("JobCompleted", "job.completed", {"job_id": "j", "queue_name": "q", "duration_ms": 12, "result": [1]}),
        ("JobFailed", "job.failed", {"job_id": "j", "queue_name": "q", "error": "e", "retry_count": 1}),
        ("QueueStats", "queue.stats", {"queue_name": "q", "pending": 1, "processing": 2, "completed": 3, "failed": 4}),
        ("WorkerHeartbeat", "worker.heartbeat", {"worker_id": "w", "status": "healthy", "current_job_id": None}),
        ("WorkerRegistered", "worker.registered", {"worker_id": "w", "queue_name": "q"}),
        ("WorkerDeregistered", "worker.deregistered", {"worker_id": "w"}),
        ("SystemHealth", "system.health", {"database": True, "redis": False}),
        ("Ping", "ping", {}),
        ("Error", "error", {"message": "m"}),
    ],
)  # fmt: skip
def test_every_event_is_read(kind: str, name: str, data: dict[str, object]) -> None:
    event = read_event(message(kind, **data, timestamp=AT, something_new=1))
    assert event is not None
    assert (event.type, event.timestamp) == (name, WHEN)
    assert dict(event.data) == data | {"timestamp": WHEN}
    for field, value in data.items():
        assert getattr(event.data, field) == event.data[field] == event.data.get(field) == value
        assert field in event.data
    assert event_type(kind) == event_type(name) == name
    assert name in EVENT_TYPES


def test_fields_that_are_not_there() -> None:
    data = JobCompleted(job_id="j")
    assert data.get("worker_id", "none") == "none"
    assert "worker_id" not in data
    with pytest.raises(KeyError):
        _ = data["worker_id"]
    assert data.result is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"ping",
        b"[]",
        b"{}",
        b'{"type": 1}',
        b'{"type": "SomethingNew", "data": {"job_id": 1}}',
        b'{"type": "JobCreated", "data": {}}',
        b'{"type": "JobCreated", "data": {"job_id": 1}}',
        b'{"type": "Ping", "data": []}',
        b'{"type": "Ping", "data": {"timestamp": "now"}}',
        b"\xff",
    ],
)
def test_what_cannot_be_read_is_passed_over(text: bytes) -> None:
    assert read_event(text) is None


@given(st.binary())
def test_nothing_that_arrives_breaks_the_reader(text: bytes) -> None:
    read_event(text)


def test_names_of_the_stream_are_understood() -> None:
    assert event_type("job.status") == "job.status_changed"


# --- subscriptions ---


def event(kind: str, **data: object) -> RealtimeEvent:
    found = read_event(message(kind, **data))
    assert found is not None
    return found


def test_what_fits_a_filter() -> None:
    created = event("JobCreated", job_id="j", queue_name="q")
    health = event("SystemHealth", database=True, redis=True)
    for wanted, fits in [
        (EVERYTHING, True),
        (SubscriptionFilter(queue="q"), True),
        (SubscriptionFilter(queue="*"), True),
        (SubscriptionFilter(queue="p"), False),
        (SubscriptionFilter(job_id="j"), True),
        (SubscriptionFilter(job_id="i"), False),
        (SubscriptionFilter(queue="q", job_id="j"), True),
        (SubscriptionFilter(queue="p", job_id="j"), False),
    ]:
        assert wanted.fits(created) is fits, wanted
    assert EVERYTHING.fits(health)
    assert not SubscriptionFilter(queue="q").fits(health)


def test_what_a_filter_is_made_from() -> None:
    assert as_filter(None) is EVERYTHING
    assert as_filter({"queue": "q"}) == SubscriptionFilter("q")
    assert as_filter({"queue": "*"}) == EVERYTHING
    with pytest.raises(TypeError, match="got str"):
        as_filter("q")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="queue_name"):
        as_filter({"queue_name": "q"})
    with pytest.raises(errors.ValidationError, match="queue"):
        SubscriptionFilter(queue="a/b")
    with pytest.raises(errors.ValidationError, match="job_id"):
        SubscriptionFilter(job_id="")


FILTERS = st.builds(
    SubscriptionFilter, queue=st.sampled_from([None, "p", "q"]), job_id=st.sampled_from([None, "i", "j"])
)


@given(
    st.lists(st.tuples(st.booleans(), FILTERS)),
    st.sampled_from(["p", "q", "r"]),
    st.sampled_from(["i", "j", "k"]),
)
def test_what_the_server_is_asked_for_covers_what_is_wanted(
    changes: list[tuple[bool, SubscriptionFilter]], queue: str, job_id: str
) -> None:
    subscriptions, model = Subscriptions(), set[SubscriptionFilter]()
    for add, each in changes:
        if add:
            subscriptions.add(each)
            model.add(each)
        elif each == EVERYTHING:
            subscriptions.remove(each)
            model.clear()
        else:
            subscriptions.remove(each)
            model.discard(each)
    happened = event("JobCreated", job_id=job_id, queue_name=queue)
    wanted = not model or any(each.fits(happened) for each in model)
    assert subscriptions.wants(happened) is wanted
    if wanted:
        assert subscriptions.in_common.fits(happened)
    assert subscriptions.wants(event("Ping"))
    assert subscriptions.wants(event("Error", message="m"))
    if len(model) == 1:
        assert subscriptions.in_common in model


def test_where_a_filter_is_told() -> None:
    assert where(EVERYTHING) == ("/api/v1/events", ())
    assert where(SubscriptionFilter(queue="q")) == ("/api/v1/events", (("queue", "q"),))
    assert where(SubscriptionFilter(job_id="a/b")) == ("/api/v1/events/jobs/a%2Fb", ())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"base_url": "https://api.spooled.cloud"}, "wss://api.spooled.cloud/api/v1/ws"),
        ({"base_url": "http://localhost:8080/"}, "ws://localhost:8080/api/v1/ws"),
        ({"ws_url": "wss://ws.example.org"}, "wss://ws.example.org/api/v1/ws"),
        ({"ws_url": "https://ws.example.org/"}, "wss://ws.example.org/api/v1/ws"),
        ({"ws_url": "ws://localhost:1/api/v1/ws"}, "ws://localhost:1/api/v1/ws"),
    ],
)
def test_where_the_websocket_is(options: dict[str, Any], expected: str) -> None:
    assert address(ClientConfig(api_key=KEY, **options)) == expected


@pytest.mark.parametrize(
    "value", ["ftp://x", "wss://", "wss://x?token=1", "wss://user:secret@x", 5, "ws://x:y"]
)
def test_a_bad_address_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="ws_url") as caught:
        ClientConfig(api_key=KEY, ws_url=value)
    assert "secret" not in str(caught.value)


# --- reconnecting ---

LOST = errors.NetworkError("lost")


def test_the_waits_double_up_to_their_cap_and_end() -> None:
    policy = ReconnectPolicy(ReconnectOptions(True, 7, 1.0, 30.0), random=lambda: 0.0)
    assert [policy.next(LOST) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, None]
    policy.reset()
    assert policy.next(LOST) == 1
    late = ReconnectPolicy(ReconnectOptions(), random=lambda: 1.0)
    assert late.next(LOST) == 1.25


def test_what_no_server_may_ask_for_is_not_waited_out():
    late = errors.create_error_from_response(429, b"{}", headers={"retry-after": "1000000000"})
    assert ReconnectPolicy(ReconnectOptions(), random=lambda: 0.0).next(late) == 60.0


def test_what_the_server_asks_for_is_waited_out() -> None:
    busy = errors.create_error_from_response(429, b"{}", headers={"retry-after": "7"})
    assert ReconnectPolicy(ReconnectOptions(), random=lambda: 0.0).next(busy) == 7


def test_some_refusals_are_final() -> None:
    for status, final in [
        (400, True),
        (401, True),
        (403, True),
        (404, True),
        (408, False),
        (429, False),
        (503, False),
    ]:
        error = errors.create_error_from_response(status, b"{}", headers={"retry-after": "1"})
        assert is_final(error) is final, status
        wait = ReconnectPolicy(ReconnectOptions()).next(error)
        assert (wait is None) is final
    assert ReconnectPolicy(ReconnectOptions(auto_reconnect=False)).next(LOST) is None
    assert not is_final(LOST)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auto_reconnect", 1),
        ("max_reconnect_attempts", -1),
        ("reconnect_delay", -0.1),
        ("max_reconnect_delay", float("nan")),
    ],
)
def test_bad_options_name_themselves(kind: Kind, name: str, value: Any) -> None:
    client = make_client(kind, api_key=KEY)
    with pytest.raises(ConfigurationError, match=name):
        client.realtime("sse", **{name: value})
    with pytest.raises(ConfigurationError, match="type must be 'websocket' or 'sse', got 'polling'"):
        client.realtime("polling")


def test_states_are_their_texts() -> None:
    assert ConnectionState.CONNECTED == "connected"
    assert f"{ConnectionState.RECONNECTING}" == "reconnecting"


# --- what is kept for slow readers ---


def test_a_slow_reader_loses_the_oldest_events(caplog: pytest.LogCaptureFixture) -> None:
    stream = EventStream(lambda: None)
    for number in range(BUFFERED + 5):
        stream._put(event("JobCreated", job_id=str(number)))
    stream._finish(None)
    assert [each.data["job_id"] for each in stream] == [str(number) for number in range(5, BUFFERED + 5)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_slow_coroutine_loses_the_oldest_events(caplog: pytest.LogCaptureFixture) -> None:
    async def begin() -> None:
        pass

    stream = AsyncEventStream(begin)
    for number in range(BUFFERED + 5):
        stream._put(event("JobCreated", job_id=str(number)))
    stream._finish(LOST)
    found = [(await anext(stream)).data["job_id"] for _ in range(BUFFERED)]
    assert found == [str(number) for number in range(5, BUFFERED + 5)]
    with pytest.raises(errors.NetworkError):
        await anext(stream)
    assert [each async for each in stream] == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_iterators_can_be_closed() -> None:
    async def begin() -> None:
        pass

    stream, other = EventStream(lambda: None), AsyncEventStream(begin)
    for each in (stream, other):
        each._put(event("Ping"))
    stream.close()
    await other.aclose()
    stream._put(event("Ping"))
    other._put(event("Ping"))
    assert list(stream) == []
    assert [each async for each in other] == []


async def test_calls_for_slow_handlers_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    import threading

    gate, entered, done = threading.Event(), threading.Event(), []

    def slow(argument: object) -> None:
        entered.set()
        gate.wait(HOPELESS)
        done.append(argument)

    dispatcher = Dispatcher()
    dispatcher.put(slow, 0)
    assert await asyncio.to_thread(entered.wait, 20)
    for number in range(WAITING + 3):
        dispatcher.put(done.append, number)
    gate.set()
    await asyncio.to_thread(dispatcher.stop)
    assert len(done) == WAITING + 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# --- the extra ---


def test_without_the_library_the_message_names_the_extra(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **keywords: Any) -> Any:
        if name.startswith("websockets"):
            raise ModuleNotFoundError("No module named 'websockets'", name="websockets")
        return real(name, *args, **keywords)

    for name in list(sys.modules):
        if name.startswith("websockets"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    client = make_client(kind, api_key=KEY)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "spooled-contrib\[realtime\]"'):
        client.realtime()
    assert client.realtime("sse").state == "disconnected"


def test_a_blocking_transport_cannot_be_read_as_a_stream() -> None:
    class Blocking(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200)

    with (
        SpooledClient(KEY, transport=Blocking()) as client,
        pytest.raises(ConfigurationError, match="blocking transport"),
    ):
        client.realtime("sse")


def test_secrets_are_not_in_the_repr() -> None:
    options = WebSocketConnectionOptions(ws_url="wss://x", token=KEY)
    assert KEY not in repr(options)
    assert dataclasses.replace(options, queue="q").queue == "q"


async def test_what_is_unsubscribed_before_connecting_is_not_asked_for(kind: Kind) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(404, json={"code": "NOT_FOUND", "message": "m"})

    client = make_client(
        kind, api_key=KEY, base_url="http://spooled.test", transport=httpx.MockTransport(answer)
    )
    told = client.realtime("sse")
    await result(told.subscribe({"queue": "q"}))
    await result(told.subscribe({"queue": "p"}))
    await result(told.unsubscribe({"queue": "q"}))
    with pytest.raises(errors.NotFoundError):
        await result(told.connect())
    assert asked == ["http://spooled.test/api/v1/events?queue=p"]
    await result(client.close())
