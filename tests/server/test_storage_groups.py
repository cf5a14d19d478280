"""The writer: groups of operations, each of them atomic by itself, all of them durable before they are answered."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server._events import Event, Hub, Subscription
from spooled_contrib.server._storage.sqlite import SqliteStorage


@pytest.fixture(params=["memory", "file"])
async def storage(request, tmp_path):
    path = ":memory:" if request.param == "memory" else str(tmp_path / "jobs.db")
    opened = SqliteStorage(path, clock=ManualClock(), hub=Hub())
    await opened.open()
    yield opened
    await opened.close()


def put(name, value="1"):
    return lambda tx: tx.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))


def put_then_fail(name, error):
    def operation(tx):
        put(name)(tx)
        raise error

    return operation


def names(tx):
    return [row[0] for row in tx.select("SELECT name FROM meta ORDER BY name")]


async def test_what_was_written_is_read(storage):
    await storage.write(put("a"))
    assert await storage.read(names) == ["a"]


async def test_one_failing_operation_of_a_group_undoes_itself_only(storage):
    outcomes = await asyncio.gather(
        storage.write(put("a")),
        storage.write(put_then_fail("b", KeyError("b"))),
        storage.write(put("c")),
        storage.write(put("a")),
        storage.write(put("d")),
        return_exceptions=True,
    )
    assert await storage.read(names) == ["a", "c", "d"]
    assert [type(outcome) for outcome in outcomes] == [int, KeyError, int, sqlite3.IntegrityError, int]


async def test_an_operation_that_fails_before_it_writes_does_not_disturb_its_group(storage):
    runs = []

    def counted(tx):
        runs.append(1)
        return put("a")(tx)

    def refuse(tx):
        raise KeyError("refused")

    outcomes = await asyncio.gather(storage.write(counted), storage.write(refuse), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, KeyError]
    assert len(runs) == 1
    assert await storage.read(names) == ["a"]


async def test_operations_run_in_the_order_of_their_submission(storage):
    order: list[int] = []
    await asyncio.gather(*(storage.write(lambda tx, n=number: order.append(n)) for number in range(600)))
    assert order == list(range(600))


async def test_the_reader_of_a_file_cannot_write(tmp_path):
    storage = SqliteStorage(str(tmp_path / "jobs.db"), clock=ManualClock(), hub=Hub())
    await storage.open()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await storage.read(put("a"))
    await storage.close()


async def test_a_cancelled_waiter_does_not_hold_up_the_others(storage):
    first = asyncio.ensure_future(storage.write(put("a")))
    await asyncio.sleep(0)
    first.cancel()
    await storage.write(put("b"))
    assert "b" in await storage.read(names)


async def test_events_are_published_once_and_only_for_what_was_committed(tmp_path):
    hub = Hub()
    storage = SqliteStorage(":memory:", clock=ManualClock(), hub=hub)
    await storage.open()
    subscription = Subscription("org", None)
    hub.subscribe(subscription)

    def announce(name, error=None):
        def operation(tx):
            put(name)(tx)
            tx.emit(Event("org", "q", name, "JobCreated"))
            if error is not None:
                raise error

        return operation

    await asyncio.gather(
        storage.write(announce("a")),
        storage.write(announce("b", KeyError("b"))),
        storage.write(announce("c")),
        return_exceptions=True,
    )
    assert [event.job_id for event in await subscription.next_events(0.001)] == ["a", "c"]
    await storage.close()


async def test_closing_finishes_what_was_submitted(tmp_path):
    path = str(tmp_path / "jobs.db")
    storage = SqliteStorage(path, clock=ManualClock(), hub=Hub(), synchronous="FULL")
    await storage.open()
    writes = [asyncio.ensure_future(storage.write(put(f"{number:03}"))) for number in range(300)]
    await asyncio.sleep(0)
    await storage.close()
    assert all(write.done() and write.exception() is None for write in writes)
    again = SqliteStorage(path, clock=ManualClock(), hub=Hub())
    await again.open()
    assert len(await again.read(names)) == 300
    await again.close()


async def test_a_closed_storage_says_so(tmp_path):
    storage = SqliteStorage(":memory:", clock=ManualClock(), hub=Hub())
    await storage.open()
    await storage.close()
    with pytest.raises(RuntimeError, match="stopped"):
        await storage.write(put("a"))
