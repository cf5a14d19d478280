"""uvloop for the I/O thread, without the threads that it would bring. Imported only where uvloop is installed."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop


class FastLoop(uvloop.Loop):
    """uvloop resolves names in four threads of its own, even an address that is a number already.

    An engine has one server to talk to: one thread does for its name, and none is needed for a number.
    """

    def __init__(self) -> None:
        super().__init__()
        # Makes its thread when it is first used.
        self.set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="spooled-names"))

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        def resolve() -> Any:
            return socket.getaddrinfo(host, port, **options)

        return await self.run_in_executor(None, resolve)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        # The caller has resolved the address: aiohttp does so before it makes the socket.
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):
            await self._writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, f"{os.strerror(code)}, connecting to {address}") from None

    async def _writable(self, sock: socket.socket) -> None:
        ready: asyncio.Future[None] = self.create_future()
        self.add_writer(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self.remove_writer(sock.fileno())
