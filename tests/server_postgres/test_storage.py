"""The storage itself: groups, what is told, messages, and SQL in the driver's words."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled.clock import ManualClock, SystemClock
from spooled_contrib.server import EmbeddedServer
from spooled_contrib.server._events import Event, Hub, Subscription
from spooled_contrib.server._storage.errors import StorageFailedError
from spooled_contrib.server._storage.postgres.messages import LARGEST_PART, Inbox, pack
from spooled_contrib.server._storage.postgres.shared_clock import SharedClock
from spooled_contrib.server._storage.postgres.sql import to_ddl, to_driver
from spooled_contrib.server._storage.postgres.storage import PostgresStorage
from spooled_contrib.server._storage.tallies import Tallies
from tests.waiting import HOPELESS


@pytest.fixture
async def storage(db):
    opened = PostgresStorage(db, clock=ManualClock(), hub=Hub())
    await opened.open()
    yield opened
    await opened.close()


def put(name):
    return lambda tx: tx.execute("INSERT INTO meta (name, value) VALUES (?, '1')", (name,))


def names(tx):
    return [row[0] for row in tx.select("SELECT name FROM meta WHERE name <> 'schema_version' ORDER BY name")]


def failing(name, error):
    def operation(tx):
        put(name)(tx)
        raise error

    return operation


async def test_one_failing_operation_of_a_group_undoes_itself_only(storage):
    outcomes = await asyncio.gather(
        storage.write(put("a")),
        storage.write(failing("b", KeyError("b"))),
        storage.write(put("c")),
        storage.write(put("a")),
        storage.write(lambda tx: tx.select("SELECT nonsense")),
        return_exceptions=True,
    )
    assert await storage.read(names) == ["a", "c"]
    assert sorted(str(type(outcome).__name__) for outcome in outcomes) == [
        "KeyError",
        "StorageFailedError",
        "StorageFailedError",
        "int",
        "int",
    ]


async def test_a_statement_that_nobody_waits_for_fails_its_operation(storage):
    with pytest.raises(StorageFailedError):
        await storage.write(lambda tx: tx.execute_many("INSERT INTO meta (name) VALUES (?)", [("a",)]))
    assert await storage.read(names) == []


async def test_a_read_sees_every_write_that_was_answered_and_changes_nothing(storage):
    for number in range(50):
        await storage.write(put(f"{number:03}"))
        assert len(await storage.read(names)) == number + 1
    with pytest.raises(StorageFailedError, match="read-only"):
        await storage.read(put("x"))


async def test_a_read_is_of_one_moment(storage, db):
    def read(tx):
        before = names(tx)
        with psycopg.connect(db, autocommit=True) as connection:
            connection.execute("INSERT INTO meta (name, value) VALUES ('other', '1')")
        return before, names(tx)

    before, after = await storage.read(read)
    assert before == after == []
    assert await storage.read(names) == ["other"]


async def test_a_group_that_waits_too_long_for_a_row_is_taken_apart(storage, db):
    await storage.write(put("held"))
    with psycopg.connect(db) as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE name = 'held'")
        change = "UPDATE meta SET value = value || '3' WHERE name = 'held'"
        held = asyncio.ensure_future(storage.write(lambda tx: tx.execute(change)))
        others = [asyncio.ensure_future(storage.write(put(name))) for name in "abc"]
        await asyncio.wait(others, timeout=HOPELESS)
        assert [other.done() and other.result() for other in others] == [1, 1, 1]
        assert not held.done()
        connection.commit()
    assert await held == 1
    assert await storage.read(lambda tx: tx.select("SELECT value FROM meta WHERE name = 'held'")) == [("23",)]


async def test_operations_that_want_each_others_rows_both_happen(db):
    one, two = (PostgresStorage(db, clock=ManualClock(), hub=Hub()) for _ in range(2))
    await one.open()
    await two.open()
    await one.write(lambda tx: (put("a")(tx), put("b")(tx)))

    def crossing(first, second):
        def operation(tx):
            for name in (first, second):
                tx.execute("UPDATE meta SET value = value || 'x' WHERE name = ?", (name,))

        return operation

    await asyncio.gather(
        *(storage.write(crossing(*order)) for storage, order in [(one, "ab"), (two, "ba")] * 40)
    )
    rows = await one.read(lambda tx: tx.select("SELECT length(value) FROM meta WHERE name IN ('a', 'b')"))
    assert rows == [(81,), (81,)]
    await one.close()
    await two.close()


async def test_what_is_committed_is_published_everywhere_once(db):
    hubs = Hub(), Hub()
    one, two = (PostgresStorage(db, clock=ManualClock(), hub=hub) for hub in hubs)
    await one.open()
    await two.open()
    subscriptions = [Subscription("org", None) for _ in hubs]
    heard: list[list[str]] = [[], []]
    for hub, subscription, texts in zip(hubs, subscriptions, heard, strict=True):
        hub.subscribe(subscription)
        hub.on("topic", texts.append)
        await hub.made_known()

    def announce(name, error=None):
        def operation(tx):
            put(name)(tx)
            assert tx.listening
            tx.emit(Event("org", "q", name, "JobCreated", {"job_id": name}))
            tx.tell("topic", name)
            if error is not None:
                raise error

        return operation

    await asyncio.gather(
        *(one.write(announce(name, KeyError() if name == "b" else None)) for name in "abc"),
        return_exceptions=True,
    )
    for subscription, texts in zip(subscriptions, heard, strict=True):
        found = []
        while len(found) < 2:
            found += await subscription.next_events(20)
        assert sorted(event.job_id for event in found) == ["a", "c"]
        assert sorted(texts) == ["a", "c"]
    await one.close()
    await two.close()


async def test_tallies_of_a_group_are_written_once_and_added_up(storage):
    await storage.write(lambda tx: tx.execute("INSERT INTO meta (name, value) VALUES ('n', '0')"))
    add = "UPDATE meta SET value = (value::bigint + ?)::text WHERE name = ?"
    await asyncio.gather(*(storage.write(lambda tx: tx.tally(add, 2, ("n",))) for _ in range(50)))
    assert await storage.read(lambda tx: tx.select("SELECT value FROM meta WHERE name = 'n'")) == [("100",)]


def test_a_lease_that_is_being_extended_is_not_recovered(db):
    with EmbeddedServer(db=db, clock=ManualClock()) as server:
        import httpx

        headers = {"authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.url + "/api/v1", headers=headers, verify=False) as http:
            job_id = http.post("/jobs", json={"queue_name": "mail", "payload": {}}).json()["id"]
            http.post("/jobs/claim", json={"queue_name": "mail", "worker_id": "w", "lease_duration_secs": 30})
            with psycopg.connect(db) as connection:
                # Another server's heartbeat, which came in time and is not committed yet.
                connection.execute("UPDATE jobs SET lease_expires_at = lease_expires_at + 60000000")
                server.advance(31)
                connection.commit()
            server.advance(1)
            assert http.get(f"/jobs/{job_id}").json()["status"] == "processing"
            server.advance(60)
            assert http.get(f"/jobs/{job_id}").json()["status"] == "pending"


class TestSql:
    @pytest.mark.parametrize(
        ("portable", "driver"),
        [
            ("a = ? AND b IN (?, ?)", "a = %s AND b IN (%s, %s)"),
            ("x LIKE 'a%?' AND y = ?", "x LIKE 'a%%?' AND y = %s"),
            ("'it''s ?' || ?", "'it''s ?' || %s"),
            ('"odd?name" % ?', '"odd?name" %% %s'),
            (r"a LIKE ? ESCAPE '\'", r"a LIKE %s ESCAPE '\'"),
        ],
    )
    def test_placeholders_are_only_outside_of_quotes(self, portable, driver):
        assert to_driver(portable) == driver

    def test_types_of_a_schema(self):
        assert to_ddl("CREATE TABLE t (seq {serial}, n INTEGER, s TEXT)") == (
            'CREATE TABLE t (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n BIGINT, s TEXT COLLATE "C")'
        )


class TestMessages:
    @given(st.lists(st.text(st.characters(codec="utf-8"), max_size=4000), max_size=6))
    def test_any_text_arrives_in_parts_that_fit(self, texts):
        told = [("topic", text) for text in texts]
        events = [Event("o", "q", "j", "JobFailed", {"error": text}) for text in texts]
        parts = pack("me", told, events)
        assert all(len(part.encode()) < LARGEST_PART + 100 for part in parts)
        inbox = Inbox("you")
        *unfinished, whole = [inbox.take(part) for part in parts]
        assert unfinished == [None] * len(unfinished)
        assert whole == (told, events)

    def test_own_messages_are_left_out(self):
        assert Inbox("me").take(pack("me", [("a", "b")], [])[0]) is None

    @pytest.mark.parametrize("payload", ["", "a", "a 1/1 {", "a b c", "a 2/2 []"])
    def test_anything_else_is_an_error(self, payload):
        with pytest.raises(ValueError, match=r".*"):
            Inbox("me").take(payload)


def test_tallies_come_in_one_order():
    one, two = Tallies(), Tallies()
    for tallies, order in ((one, "abc"), (two, "cab")):
        for key in order:
            tallies.add("UPDATE", 1, (key,))
            tallies.add("INSERT", 2, (key,))
    assert list(one.statements()) == list(two.statements())


def test_a_shared_clock_is_the_databases():
    clock = SharedClock(SystemClock())
    own = clock.own_now()
    clock.compare(own, own + 100.0, own)
    assert 99.0 < clock.now() - clock.own_now() < 101.0
