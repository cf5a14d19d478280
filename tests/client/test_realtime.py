"""The realtime clients against the embedded server, over both kinds of connection."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spooled import errors
from spooled.realtime import (
    AsyncSSEClient,
    AsyncWebSocketClient,
    ConnectionState,
    RealtimeEvent,
    SSEClient,
    SubscriptionFilter,
    WebSocketClient,
    WebSocketConnectionOptions,
)
from spooled_contrib.server import EmbeddedServer

from .conftest import Client, Kind, make_client, result
from .realtime_harness import Calls, following, take, the_end_of

Make = Callable[..., Any]


@pytest.fixture(params=["sse", "websocket"])
def over(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def realtime(client: Client, over: str) -> AsyncIterator[Make]:
    """Make a realtime client of the client's kind; it is disconnected at the end."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(client.realtime(over, **{"reconnect_delay": 0.01} | options))
        return made[-1]

    yield make
    for each in made:
        await result(each.disconnect())


async def create(client: Client, queue: str, payload: object = 1) -> str:
    job_id: str = (await result(client.jobs.create(queue_name=queue, payload=payload))).id
    return job_id


async def test_what_happens_in_a_queue(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    created, completed, everything = Calls(), Calls(), Calls()
    told.on("job.created", created)
    told.on("JobCompleted", completed)
    told.on_event(everything)
    assert told.state == "disconnected"
    events = told.events()
    await result(told.connect(SubscriptionFilter(queue=queue)))
    assert told.state is told.get_state() is ConnectionState.CONNECTED
    await create(client, f"other-{queue}")
    job_id = await create(client, queue)
    claimed = await result(client.jobs.claim(queue_name=queue, worker_id="w"))
    lease = {"worker_id": "w", "lease_id": claimed.jobs[0].lease_id}
    await result(client.jobs.complete(job_id, lease | {"result": {"n": 1}}))

    [event] = await take(events, "job.completed")
    assert (event.data.job_id, event.data["queue_name"], event.data.result) == (job_id, queue, {"n": 1})
    assert event.timestamp is not None
    await completed.reach(1)
    assert completed[0] == event.data
    assert [data.job_id for data in created] == [job_id]
    assert all(isinstance(each, RealtimeEvent) for each in everything)
    assert told.last_error is None


async def test_several_subscriptions_at_a_time(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    await result(told.connect({"queue": f"{queue}-a"}))
    await result(told.subscribe(SubscriptionFilter(queue=f"{queue}-b")))
    created = Calls()
    told.on("job.created", created)
    ids = [await create(client, f"{queue}-{name}") for name in "cab"]
    await created.reach(2)
    assert {data.job_id for data in created} == set(ids[1:])

    await result(told.unsubscribe({"queue": f"{queue}-a"}))
    await create(client, f"{queue}-a")
    last = await create(client, f"{queue}-b")
    await created.reach(3)
    assert [data.job_id for data in created][2:] == [last]


async def test_without_subscriptions_everything_is_told(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    await result(told.connect({"queue": "nothing-happens-here"}))
    await result(told.unsubscribe())
    created = Calls()
    told.on("job.created", created)
    job_id = await create(client, queue)
    await created.reach(1)
    assert job_id in {data.job_id for data in created}


async def test_handlers_come_and_go(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    first, second, third, whole, states = Calls(), Calls(), Calls(), Calls(), Calls()
    forget_first = told.on("job.created", first)
    told.on("job.created", second)
    told.on("job.created", third)
    forget_whole = told.on_event(whole)
    forget_states = told.on_state_change(states)
    await result(told.connect({"queue": queue}))
    forget_first()
    forget_whole()
    told.off("job.created", second)
    await create(client, queue)
    await third.reach(1)
    assert (first, second, [event for event in whole if event.type != "ping"]) == ([], [], [])
    told.off("job.created")
    await states.reach(2)
    assert states == ["connecting", "connected"]
    forget_states()
    await result(told.disconnect())
    assert len(states) == 2
    with pytest.raises(ValueError, match=r"there is no event 'job.creatd'. Did you mean 'job.created'\?"):
        told.on("job.creatd", first)
    with pytest.raises(TypeError, match="a handler is a function, got str"):
        told.on("job.created", "print")


async def test_a_handler_that_raises_is_logged(
    client: Client, realtime: Make, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="spooled")  # whatever another test has left behind
    told = realtime()
    seen = Calls()

    def fail(data: Any) -> None:
        raise RuntimeError("handler's own")

    told.on("job.created", fail)
    told.on("job.created", seen)
    await result(told.connect({"queue": queue}))
    await create(client, queue)
    await create(client, queue)
    await seen.reach(2)
    assert "handler's own" in caplog.text


async def test_handlers_may_use_the_client_that_calls_them(
    client: Client, realtime: Make, queue: str
) -> None:
    told = realtime()
    second = f"{queue}-second"
    seen = Calls(lambda data: told.subscribe({"queue": second}) if data.queue_name == queue else None)
    told.on("job.created", seen)
    await result(told.connect({"queue": queue}))
    await create(client, queue)
    await seen.reach(1)
    while len(seen) < 2:  # subscribing takes a moment, and what happens meanwhile is lost
        await create(client, second)
        await asyncio.sleep(0.01)
    assert seen[1].queue_name == second


async def test_a_handler_may_disconnect(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    states = Calls()
    told.on_state_change(states)
    told.on("job.created", lambda data: told.disconnect())
    events = told.events()
    await result(told.connect({"queue": queue}))
    await create(client, queue)
    await the_end_of(events)
    assert told.state == "disconnected"


async def test_connecting_anew_keeps_everything(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    events, seen = told.events(), Calls()
    told.on("job.created", seen)
    await result(told.connect({"queue": queue}))
    await result(told.reconnect())
    assert told.state == "connected"
    job_id = await create(client, queue)
    [event] = await take(events, "job.created")
    assert event.data.job_id == job_id
    await result(told.reconnect({"queue": f"{queue}-b"}))
    await create(client, queue)
    other = await create(client, f"{queue}-b")
    await seen.reach(2)
    assert [data.job_id for data in seen] == [job_id, other]


async def test_iterators_connect_and_end(client: Client, realtime: Make, queue: str) -> None:
    told = realtime()
    await result(told.subscribe({"queue": queue}))
    events = told.events()
    connected = Calls()
    told.on_state_change(connected)
    waiting = asyncio.ensure_future(take(events, "job.created"))
    await connected.reach(2)
    await create(client, queue)
    await waiting
    await result(told.disconnect())
    await the_end_of(events)
    await result(told.disconnect())


async def test_what_came_before_the_first_iterator_is_kept(
    client: Client, realtime: Make, queue: str
) -> None:
    told = realtime()
    seen = Calls()
    forget = told.on("job.created", seen)
    await result(told.connect({"queue": queue}))
    await create(client, queue)
    await seen.reach(1)
    forget()
    second = await create(client, queue)
    third = await create(client, queue)
    found = await take(told.events(), "job.created", 2)
    assert [event.data["job_id"] for event in found] == [second, third]


async def test_a_cancelled_program_leaves_cleanly(shared_server: EmbeddedServer, over: str) -> None:
    """Cancelling twice, as `asyncio.run` and a timeout do together, closes nothing under its reader."""

    async def listen(ready: asyncio.Event) -> None:
        client = make_client("async", api_key=shared_server.api_key, base_url=shared_server.url)
        async with client, client.realtime(over) as told:
            ready.set()
            async for _ in told.events():
                pass

    ready = asyncio.Event()
    task = asyncio.create_task(listen(ready))
    await ready.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_block_connects_and_disconnects(
    client: Client, kind: Kind, realtime: Make, queue: str
) -> None:
    told = realtime()
    if kind == "sync":
        with told as entered:
            assert entered is told
            assert told.state == "connected"
    else:
        async with told as entered:
            assert entered is told
            assert told.state == "connected"
    assert told.state == "disconnected"


async def test_a_refused_credential_is_raised(kind: Kind, over: str, shared_server: EmbeddedServer) -> None:
    stranger = make_client(kind, api_key="sp_test_" + "x" * 43, base_url=shared_server.url)
    told = stranger.realtime(over)
    with pytest.raises(errors.AuthenticationError) as caught:
        await result(told.connect())
    assert told.last_error is caught.value
    assert told.state == "disconnected"
    assert "xxx" not in str(caught.value)
    with pytest.raises(errors.AuthenticationError):
        await following(told.events())
    await result(told.disconnect())
    await result(stranger.close())


async def test_a_server_that_is_not_there(kind: Kind, over: str) -> None:
    client = make_client(kind, api_key="sp_test_0123456789", base_url="http://127.0.0.1:9")
    told = client.realtime(over)
    with pytest.raises(errors.NetworkError):
        await result(told.connect())
    await result(client.close())


async def test_a_stale_access_token_is_renewed(
    client: Client, kind: Kind, over: str, shared_server: EmbeddedServer, queue: str
) -> None:
    login = await result(client.auth.login(api_key=shared_server.api_key))
    session = make_client(
        kind,
        access_token=login.access_token[:-4] + "AAAA",
        refresh_token=login.refresh_token,
        base_url=shared_server.url,
    )
    told = session.realtime(over)
    await result(told.connect({"queue": queue}))
    assert told.state == "connected"
    await result(told.disconnect())
    await result(session.close())


async def test_a_key_may_not_hear_of_other_queues(
    client: Client, kind: Kind, over: str, shared_server: EmbeddedServer, queue: str
) -> None:
    made = await result(client.api_keys.create(name="scoped", queues=[queue]))
    scoped = make_client(kind, api_key=made.key, base_url=shared_server.url)
    told = scoped.realtime(over)
    with pytest.raises(errors.AuthorizationError):
        await result(told.connect({"queue": f"other-{queue}"}))
    await result(told.connect({"queue": queue}))
    await result(told.disconnect())
    await result(scoped.close())


async def test_nothing_is_left_after_disconnecting(client: Client, realtime: Make) -> None:
    before = set(threading.enumerate())
    told = realtime()
    await result(told.connect())
    await result(told.disconnect())
    left = {thread for thread in set(threading.enumerate()) - before if "realtime" in thread.name}
    assert left == set()


# --- a job's own stream ---


async def test_the_stream_of_a_job_ends_with_the_job(client: Client, kind: Kind, queue: str) -> None:
    told = client.realtime("sse")
    job_id = await create(client, queue)
    events = told.events()
    await result(told.connect({"job_id": job_id}))
    first = await following(events)
    assert (first.type, first.data.old_status, first.data.new_status) == ("job.status_changed", "", "pending")
    await result(client.jobs.cancel(job_id))
    [second] = await take(events, "job.status_changed")
    assert second.data.new_status == "cancelled"
    await the_end_of(events)
    assert (told.state, told.last_error) == ("disconnected", None)
    await result(told.disconnect())


async def test_the_stream_of_a_job_that_does_not_exist(client: Client) -> None:
    told = client.realtime("sse")
    await result(told.subscribe({"job_id": "nothing"}))
    with pytest.raises(errors.NotFoundError, match="there is no job nothing"):
        await following(told.events())
    await result(told.disconnect())


# --- clients of their own ---


async def test_a_stream_without_a_client(
    client: Client, kind: Kind, shared_server: EmbeddedServer, queue: str
) -> None:
    make: Any = SSEClient if kind == "sync" else AsyncSSEClient
    told = make(shared_server.url, shared_server.api_key, queue=queue, reconnect_delay=0.01)
    seen = Calls()
    told.on("job.created", seen)
    await result(told.connect())
    job_id = await create(client, queue)
    await seen.reach(1)
    assert seen[0].job_id == job_id
    await result(told.disconnect())


async def test_a_websocket_without_a_client(
    client: Client, kind: Kind, shared_server: EmbeddedServer, queue: str
) -> None:
    make: Any = WebSocketClient if kind == "sync" else AsyncWebSocketClient
    options = WebSocketConnectionOptions(
        ws_url=shared_server.url.replace("http", "ws"), token=shared_server.api_key, queue=queue
    )
    assert shared_server.api_key not in repr(options)
    told = make(options)
    seen = Calls()
    told.on("job.created", seen)
    await result(told.connect())
    job_id = await create(client, queue)
    await seen.reach(1)
    assert (seen[0].type, seen[0].data.job_id) == ("job.created", job_id)
    await result(told.disconnect())
