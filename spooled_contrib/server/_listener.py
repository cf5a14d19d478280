"""uvicorn's HTTP protocol on a socket of ours.

uvicorn's own `Server` belongs to a process: it takes over signals, exits on errors and polls ten times a second to
notice that it should stop. An embedded server comes and goes within a test, so this uses uvicorn's protocol, which is
the part worth having, and leaves its `Server` out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from email.utils import formatdate

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from spooled_contrib.server import _connections
from spooled_contrib.server._connections import SpooledHttpProtocol
from spooled_contrib.server._websockets import MAX_MESSAGE, SpooledWebSocketProtocol

logger = logging.getLogger("spooled.server")

KEEP_ALIVE_SECONDS = int(_connections.IDLE_SECONDS)
"""How long an idle connection stays open. Longer than clients keep theirs, so that they do the closing."""

STOP_SECONDS = 5.0
"""How long a stopping listener waits for responses that are being sent."""

BACKLOG = 2048

TICK_SECONDS = 1.0
"""How often the Date header is set and connections are looked at."""

UNREAD_SECONDS = 120
"""How long a client may leave what was sent to it unread before the kernel ends the connection."""


def bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """Return a bound socket.

    Raises:
        OSError: the address is not of this machine, or the port is taken.
    """
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both. They are what ends a stream whose reader has fallen silent or off the network.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


class Listener:
    """Serves an application on a bound socket, on the running loop."""

    def __init__(self, app: ASGIApp) -> None:
        # log_config=None and access_log=True: anything else rewrites loggers that the embedding program may use too.
        self._config = Config(
            app,
            loop="none",
            ws=SpooledWebSocketProtocol,
            ws_max_size=MAX_MESSAGE,
            # The contract's pings are events; and small JSON is not worth a compressor for each connection.
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=True,
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket) -> None:
        """Accept connections from here on."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._set_date()
        self._ticking = loop.create_task(self._tick())

        def protocol() -> asyncio.Protocol:
            return SpooledHttpProtocol(
                config=self._config, server_state=self._state, app_state={}, _loop=loop
            )

        self._server = await loop.create_server(protocol, sock=bound, backlog=BACKLOG)

    async def stop(self) -> None:
        """Accept nothing more, finish the responses that are being sent, close everything."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = list(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=STOP_SECONDS)
        for connection in list(self._state.connections):
            connection.transport.close()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._set_date()
            try:
                _connections.overdue(self._state.connections, loop)
            except Exception:
                logger.exception("looking for connections that are overdue failed; it is tried again")

    def _set_date(self) -> None:
        # The Date header is about HTTP, not about jobs, so it shows the machine's time.
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
