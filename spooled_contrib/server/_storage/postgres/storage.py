"""`PostgresStorage`: writing threads, reading threads, and one connection for the other servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import psycopg

from spooled.clock import Clock, SystemClock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Tx, prove_write
from spooled_contrib.server._storage.lanes import Lanes
from spooled_contrib.server._storage.postgres.connecting import Address
from spooled_contrib.server._storage.postgres.migrating import migrate
from spooled_contrib.server._storage.postgres.peers import Peers
from spooled_contrib.server._storage.postgres.seat import LARGEST_GROUP, Seat, Server
from spooled_contrib.server._storage.postgres.shared_clock import SharedClock
from spooled_contrib.server._storage.postgres.silence import SilenceWatch

T = TypeVar("T")

WRITERS = 2
"""Transactions at once. While one commits, the next one works; more of them mostly wait for each other's rows."""

READERS = 2


class PostgresStorage:
    """See `Storage`. Any number of servers may share a database.

    Args:
        url: As in `postgresql://user:password@host:5432/name`.
        clock: The time; a `SystemClock` is corrected to the database's, so that all servers share it.
        hub: Gets the events of all servers.
    """

    def __init__(self, url: str, *, clock: Clock, hub: Hub) -> None:
        self._address = Address(url)
        self._hub = hub
        shared = SharedClock(clock) if isinstance(clock, SystemClock) else None
        self._clock: Clock = shared or clock
        self._peers = Peers(self._address, hub, shared)

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def leads(self) -> bool:
        return self._peers.leads

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            schema = await loop.run_in_executor(None, self._migrate)
            await self._peers.start(schema)
        except psycopg.Error as error:
            raise self._address.explain(error) from error
        self._hub.announce = self._peers.announce
        server = Server(self._peers.id, self._peers.channel)
        writers, readers = self._seats(WRITERS, server), self._seats(READERS, None)
        self._watch = SilenceWatch([seat.patience for seat in (*writers, *readers)])
        self._writers = self._lanes("writer", writers)
        self._readers = self._lanes("reader", readers)

    async def close(self) -> None:
        await self._readers.close()
        await self._writers.close()
        await asyncio.get_running_loop().run_in_executor(None, self._watch.stop)
        await self._peers.stop()

    async def write(self, operation: Callable[[Tx], T]) -> T:
        return await self._writers.submit(operation)

    async def read(self, operation: Callable[[Tx], T]) -> T:
        return await self._readers.submit(operation)

    async def probe(self) -> None:
        await self.write(prove_write)

    def _migrate(self) -> str:
        with contextlib.closing(self._address.connect()) as connection:
            return migrate(connection, self._address)

    def _seats(self, count: int, server: Server | None) -> list[Seat]:
        return [Seat(self._address, server, self._clock, self._hub) for _ in range(count)]

    def _lanes(self, name: str, seats: list[Seat]) -> Lanes:
        return Lanes(f"spooled-postgres-{name}", seats, largest_group=LARGEST_GROUP, hub=self._hub)
