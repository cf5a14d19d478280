"""The WebSocket (realtime contract, section 2).

One task hears the client's commands, another tells it what happens. A command is never answered with an error: what
cannot be read, or asks for what the key may not see, is passed over, as the contract says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._api.subscriptions import (
    EVENT_NAMES,
    KEY_CHECK_SECONDS,
    WantedNames,
    may_be_asked_for,
    may_go_on,
    requested,
)
from spooled_contrib.server._events import Event, Subscription
from spooled_contrib.server._storage.errors import StorageFailedError
from spooled_contrib.server._times import text

PING_SECONDS = 30.0
"""Real seconds between two `Ping` events; the clock of the jobs has nothing to do with a network's silence."""

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011

logger = logging.getLogger("spooled.server")

_encode = msgspec.json.Encoder().encode


class Command(msgspec.Struct):
    """What a client may send. Clients spell `cmd` in either case; members that are not named here are ignored."""

    cmd: str
    queue: str | None = None
    job_id: str | None = None


_read_command = msgspec.json.Decoder(Command).decode


class _GoneError(Exception):
    """The client has closed the connection, or is about to be told that the server does."""


class Socket:
    """One open WebSocket, as an ASGI application."""

    status_code = 101

    def __init__(self, call: Call, subscription: Subscription, wanted: WantedNames) -> None:
        self._call = call
        self._subscription = subscription
        self._wanted = wanted
        self._receive: Receive
        self._send: Send

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        hub = self._call.services.hub
        hub.subscribe(self._subscription)
        try:
            await hub.made_known()
            await receive()  # the handshake's first half, which announces what the scope has told already
            await send({"type": "websocket.accept"})
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._tell())
        except* (_GoneError, OSError):
            pass  # it was closed, or the client went away in the middle of a message: there is nobody to tell
        except* StorageFailedError as failures:
            logger.info("a WebSocket was ended: %s", failures.exceptions[0])
            with contextlib.suppress(_GoneError, OSError):
                await self._close(INTERNAL_ERROR, "the database cannot be used at the moment")
        finally:
            hub.unsubscribe(self._subscription)

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise _GoneError
            received = message.get("text")
            if received is not None:
                await self._obey(received)
            # Commands that arrive in one piece are taken without a pause; others get their turn between two of them.
            await asyncio.sleep(0)

    async def _obey(self, received: str) -> None:
        try:
            command = _read_command(received)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return
        match command.cmd.lower():
            case "ping":
                await self._ping()
            case "subscribe":
                await self._subscribe(command)
            case "unsubscribe":
                self._unsubscribe(command)

    async def _subscribe(self, command: Command) -> None:
        """Overwrites the given members only: there is one filter, not a list of them."""
        queue_name = command.queue
        if queue_name is not None:
            # By the scope that the key has now, not by the one that it had at the last event.
            await may_go_on(self._call, self._subscription)
            if not (may_be_asked_for(queue_name) and self._call.principal.may_use(queue_name)):
                return
        if queue_name is not None:
            self._subscription.queue_name = queue_name
        if command.job_id is not None:
            self._subscription.job_id = command.job_id

    def _unsubscribe(self, command: Command) -> None:
        subscription = self._subscription
        if command.queue is None or command.queue == subscription.queue_name:
            subscription.queue_name = None
        if command.job_id is None or command.job_id == subscription.job_id:
            subscription.job_id = None

    async def _tell(self) -> None:
        now = asyncio.get_running_loop().time
        await self._ping()
        ping_at = now() + PING_SECONDS
        while True:
            wait = min(KEY_CHECK_SECONDS, ping_at - now())
            events = await self._subscription.next_events(max(wait, 0.001))
            if self._subscription.closed:
                await self._close(GOING_AWAY, "the server is stopping")
            if not await may_go_on(self._call, self._subscription):
                await self._close(POLICY_VIOLATION, "the credential is no longer valid")
            for event in events:
                if self._passes(event):
                    await self._send_event(event.type, event.data)
            if now() >= ping_at:
                ping_at = now() + PING_SECONDS
                await self._ping()

    def _passes(self, event: Event) -> bool:
        # The scope and the filter may have changed while the event waited.
        return self._subscription.wants(event) and (
            self._wanted is None or EVENT_NAMES[event.type] in self._wanted
        )

    async def _ping(self) -> None:
        await self._send_event("Ping", {"timestamp": text(self._call.services.now)})

    async def _send_event(self, kind: str, data: dict[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": _encode({"type": kind, "data": data}).decode()})

    async def _close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
        raise _GoneError


async def socket(call: Call) -> Socket:
    """Open a WebSocket, or say why not before the connection is upgraded."""
    if call.scope["type"] != "websocket":
        raise refuse.RefusalError(
            426,
            "ERROR",
            "This path speaks WebSocket: send a valid WebSocket handshake",
            headers={"upgrade": "websocket"},
        )
    return Socket(call, *requested(call, "socket"))


ROUTES = [Route("GET", "/api/v1/ws", socket, "stream")]
