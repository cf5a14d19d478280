"""One operation's view of a PostgreSQL connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from spooled.clock import Clock
from spooled_contrib.server._events import Event
from spooled_contrib.server._storage import Row
from spooled_contrib.server._storage.postgres.sql import POSTGRES, to_driver
from spooled_contrib.server._storage.tallies import Tallies


class PostgresTx:
    """A `Tx` on a PostgreSQL connection. See `spooled_contrib.server._storage.Tx`."""

    dialect = POSTGRES

    def __init__(self, connection: psycopg.Connection[Row], clock: Clock) -> None:
        self._cursor = connection.cursor()
        self._clock = clock
        self.now = 0
        self.wrote = False
        self.listening = False
        self.tallies = Tallies()
        self.events: list[Event] = []
        self.told: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Forget the operation before."""
        self.now = round(self._clock.now() * 1_000_000)
        self.wrote = False
        self.events = []
        self.told = []

    def select(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return self._cursor.execute(to_driver(sql), params).fetchall()

    def select_one(self, sql: str, params: Sequence[object] = ()) -> Row | None:
        return self._cursor.execute(to_driver(sql), params).fetchone()

    def change(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self.wrote = True
        return self._cursor.execute(to_driver(sql), params).fetchall()

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        self.wrote = True
        return self._cursor.execute(to_driver(sql), params).rowcount

    def execute_many(self, sql: str, params: Iterable[Sequence[object]]) -> None:
        self.wrote = True
        rows = list(params)
        if len(rows) == 1:
            self._cursor.execute(to_driver(sql), rows[0])
        elif rows:
            self._cursor.executemany(to_driver(sql), rows)

    def tally(self, sql: str, amount: int, key: Sequence[object]) -> None:
        # Counted as a change: when the operation fails afterwards, the group starts again without it.
        self.wrote = True
        self.tallies.add(sql, amount, key)

    def serialize(self, name: str) -> None:
        self._cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || %s, 0))", (f":{name}",)
        )

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def tell(self, topic: str, text: str) -> None:
        self.told.append((topic, text))
