"""One thread's connection, and how a group of operations becomes a transaction on it.

A group in which an operation fails after it had changed something is rolled back and taken apart, as on SQLite. Two
things are different here.

Several transactions run at once, of this server and of others, so a group may have to wait for a row. A group holds
many rows, and two groups can want each other's; so a group waits only briefly before it is taken apart, and a single
operation that meets a deadlock runs again.

The connection can be lost. What was not yet being committed runs again on a new one. When it is lost during the commit,
nobody can know whether the operations happened, and their callers are told that the database failed.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure

from spooled.clock import Clock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Row
from spooled_contrib.server._storage.errors import DatabaseOutageError
from spooled_contrib.server._storage.groups import Done, Waiter
from spooled_contrib.server._storage.postgres import messages
from spooled_contrib.server._storage.postgres.connecting import Address
from spooled_contrib.server._storage.postgres.failures import classify
from spooled_contrib.server._storage.postgres.silence import Patience
from spooled_contrib.server._storage.postgres.sql import to_driver
from spooled_contrib.server._storage.postgres.tx import PostgresTx

logger = logging.getLogger("spooled.server")

LARGEST_GROUP = 128
"""Operations in one transaction. Bounds how long rows are held, and how much is done again when it fails."""

GROUP_PATIENCE = "250ms"
"""How long a group waits for a row before it is taken apart. Shorter than PostgreSQL's look for deadlocks (1 s)."""

SINGLE_PATIENCE = "5s"
"""How long one operation waits for a row. Shorter than the connection may be silent."""

TRIES = 6

_DEADLOCK = (DeadlockDetected, SerializationFailure)
_CONTENTION = (*_DEADLOCK, LockNotAvailable)

READING = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)


def writing(patience: str) -> tuple[str, ...]:
    """Return how a writing transaction begins."""
    return "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", f"SET LOCAL lock_timeout = '{patience}'"


class Server:
    """How writers send messages in the name of their server."""

    def __init__(self, server_id: str, channel: str) -> None:
        self.id = server_id
        self.channel = channel
        self.interest = (
            f"SELECT EXISTS (SELECT 1 FROM servers WHERE listening = 1 AND id <> '{server_id}' "  # noqa: S608
            "AND seen_at > now() - interval '30 seconds')"
        )
        """Asks whether another server has somebody listening."""


