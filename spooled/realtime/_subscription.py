"""Keeps one connection open and passes on what comes over it. For one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from spooled.errors import AuthenticationError, NetworkError, SpooledError
from spooled.realtime._access import Access
from spooled.realtime._filters import Subscriptions
from spooled.realtime._reconnect_policy import STEADY, ReconnectOptions, ReconnectPolicy
from spooled.realtime._source import Connection, Source
from spooled.realtime.events import ConnectionState, RealtimeEvent

_log = logging.getLogger("spooled.realtime")


class Subscription:
    """The life of a subscription: connect, read, and connect again when the connection is lost.

    Args:
        source: Makes connections.
        access: Renews what a 401 refuses.
        options: How to reconnect.
        deliver: Gets each wanted event; the next is read when it returns.
        changed: Gets each new state.
        over: Called when the feed has ended, with the reason unless it was closed or had nothing more to tell.

    Attributes:
        subscriptions: What is wanted. Call `resubscribe` after a change.
        state: How it is connected.
        last_error: The latest trouble; None when there was none.
    """

    def __init__(
        self,
        source: Source,
        access: Access,
        options: ReconnectOptions,
        *,
        deliver: Callable[[RealtimeEvent], Awaitable[None]],
        changed: Callable[[ConnectionState], None],
        over: Callable[[SpooledError | None], None],
    ) -> None:
        self.subscriptions = Subscriptions()
        self.state = ConnectionState.DISCONNECTED
        self.last_error: SpooledError | None = None
        self._source = source
        self._access = access
        self._reconnects = ReconnectPolicy(options)
        self._deliver = deliver
        self._changed = changed
        self._over = over
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._connected: asyncio.Future[None] | None = None
        self._delivering = False
        self._changing = asyncio.Lock()
        self._settled: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connect, once; later losses are mended by themselves. Nothing happens when it is connected already.

        Raises:
            SpooledError: It could not be done.
        """
        if self._task is None:
            self._reconnects.reset()
            self._connected = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._connected))
        if self._connected is not None:
            await asyncio.shield(self._connected)

    async def close(self) -> None:
        """Disconnect. Nothing happens when it is not connected."""
        task, self._task = self._task, None
        if task is None:
            return
        if asyncio.current_task() is self._reading:
            self._connection = None  # called by a handler: the reader that called it sees this and ends
            return
        task.cancel()
        await asyncio.wait({task})

    async def resubscribe(self) -> None:
        """Tell the server about changed subscriptions, and wait until that is done or has failed."""
        async with self._changing:
            connection = self._connection
            if connection is None or await connection.change(self.subscriptions.in_common):
                return
        if self._connection is not connection:
            return  # lost meanwhile, and the next one is asked for what is wanted then
        self._connection = None  # the reader sees this after the event that it is delivering
        if self._delivering or self._reading is None:
            return  # perhaps it is a handler that asks, and the reader waits for that
        settled = self._settled = self._settled or asyncio.get_running_loop().create_future()
        self._reading.cancel()
        await asyncio.shield(settled)

    # --- inside the task ------------------------------------------------------------------------------------

    async def _run(self, connected: asyncio.Future[None]) -> None:
        error: SpooledError | None = None
        try:
            error = await self._live(connected)
        except asyncio.CancelledError:
            raise
        except Exception as bug:
            error = SpooledError(f"realtime stopped: {bug!r}")
            error.__cause__ = bug
            _log.exception("realtime stopped because of an unexpected error")
        finally:
            self._settle()
            if error is not None:
                self.last_error = error
            try:
                # A handler may have disconnected and connected anew: then the next task has taken over.
                if self._task is None or self._task is asyncio.current_task():
                    self._task = None
                    with contextlib.suppress(SpooledError):
                        await self._source.aclose()
                    self._become(ConnectionState.DISCONNECTED)
                    self._over(error)
            finally:
                # Last, so that the state is what it should be when `connect()` raises.
                if not connected.done():
                    lost = NetworkError("disconnected before a connection came about")
                    connected.set_exception(error or lost)
                    connected.exception()  # the caller may have stopped waiting for it

    async def _live(self, connected: asyncio.Future[None]) -> SpooledError | None:
        """Connect and read until it is over, and why."""
        renewed = False
        self._become(ConnectionState.CONNECTING)
        while self._task is asyncio.current_task():
            try:
                await self._listen(connected)
                renewed = False
                continue
            except _FinishedError:
                return None
            except AuthenticationError as error:
                trouble: SpooledError = error
                if not renewed and await self._renewed():
                    renewed = True
                    continue
            except SpooledError as error:
                trouble = error
                renewed = False
            self.last_error = trouble
            self._settle()
            wait = self._reconnects.next(trouble) if connected.done() else None
            if wait is None:
                return trouble
            self._become(ConnectionState.RECONNECTING)
            _log.info("realtime: the next attempt is in %.1f s, after %s", wait, trouble)
            await asyncio.sleep(wait)
        return None

    async def _listen(self, connected: asyncio.Future[None]) -> None:
        """One connection, until another is wanted.

        Raises:
            SpooledError: It did not come about, or was lost.
            _FinishedError: There is nothing more to tell.
        """
        loop = asyncio.get_running_loop()
        wanted = self.subscriptions.in_common
        async with self._source.open(wanted) as connection:
            opened_at = loop.time()
            if not await connection.change(self.subscriptions.in_common):
                return  # changed while the connection was made
            self._connection = connection
            self._become(ConnectionState.CONNECTED)
            self._settle()
            if not connected.done():
                connected.set_result(None)
            self._reading = asyncio.create_task(self._read(connection))
            try:
                await asyncio.wait({self._reading})
            finally:
                self._connection = None
                if loop.time() - opened_at >= STEADY:
                    self._reconnects.reset()
                self._reading.cancel()
                await _until_done(self._reading)
            if not self._reading.cancelled():
                self._reading.result()

    async def _read(self, connection: Connection) -> None:
        async with contextlib.aclosing(connection.events()) as events:
            async for event in events:
                if self._source.resets_backoff_on_data:
                    self._reconnects.reset()
                if self.subscriptions.wants(event):
                    self._delivering = True
                    try:
                        await self._deliver(event)
                    finally:
                        self._delivering = False
                if self._connection is not connection:
                    return  # a handler has subscribed to something else, or disconnected
        self._ended(connection)

    def _ended(self, connection: Connection) -> NoReturn:
        if connection.finished:
            raise _FinishedError
        raise NetworkError("the server ended the connection")

    async def _renewed(self) -> bool:
        try:
            return await self._access.renew()
        except SpooledError as error:
            _log.info("realtime: the access token could not be renewed: %s", error)
            return False

    def _settle(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None and not settled.done():
            settled.set_result(None)

    def _become(self, state: ConnectionState) -> None:
        if state is not self.state:
            self.state = state
            self._changed(state)


async def _until_done(task: asyncio.Task[None]) -> None:
    """Wait for a cancelled task even when cancelled meanwhile: what it reads must not be closed under it."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


class _FinishedError(Exception):
    """There is nothing more to tell."""
