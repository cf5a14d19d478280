"""uvicorn's HTTP protocol on a socket of ours.

uvicorn's own `Server` belongs to a process: it takes over signals, exits on errors and polls ten times a second to
notice that it should stop. An embedded server comes and goes within a test, so this uses uvicorn's protocol, which is
the part worth having, and leaves its `Server` out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open. Longer than clients keep theirs, so that they do the closing."""

STOP_SECONDS = 5.0
"""How long a stopping listener waits for responses that are being sent."""

BACKLOG = 2048

_BAD_REQUEST = b'{"code":"BAD_REQUEST","message":"This is not a valid HTTP request"}'


class _JsonOnly:
    """What uvicorn's protocols would do in plain text or in the log of the embedding program."""

    transport: asyncio.Transport
    access_log: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - overrides
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: "
            + str(len(_BAD_REQUEST)).encode()
            + b"\r\nconnection: close\r\n\r\n"
            + _BAD_REQUEST
        )
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """A request for a WebSocket is answered like any other; that is nothing to warn about."""


def _protocol() -> Callable[..., asyncio.Protocol]:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return type("JsonH11Protocol", (_JsonOnly, H11Protocol), {})
    return type("JsonHttpToolsProtocol", (_JsonOnly, HttpToolsProtocol), {})


def bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """A bound socket.

    Raises:
        OSError: the address is not of this machine, or the port is taken.
    """
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
            ws="none",
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
        self._dating: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket) -> None:
        """Accept connections from here on."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._set_date()
        self._dating = loop.create_task(self._keep_date())

        def protocol() -> asyncio.Protocol:
            return _PROTOCOL(config=self._config, server_state=self._state, app_state={}, _loop=loop)

        self._server = await loop.create_server(protocol, sock=bound, backlog=BACKLOG)

    async def stop(self) -> None:
        """Accept nothing more, finish the responses that are being sent, close everything."""
        if self._dating is not None:
            self._dating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dating
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

    async def _keep_date(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._set_date()

    def _set_date(self) -> None:
        # The Date header is about HTTP, not about jobs, so it shows the machine's time.
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]


_PROTOCOL = _protocol()