class Seat:
    """One thread's connection, replaced when it is lost."""

    def __init__(self, address: Address, server: Server | None, clock: Clock, hub: Hub) -> None:
        self._address = address
        self._server = server
        self._clock = clock
        self._hub = hub
        self._connection: psycopg.Connection[Row] | None = None
        self._tx: PostgresTx
        self.patience = Patience()
        self._group_begin = READING if server is None else writing(GROUP_PATIENCE)
        self._single_begin = READING if server is None else writing(SINGLE_PATIENCE)

    def close(self) -> None:
        self.patience.watch(None)
        if self._connection is not None:
            self._connection.close()

    def run(self, group: list[Waiter]) -> Iterator[Done]:
        """Run a group, taken apart when it has to be. Raises nothing: failures belong to their waiters."""
        if len(group) == 1:
            yield self._one_by_one(group, self._single_begin)[0]
            return
        try:
            yield self._attempt(group, self._group_begin)
            return
        except _FailedError as failure:
            if failure.uncertain or failure.hopeless:
                yield self._failed(group, failure)
                return
            if isinstance(failure.cause, _CONTENTION):
                logger.info(
                    "%d operations run one by one, as their rows are in use: %s", len(group), failure.cause
                )
        # Whoever has to wait goes last, so that the others need not wait for a row that they do not want.
        done, waiting = self._one_by_one(group, self._group_begin)
        yield done
        for waiter in waiting:
            yield self._one_by_one([waiter], self._single_begin)[0]

    def _failed(self, group: list[Waiter], failure: _FailedError) -> Done:
        done = Done([(future, None, failure.told(reader=self._server is None)) for _, future in group])
        error = done.outcomes[0][2]
        if isinstance(error, DatabaseOutageError) and error.slow:
            done.outage = error
        return done

    def _one_by_one(self, group: list[Waiter], begin: Sequence[str]) -> tuple[Done, list[Waiter]]:
        """Run each operation in a transaction of its own; what was done, and who found a row in use for too long."""
        patient = begin is self._single_begin
        done = Done()
        waiting: list[Waiter] = []
        for number, waiter in enumerate(group):
            try:
                done.add(self._alone(waiter, begin))
            except _FailedError as failure:
                if isinstance(failure.cause, LockNotAvailable) and not patient:
                    waiting.append(waiter)
                    continue
                # Without a database nobody gets further, and each try to connect may take seconds.
                done.add(self._failed([waiter], failure))
                rest = [*waiting, *group[number + 1 :]]
                if failure.hopeless and rest:
                    done.add(self._failed(rest, failure.without_commit()))
                    return done, []
        return done, waiting

    def _alone(self, waiter: Waiter, begin: Sequence[str]) -> Done:
        """Run one operation, again where it met a deadlock or a lost connection before its commit."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._attempt([waiter], begin)
            except _FailedError as failure:
                again = isinstance(failure.cause, _DEADLOCK) or (failure.lost and attempt == 1)
                if failure.uncertain or failure.hopeless or not again or attempt == TRIES:
                    raise
                if not failure.lost:
                    logger.warning("an operation runs again (try %d): %s", attempt + 1, failure.cause)
                    threading.Event().wait(random.uniform(0.0, 0.02 * attempt))  # noqa: S311
        raise AssertionError("the last try returns or raises")

    def _attempt(self, group: list[Waiter], begin: Sequence[str]) -> Done:
        committing = False
        done = Done()
        self.patience.begin()
        try:
            connection, tx = self._ready()
            with connection.pipeline():
                tx.start(begin, None if self._server is None else self._server.interest, self._hub.listening)
                self._run_operations(group, tx, done)
                if self._server is not None:
                    self._write_shared(self._server, tx, done)
                committing = True
                tx.send("COMMIT")
        except Exception as error:
            connected = self._connection is not None
            lost = self._undo(error)
            raise _FailedError(
                error,
                lost=lost,
                uncertain=lost and connected and committing and self._server is not None,
                silent=self.patience.exhausted,
                # There was none to be had, or another one would be as silent.
                hopeless=lost and (not connected or self.patience.exhausted),
            ) from error
        finally:
            self.patience.watch(None)
        return done

    def _run_operations(self, group: list[Waiter], tx: PostgresTx, done: Done) -> None:
        for operation, future in group:
            tx.begin()
            try:
                done.outcomes.append((future, operation(tx), None))
            except Exception as error:
                if tx.wrote or isinstance(error, psycopg.Error):
                    raise
                done.outcomes.append((future, None, error))
            else:
                done.events += tx.events
                done.told += tx.told

    def _write_shared(self, server: Server, tx: PostgresTx, done: Done) -> None:
        """Return what all operations write together, right before the commit."""
        for sql, params in tx.tallies.statements():
            tx.send(to_driver(sql), params)
        # What is for the server itself has no organization, and is nobody else's business.
        shared = [event for event in done.events if event.organization_id]
        if done.told or shared:
            for part in messages.pack(server.id, done.told, shared):
                tx.send("SELECT pg_notify(%s, %s)", (server.channel, part))

    def _ready(self) -> tuple[psycopg.Connection[Row], PostgresTx]:
        if self._connection is None:
            self._connection = self._address.connect(self.patience)
            self._tx = PostgresTx(self._connection, self._clock, self.patience)
        self.patience.heard_at = time.monotonic()
        self.patience.watch(self._connection)
        return self._connection, self._tx

    def _undo(self, error: Exception) -> bool:
        """Roll back; whether the connection is lost."""
        # How a failure is told belongs to `DatabaseHealth`: one line for each outage, not for each operation.
        connection = self._connection
        if connection is None:
            logger.debug("no connection to the database %s: %s", self._address.shown, error)
            return True
        try:
            if not connection.closed:
                connection.execute("ROLLBACK")
                return False
        except psycopg.Error as second:
            logger.debug("rolling back failed: %s", second)
        logger.info("the connection to the database %s was lost: %s", self._address.shown, error)
        self.patience.watch(None)
        connection.close()
        self._connection = None
        return True


class _FailedError(Exception):
    """A transaction did not come to its end."""

    def __init__(
        self, cause: Exception, *, lost: bool, uncertain: bool, silent: bool, hopeless: bool
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.lost = lost
        self.uncertain = uncertain
        self.silent = silent
        self.hopeless = hopeless

    def without_commit(self) -> _FailedError:
        """Return the same for operations that were not begun."""
        return _FailedError(
            self.cause, lost=self.lost, uncertain=False, silent=self.silent, hopeless=self.hopeless
        )

    def told(self, *, reader: bool) -> Exception:
        """Return what the waiter gets."""
        if not isinstance(self.cause, psycopg.Error):
            return self.cause
        told = classify(
            self.cause, lost=self.lost, silent=self.silent, uncertain=self.uncertain, reader=reader
        )
        told.__cause__ = self.cause
        return told
