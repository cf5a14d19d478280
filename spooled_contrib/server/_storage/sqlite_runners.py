"""Run operations on SQLite: one connection that writes in groups, one that reads in short turns.

Every operation of a group is still atomic by itself. An operation that fails before it changed anything has nothing to
undo. One that fails afterwards, which is rare, costs the group: it is rolled back and each of its operations runs again
in a transaction of its own. That keeps savepoints off the path that everybody takes.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from spooled.clock import Clock
from spooled_contrib.server._events import Event, Hub
from spooled_contrib.server._storage import Dialect, Row
from spooled_contrib.server._storage.database_file import DatabaseFile
from spooled_contrib.server._storage.errors import DatabaseOutageError, OperationTimeoutError
from spooled_contrib.server._storage.groups import Done, Waiter
from spooled_contrib.server._storage.sqlite_errors import (
    UNWRITABLE,
    is_interrupt,
    outage_of,
    uncertain_commit,
)
from spooled_contrib.server._storage.tallies import Tallies
from spooled_contrib.server._storage.write_ahead_log import WriteAheadLog

LARGEST_GROUP = 256
"""Operations in one transaction. Bounds how long the first of them waits for the last."""

READ_TURN_SECONDS = 0.1
"""A read transaction takes on no further operation after this long: while it lasts, the log cannot be reset."""

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


class GroupWriter:
    """Runs groups on the connection that writes.

    Args:
        file: The file that is written; None in memory.
        log: Its write-ahead log; None in memory.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        hub: Hub,
        *,
        file: DatabaseFile | None = None,
        log: WriteAheadLog | None = None,
    ) -> None:
        self._connection = connection
        self._tx = SqliteTx(connection, clock, hub)
        self._file = file
        self._log = log

    def run(self, group: list[Waiter]) -> Iterator[Done]:
        if group:
            yield self._run_group(group)
        if self._log is not None:
            self._log.after_group(self._connection)

    def close(self) -> None:
        """The connection belongs to the storage."""

    def _run_group(self, group: list[Waiter]) -> Done:
        try:
            return self._attempt(group)
        except _TakeApartError as error:
            failed = self._failed(error, group)
        if failed is not None:
            return failed
        done = Done()
        for number, waiter in enumerate(group):
            try:
                done.add(self._attempt([waiter]))
            except _TakeApartError as error:
                failed = self._failed(error, group[number:])
                if failed is not None:
                    done.add(failed)
                    break
                done.outcomes.append((waiter[1], None, outage_of(error.cause) or error.cause))
        return done

    def _failed(self, error: _TakeApartError, group: list[Waiter]) -> Done | None:
        """Roll back; what is told to the whole group, None when its operations are to run one by one."""
        cause = error.cause
        try:
            # Some failures (disk full, I/O) make SQLite end the transaction by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            cause = second
        uncertain = uncertain_commit(cause) if error.committing else None
        if uncertain is not None:
            return Done([(future, None, uncertain) for _, future in group])
        outage = cause if isinstance(cause, DatabaseOutageError) else outage_of(cause)
        if outage is None:
            return None
        if self._file is not None:
            self._file.note(outage)
        # A disk may have room for one operation that has none for all.
        if not error.general:
            return None
        return Done([(future, None, outage.again()) for _, future in group], outage=outage)

    def _attempt(self, group: list[Waiter]) -> Done:
        tx = self._tx
        tx.tallies.clear()
        done = Done()
        general, committing = True, False
        try:
            if self._file is not None:
                self._file.require_sound()
            self._connection.execute("BEGIN IMMEDIATE")
            general = False
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
            if self._file is not None:
                general = True
                self._file.require_same()
                general = False
            committing = True
            self._connection.execute("COMMIT")
        except Exception as error:
            raise _TakeApartError(error, general=general, committing=committing) from error
        return done


class _TakeApartError(Exception):
    """A transaction did not come to its end.

    Args:
        general: The cause lies in no operation, so that trying each by itself would not help.
        committing: The commit had begun.
    """

    def __init__(self, cause: Exception, *, general: bool, committing: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.general = general
        self.committing = committing


class TurnReader:
    """Runs operations that change nothing, in transactions that are short unless an operation is long.

    One that takes longer than `WriteAheadLog` allows is stopped.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        hub: Hub,
        *,
        file: DatabaseFile,
        log: WriteAheadLog,
    ) -> None:
        self._connection = connection
        self._tx = SqliteTx(connection, clock, hub)
        self._file = file
        self._log = log

    def run(self, group: list[Waiter]) -> Iterator[Done]:
        pending = deque(group)
        while pending:
            yield self._turn(pending)

    def close(self) -> None:
        """The connection belongs to the storage."""

    def _turn(self, pending: deque[Waiter]) -> Done:
        done = Done()
        with self._log.reading(self._connection):
            try:
                self._connection.execute("BEGIN")
                end = time.monotonic() + READ_TURN_SECONDS
                while pending and done.outage is None and time.monotonic() < end:
                    self._one(pending, done)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                # About the connection, not about an operation: each of those catches its own.
                done.outage = self._outage_of(error) or DatabaseOutageError(str(error))
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        if done.outage is not None:
            done.outcomes += [(future, None, done.outage.again()) for _, future in pending]
            pending.clear()
        return done

    def _one(self, pending: deque[Waiter], done: Done) -> None:
        operation, future = waiter = pending.popleft()
        began = time.monotonic()
        self._tx.begin()
        try:
            done.outcomes.append((future, operation(self._tx), None))
        except Exception as error:
            took = time.monotonic() - began
            if is_interrupt(error) and took < self._log.limits.shortest_interrupted:
                pending.appendleft(waiter)  # it was meant for the one before
                return
            if is_interrupt(error):
                error = OperationTimeoutError(
                    f"a read was stopped after {took:.1f} s",
                    reason=f"the search was stopped after {took:.0f} s; narrow it, by queue, status or time",
                )
            elif (outage := self._outage_of(error)) is not None:
                error = outage
                # What takes so long to find out is the same for the others.
                done.outage = outage if outage.slow else None
            done.outcomes.append((future, None, error))

    def _outage_of(self, error: Exception) -> DatabaseOutageError | None:
        outage = outage_of(error)
        # The connection is told to be read-only, so that says nothing about the file.
        if outage is None or outage.reason == UNWRITABLE:
            return None
        self._file.note(outage)
        return outage
