"""Threads that run operations on PostgreSQL in groups, each thread on a connection of its own.

Like the SQLite lane: what arrives together shares a transaction, and all of its waiters are resolved by one wake-up of
the loop. While one thread waits for its commit, the next one works.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from spooled.clock import Clock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._storage.groups import Done, Waiter
from spooled_contrib.server._storage.postgres.connecting import Address
from spooled_contrib.server._storage.postgres.seat import Seat, Server

T = TypeVar("T")

LARGEST_GROUP = 128
"""Operations in one transaction. Bounds how long rows are held, and how much is done again when it fails."""


class Lanes:
    """Runs operations on `count` connections. An operation may run beside others, but never beside itself."""

    def __init__(
        self, name: str, count: int, address: Address, *, server: Server | None, clock: Clock, hub: Hub
    ) -> None:
        self._address = address
        self._server = server
        self._clock = clock
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._gathering: list[Waiter] = []
        self._queue: queue.SimpleQueue[list[Waiter] | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(1, count + 1)
        ]
        for thread in self._threads:
            thread.start()

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
        """Finish what was submitted, then end the threads and their connections."""
        self._closed = True
        self._hand_over()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join)

    def _hand_over(self) -> None:
        if self._gathering:
            self._queue.put(self._gathering)
            self._gathering = []

    def _run(self) -> None:
        seat = Seat(self._address, self._server, self._clock, self._hub)
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
            for done in seat.run(group):
                self._loop.call_soon_threadsafe(self._resolve, done)
            if last:
                break
        seat.close()

    def _resolve(self, done: Done) -> None:
        done.resolve(self._hub)
