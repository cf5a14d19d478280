"""What a server knows of the other servers on its database: their messages, their listeners, and who leads.

One connection is kept for this. It listens, and it says every few seconds that the server is there.

The leader is whoever holds a lease, a row that ends by the database's clock unless its holder renews it each second.
A lock would do as long as servers end; one that is stopped in its tracks holds a lock for ever. A leader counts its
lease from before it asked, by a clock that goes on while it is stopped, so that it knows when it wakes. A sweep that
was under way then does no harm: every rule is right beside itself on another server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid

import psycopg
from psycopg import sql

from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Row
from spooled_contrib.server._storage.errors import StorageFailedError
from spooled_contrib.server._storage.postgres.connecting import Address
from spooled_contrib.server._storage.postgres.messages import Inbox
from spooled_contrib.server._storage.postgres.shared_clock import SharedClock

logger = logging.getLogger("spooled.server")

TURN_SECONDS = 1.0
"""How often the leader renews its lease and a follower tries to get it. A row may say for this long that
somebody listens who left."""

GREETING_TURNS = 5
"""Turns between two signs of life. A server that gave none for 30 s is not taken to listen any more."""

LEASE_SECONDS = 5.0
"""How long the leader leads without a word. Another one takes over that much later at most, and a turn."""

REPLY_SECONDS = 5.0
"""How long the connection may be silent on a question before it is given up."""

RECONNECT_SECONDS = 1.0

_LEAD = (
    "INSERT INTO leader (role, server_id, expires_at) "  # noqa: S608
    f"VALUES ('sweeps', %s, clock_timestamp() + interval '{LEASE_SECONDS} seconds') "
    "ON CONFLICT (role) DO UPDATE SET server_id = excluded.server_id, expires_at = excluded.expires_at "
    "WHERE leader.server_id = excluded.server_id OR leader.expires_at <= clock_timestamp() RETURNING 1"
)
_GREET = (
    "INSERT INTO servers (id, listening, seen_at) VALUES (%s, %s, now()) "
    "ON CONFLICT (id) DO UPDATE SET listening = excluded.listening, seen_at = excluded.seen_at"
)
_FORGET = "DELETE FROM servers WHERE seen_at < now() - interval '1 hour'"


class Peers:
    """This server among those of its database. Belongs to one event loop."""

    def __init__(self, address: Address, hub: Hub, clock: SharedClock | None) -> None:
        self.id = uuid.uuid4().hex
        self.channel = ""
        self._leads_until = float("-inf")
        self._led = False
        self._address = address
        self._hub = hub
        self._clock = clock
        self._inbox = Inbox(self.id)
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._known_to_listen = False
        self._announcing = asyncio.Lock()
        self._greeted = 0

    @property
    def leads(self) -> bool:
        """Whether this server holds the lease."""
        return time.monotonic() < self._leads_until

    async def start(self, schema: str) -> None:
        """Join the others.

        Raises:
            psycopg.Error: the database cannot be reached.
        """
        self.channel = f"spooled_{schema}"[:63]
        await self._join()
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Leave; the next one may lead."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(REPLY_SECONDS):
                    await self._connection.execute("DELETE FROM leader WHERE server_id = %s", (self.id,))
                    await self._connection.execute("DELETE FROM servers WHERE id = %s", (self.id,))
            await self._connection.close()

    async def announce(self) -> None:
        """Return when all servers know that somebody listens here (`Hub.announce`)."""
        async with self._announcing:
            # While cut off, nothing that others do would arrive anyway; joining again tells them.
            if not self._known_to_listen and not self._hub.cut_off:
                try:
                    # Not on the listening connection, which is busy waiting.
                    async with await self._address.connect_async() as connection:
                        await connection.execute(_GREET, (self.id, 1))
                except psycopg.Error as error:
                    logger.warning("other servers were not told that somebody listens here: %s", error)
                else:
                    self._known_to_listen = True

    async def _join(self) -> None:
        connection = self._connection = await self._address.connect_async()
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
        await self._greet(connection)
        await connection.execute(_FORGET)
        await self._try_to_lead(connection)
        await self._compare_clocks(connection)

    async def _run(self) -> None:
        turn = 0
        while True:
            try:
                connection = self._connection
                if connection is None:
                    async with asyncio.timeout(2 * REPLY_SECONDS):
                        await self._join()
                    await self._catch_up()
                    continue
                async for notification in connection.notifies(timeout=TURN_SECONDS):
                    self._hear(notification.payload)
                turn += 1
                async with asyncio.timeout(REPLY_SECONDS):
                    await self._turn(connection, turn)
            except (psycopg.Error, OSError, TimeoutError, StorageFailedError) as error:
                await self._lose(error)
            except Exception as error:
                logger.exception("following the other servers failed")
                await self._lose(error)

    async def _turn(self, connection: psycopg.AsyncConnection[Row], turn: int) -> None:
        if turn % GREETING_TURNS == 0 or self._known_to_listen != self._hub.listening:
            async with self._announcing:
                await self._greet(connection)
        await self._try_to_lead(connection)
        if turn % GREETING_TURNS == 0:
            await self._compare_clocks(connection)

    async def _greet(self, connection: psycopg.AsyncConnection[Row]) -> None:
        listening = self._hub.listening
        await connection.execute(_GREET, (self.id, int(listening)))
        self._known_to_listen = listening

    async def _try_to_lead(self, connection: psycopg.AsyncConnection[Row]) -> None:
        asked_at = time.monotonic()
        row = await (await connection.execute(_LEAD, (self.id,))).fetchone()
        self._leads_until = float("-inf") if row is None else asked_at + LEASE_SECONDS
        if self._led != (row is not None):
            self._led = not self._led
            words = "does" if self._led else "no longer does"
            logger.info("this server %s the sweeps of %s", words, self._address.shown)

    async def _compare_clocks(self, connection: psycopg.AsyncConnection[Row]) -> None:
        if self._clock is None:
            return
        asked_at = self._clock.own_now()
        row = await (
            await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        ).fetchone()
        assert row is not None
        self._clock.compare(asked_at, row[0], self._clock.own_now())

    async def _catch_up(self) -> None:
        """Forget what was remembered before the connection was lost, then trust memory again."""
        if self._hub.rejoin is not None:
            await self._hub.rejoin()
        self._hub.cut_off = False
        logger.warning("messages of other servers arrive again")

    async def _lose(self, error: Exception) -> None:
        if not self._hub.cut_off:
            logger.warning(
                "messages of other servers on %s do not arrive; connecting again every %g s: %s",
                self._address.shown,
                RECONNECT_SECONDS,
                str(error) or type(error).__name__,
            )
        self._hub.cut_off = True
        # The lease is not given back: the next one gets it when it ends, and until then this one may go on.
        self._known_to_listen = False
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        await asyncio.sleep(RECONNECT_SECONDS)

    def _hear(self, payload: str) -> None:
        try:
            message = self._inbox.take(payload)
        except ValueError as error:
            logger.warning("a message on the channel %s was not understood: %s", self.channel, error)
            return
        if message is not None:
            told, events = message
            self._hub.hear(told)
            self._hub.publish(events)
