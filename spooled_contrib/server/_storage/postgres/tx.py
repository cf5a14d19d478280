"""One operation's view of a PostgreSQL connection, in pipeline mode.

What nobody waits for (`execute_many`, tallies, the commit itself) is sent along with the next statement that somebody
does wait for. Every answer that is waited for costs a journey to the database and a turn of the interpreter's lock,
and that is most of what an operation costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import psycopg

from spooled.clock import Clock
from spooled_contrib.server._events import Event
from spooled_contrib.server._storage import Row
from spooled_contrib.server._storage.postgres.silence import Patience
from spooled_contrib.server._storage.postgres.sql import POSTGRES, to_driver
from spooled_contrib.server._storage.tallies import Tallies

_SERIALIZE = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || %s, 0))"


class PostgresTx:
    """A `Tx` on a PostgreSQL connection. See `spooled_contrib.server._storage.Tx`."""

    dialect = POSTGRES

    def __init__(self, connection: psycopg.Connection[Row], clock: Clock, patience: Patience) -> None:
        self._connection = connection
        self._patience = patience
        self._clock = clock
        self._interest: psycopg.Cursor[Row] | None = None
        self._own_interest = False
        self.now = 0
        self.wrote = False
        self.tallies = Tallies()
        self.events: list[Event] = []
        self.told: list[tuple[str, str]] = []

    def start(self, begin: Sequence[str], interest: str | None, own_interest: bool) -> None:
        """Begin a transaction. `interest` asks whether others have listeners, `own_interest` answers for here."""
        self.tallies.clear()
        for statement in begin:
            self.send(statement)
        self._interest = None if interest is None else self.send(interest)
        self._own_interest = own_interest

    @property
    def listening(self) -> bool:
        # Asked when the transaction began; looked at only when somebody wants to know.
        if self._interest is not None:
            row = self._interest.fetchone()
            self._patience.heard_at = time.monotonic()
            self._own_interest = self._own_interest or (row is not None and bool(row[0]))
            self._interest = None
        return self._own_interest

    def send(self, statement: str, params: Sequence[object] | None = None) -> psycopg.Cursor[Row]:
        """Send a statement in the driver's words. Its failure, if any, comes with the next answer."""
        return self._connection.execute(statement.encode(), params)

    def begin(self) -> None:
        """Forget the operation before."""
        self.now = round(self._clock.now() * 1_000_000)
        self.wrote = False
        self.events = []
        self.told = []

    def select(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return self._rows(self.send(to_driver(sql), params))

    def select_one(self, sql: str, params: Sequence[object] = ()) -> Row | None:
        row = self.send(to_driver(sql), params).fetchone()
        self._patience.heard_at = time.monotonic()
        return row

    def change(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self.wrote = True
        return self._rows(self.send(to_driver(sql), params))

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        self.wrote = True
        # In pipeline mode only rows are waited for, so the changed ones are counted by asking for one each.
        return len(self._rows(self.send(to_driver(sql) + " RETURNING 1", params)))

    def execute_many(self, sql: str, params: Iterable[Sequence[object]]) -> None:
        self.wrote = True
        self._connection.cursor().executemany(to_driver(sql).encode(), params)

    def tally(self, sql: str, amount: int, key: Sequence[object]) -> None:
        # Counted as a change: when the operation fails afterwards, the group starts again without it.
        self.wrote = True
        self.tallies.add(sql, amount, key)

    def serialize(self, name: str) -> None:
        self.send(_SERIALIZE, (f":{name}",))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def _rows(self, cursor: psycopg.Cursor[Row]) -> list[Row]:
        rows = cursor.fetchall()
        self._patience.heard_at = time.monotonic()
        return rows

    def tell(self, topic: str, text: str) -> None:
        self.told.append((topic, text))
