"""A thread that owns one SQLite connection and runs operations in groups.

Committing costs more than most operations do, and waking a thread costs about as much as one. So the event loop hands
over everything that arrived in one of its turns, the thread takes everything that was handed over, runs it in one
transaction, commits, and only then resolves all waiters with a single wake-up of the loop.

Every operation is still atomic by itself. An operation that fails before it changed anything has nothing to undo. One
that fails afterwards, which is rare, costs the group: it is rolled back and each of its operations runs again in a
transaction of its own. That keeps savepoints off the path that everybody takes.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from spooled.clock import Clock
from spooled_contrib.server._events import Event, Hub
from spooled_contrib.server._storage import Dialect, Row, Tx
from spooled_contrib.server._storage.groups import Done, Waiter
from spooled_contrib.server._storage.tallies import Tallies

T = TypeVar("T")

LARGEST_GROUP = 256
"""Operations in one transaction. Bounds how long the first of them waits for the last."""

SQLITE = Dialect(
    for_update="",
    skip_locked="",
    any_of="{column} IN ({select})",
    has_tag=(
        "EXISTS (SELECT 1 FROM json_each(jobs.tags) AS tag WHERE ? = "
        "CASE json_type(jobs.tags) WHEN 'array' THEN tag.value WHEN 'object' THEN tag.key END)"
    ),
)


class SqliteTx:
    """A `Tx` on a SQLite connection. See `spooled_contrib.server._storage.Tx`."""

    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection, clock: Clock, hub: Hub) -> None:
        self._cursor = connection.cursor()
        self._clock = clock
        self._hub = hub
        self.now = 0
        self.wrote = False
        self.tallies = Tallies()
        self.events: list[Event] = []
        self.told: list[tuple[str, str]] = []

    @property
    def listening(self) -> bool:
        return self._hub.listening

    def begin(self) -> None:
        """Forget the operation before."""
        self.now = round(self._clock.now() * 1_000_000)
        self.wrote = False
        self.events = []
        self.told = []

    def select(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return self._cursor.execute(sql, params).fetchall()

    def select_one(self, sql: str, params: Sequence[object] = ()) -> Row | None:
        rows = self._cursor.execute(sql, params).fetchall()
        return rows[0] if rows else None

    def change(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self.wrote = True
        return self._cursor.execute(sql, params).fetchall()

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        self.wrote = True
        return self._cursor.execute(sql, params).rowcount

    def execute_many(self, sql: str, params: Iterable[Sequence[object]]) -> None:
        self.wrote = True
        self._cursor.executemany(sql, params)

    def tally(self, sql: str, amount: int, key: Sequence[object]) -> None:
        # Counted as a change: when the operation fails afterwards, the group starts again without it.
        self.wrote = True
        self.tallies.add(sql, amount, key)

    def serialize(self, name: str) -> None:
        """There is one writer."""

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def tell(self, topic: str, text: str) -> None:
        self.told.append((topic, text))


class Lane:
    """Runs operations on one connection, in the order in which they were submitted."""

    def __init__(
        self, name: str, connection: sqlite3.Connection, *, begin: str, clock: Clock, hub: Hub
    ) -> None:
        self._connection = connection
        self._begin = begin
        self._tx = SqliteTx(connection, clock, hub)
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._gathering: list[Waiter] = []
        self._queue: queue.SimpleQueue[list[Waiter] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[Tx], T]) -> asyncio.Future[T]:
        """Queue an operation. Everything submitted during one turn of the loop travels together."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(RuntimeError("the server is stopped"))
            return future
        if not self._gathering:
            self._loop.call_soon(self._hand_over)
        self._gathering.append((operation, future))
        return future

    async def close(self) -> None:
        """Finish what was submitted, then end the thread. The connection stays open."""
        self._closed = True
        self._hand_over()
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _hand_over(self) -> None:
        if self._gathering:
            self._queue.put(self._gathering)
            self._gathering = []

    def _run(self) -> None:
        while (group := self._queue.get()) is not None:
            last = False
            while len(group) < LARGEST_GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group = group + more
            self._loop.call_soon_threadsafe(self._resolve, self._run_group(group))
            if last:
                return

    def _resolve(self, done: Done) -> None:
        done.resolve(self._hub)

    def _run_group(self, group: list[Waiter]) -> Done:
        try:
            return self._attempt(group)
        except _TakeApartError:
            self._rollback()
        done = Done()
        for waiter in group:
            try:
                done.add(self._attempt([waiter]))
            except _TakeApartError as error:
                self._rollback()
                done.outcomes.append((waiter[1], None, error.cause))
        return done

    def _attempt(self, group: list[Waiter]) -> Done:
        tx = self._tx
        tx.tallies.clear()
        done = Done()
        try:
            self._connection.execute(self._begin)
            for operation, future in group:
                tx.begin()
                try:
                    done.outcomes.append((future, operation(tx), None))
                except Exception as error:
                    if tx.wrote or isinstance(error, sqlite3.Error):
                        raise
                    done.outcomes.append((future, None, error))
                else:
                    done.events += tx.events
                    done.told += tx.told
            for sql, params in tx.tallies.statements():
                self._connection.execute(sql, params)
            self._connection.execute("COMMIT")
        except Exception as error:
            raise _TakeApartError(error) from error
        return done

    def _rollback(self) -> None:
        # Some failures (disk full, I/O) make SQLite end the transaction by itself.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


class _TakeApartError(Exception):
    """An operation failed after it had changed something, or the commit failed."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
