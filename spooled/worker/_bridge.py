"""The engine's way to the server: a transport of its own, or the one that the user gave the client.

A transport is bound to the loop or thread it was made for, so a user's own is called where it belongs and the
engine waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from spooled._async._session import AsyncSession
from spooled._http._httpx import AsyncHttpxTransport, HttpxTransport
from spooled._http._messages import Request, Response
from spooled._http._transport import AsyncTransport, Transport
from spooled.client import AsyncSpooledClient, SpooledClient

SPARE_CONNECTIONS = 8
"""Connections beyond one for each slot: the claim, heartbeats, and acks that overlap with the next jobs."""


class LoopTransport:
    """Sends on the user's loop what the engine asks for on its own."""

    def __init__(self, inner: AsyncTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    async def send(self, request: Request) -> Response:
        future = asyncio.run_coroutine_threadsafe(self._inner.send(request), self._loop)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Nothing to close: the transport is the user's."""


class ThreadTransport:
    """Sends in threads what the engine asks for on its loop."""

    def __init__(self, inner: Transport, size: int) -> None:
        self._inner = inner
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="spooled-transport")

    async def send(self, request: Request) -> Response:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._inner.send, request)

    async def aclose(self) -> None:
        """Close the threads; the transport is the user's."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def session_opener(
    client: SpooledClient | AsyncSpooledClient, concurrency: int, user_loop: asyncio.AbstractEventLoop | None
) -> Callable[[], AsyncSession]:
    """What makes the engine's session, once the engine's loop runs.

    Args:
        client: Whose configuration, and transport if the user gave one, to use.
        concurrency: The number of slots, from which the number of connections follows.
        user_loop: The loop on which an asynchronous client's own transport must be called.
    """
    config = client.config
    connections = concurrency + SPARE_CONNECTIONS

    def open_session() -> AsyncSession:
        transport: AsyncTransport
        if client._user_transport is None:
            transport = AsyncHttpxTransport(config, max_connections=connections)
        elif isinstance(client, SpooledClient):
            transport = ThreadTransport(HttpxTransport(config, transport=client._user_transport), connections)
        else:
            inner = AsyncHttpxTransport(config, transport=client._user_transport)
            # Without a loop of the user's (a threaded worker on an asynchronous client) ours must do.
            transport = inner if user_loop is None else LoopTransport(inner, user_loop)
        return AsyncSession(config, transport)

    return open_session
