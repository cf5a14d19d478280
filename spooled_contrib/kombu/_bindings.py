"""Bindings that processes share: of exchanges for broadcast, replies and events.

Each is a job that nobody runs, with the exchange as its tag; its type names the routing key and the queue, so that one
request lists them all. It lives for two minutes and is renewed while its channel is open.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import time
from typing import TYPE_CHECKING

from spooled import AsyncSpooledClient, SpooledError
from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._names import to_spooled

if TYPE_CHECKING:
    from spooled_contrib.kombu._courier import Courier

logger = logging.getLogger("spooled.kombu")

BINDINGS = "kombu-bindings"
LIFETIME = 120.0
RENEWAL = 40.0
LOOK = 5.0
"""Seconds between two looks for what is to be renewed."""

FRESH = 5.0
"""Seconds that a list is used before it is asked for again."""

Binding = tuple[str, str]
"""Routing key and queue."""


class Bindings:
    """The bindings of one server, as one process sees them."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._lock = _threads.new_condition()  # the courier's thread needs it too
        self._own: dict[tuple[str, Binding], float] = {}
        self._known: dict[str, tuple[float, list[Binding]]] = {}

    def bind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Let everybody know."""
        with self._lock:
            self._own[exchange, (routing_key, queue)] = time.monotonic()
            self._known.pop(exchange, None)
        self._courier.call(lambda client: self._tell(client, exchange, (routing_key, queue)))

    def unbind(self, queue: str) -> None:
        """Renew the queue's bindings no more."""
        with self._lock:
            for key in [key for key in self._own if key[1][1] == queue]:
                del self._own[key]

    def lookup(self, exchange: str, *, fresh: bool = False) -> list[Binding]:
        """Everybody's bindings to an exchange.

        Args:
            exchange: The exchange.
            fresh: Ask the server, whatever was known.
        """
        with self._lock:
            at, found = self._known.get(exchange, (0.0, []))
        if not fresh and at and time.monotonic() - at < FRESH:
            return found
        return self._courier.call(lambda client: self._ask(client, exchange))

    async def find(self, client: AsyncSpooledClient, exchange: str) -> list[Binding]:
        """As `lookup`, on the courier's loop."""
        with self._lock:
            at, found = self._known.get(exchange, (0.0, []))
        return found if at and time.monotonic() - at < FRESH else await self._ask(client, exchange)

    async def _ask(self, client: AsyncSpooledClient, exchange: str) -> list[Binding]:
        jobs = await client.jobs.list(
            queue_name=self._queue, tag=f"x:{exchange}", status="pending", limit=100
        )
        unique = dict.fromkeys(job.job_type for job in jobs)
        found = [(routing_key, queue) for routing_key, queue in (json.loads(one) for one in unique if one)]
        with self._lock:
            self._known[exchange] = (time.monotonic(), found)
        return found

    async def keep(self, client: AsyncSpooledClient) -> None:
        """Tell again what is about to be forgotten. On the courier's loop, all the time."""
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            with self._lock:
                due = [key for key, at in self._own.items() if now - at > RENEWAL]
            for key in due:
                try:
                    await self._tell(client, *key)
                except SpooledError as error:
                    logger.warning("a binding to %s could not be renewed; trying again: %s", key[0], error)
                    break
                with self._lock:
                    if key in self._own:
                        self._own[key] = now

    async def _tell(self, client: AsyncSpooledClient, exchange: str, binding: Binding) -> None:
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LIFETIME)
        await client.jobs.create(
            queue_name=self._queue,
            payload={"job_type": json.dumps(binding)},
            tags=[f"x:{exchange}"],
            expires_at=expires,
            max_retries=0,
        )

    @property
    def _queue(self) -> str:
        return to_spooled(f"{self._courier.options.prefix}{BINDINGS}")
