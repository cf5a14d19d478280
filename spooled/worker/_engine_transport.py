"""The engine's way to the server: a transport of its own, or the one that the user gave the client.

A transport is bound to the loop or thread it was made for, so a user's own is called where it belongs and the
engine waits for the answer.
"""

from __future__ import annotations

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor

from spooled._async._session import AsyncSession
from spooled._http._messages import Request, Response
from spooled._http._transport import AsyncTransport, Transport
from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.config import ClientConfig, RetryConfig
from spooled.worker._pacing import ACKS_AT_ONCE

SPARE_CONNECTIONS = 8
"""Connections beyond one for each slot and those of acks: for claims and heartbeats."""

Client = SpooledClient | AsyncSpooledClient


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


class SharedTransport:
    """One transport for several engines on one loop, closed with the last of them."""

    def __init__(self, inner: AsyncTransport, users: int) -> None:
        self._inner = inner
        self._users = users

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    async def aclose(self) -> None:
        self._users -= 1
        if not self._users:
            await self._inner.aclose()


class EngineTransport:
    """Makes the sessions of the engines that run on one I/O loop for one client.

    Args:
        client: Whose configuration, and transport if the user gave one, to use.
        concurrencies: The slots of each engine, from which the number of connections follows.
        transport: `auto`, `httpx` or `aiohttp`.
        user_loop: The loop on which an asynchronous client's own transport must be called.
    """

    def __init__(
        self,
        client: Client,
        concurrencies: list[int],
        transport: str,
        user_loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._client = client
        self._users = len(concurrencies)
        # None is opened before it is needed, and acks are many at once only when the server is far away.
        self._connections = sum(concurrencies) + ACKS_AT_ONCE + SPARE_CONNECTIONS
        self._fast = wants_fast(client, transport)
        self._user_loop = user_loop
        self._shared: SharedTransport | None = None

    def open(self) -> AsyncSession:
        """Return a session for one more engine. Called on the I/O loop."""
        if self._shared is None:
            self._shared = SharedTransport(self._make(), self._users)
        # When to try again is the engine's decision, and so is what an answer to a second attempt means.
        config = self._client.config.replace(retry=RetryConfig(max_retries=0))
        return AsyncSession(config, self._shared, resends=False)

    def _make(self) -> AsyncTransport:
        client, config = self._client, self._client.config
        if client._user_transport is None:
            return _own_transport(config, self._connections, aiohttp=self._fast)
        from spooled._http._httpx import AsyncHttpxTransport, HttpxTransport

        if isinstance(client, SpooledClient):
            inner = HttpxTransport(config, client._user_transport)
            return ThreadTransport(inner, self._connections)
        own = AsyncHttpxTransport(config, client._user_transport)
        # Without a loop of the user's (a threaded worker on an asynchronous client) ours must do.
        return own if self._user_loop is None else LoopTransport(own, self._user_loop)


def worker_client(
    config: ClientConfig, *, connections: int = SPARE_CONNECTIONS, transport: str = "auto"
) -> AsyncSpooledClient:
    """Return a client that talks as the engines of workers do.

    For adapters that claim, keep and settle jobs themselves. It belongs to the loop that uses it, and is closed by
    the caller.

    Args:
        config: Server, key, time-outs.
        connections: How many requests may be under way at the same time.
        transport: `auto`, `httpx` or `aiohttp`.

    Raises:
        ConfigurationError: There are no credentials.
        RuntimeError: `httpx` was asked for and is not installed.
    """
    client = AsyncSpooledClient.__new__(AsyncSpooledClient)
    sender = _own_transport(config, connections, aiohttp=_is_aiohttp(transport))
    client._open(config, None, owned=False, sender=sender)
    return client


def wants_fast(client: Client, transport: str) -> bool:
    """Tell whether the engine talks through aiohttp.

    Raises:
        RuntimeError: `httpx` was asked for and is not installed.
        ValueError: `aiohttp` was asked for, and the client has a transport of the user's.
    """
    if client._user_transport is not None:
        if transport == "aiohttp":
            raise ValueError(
                "transport='aiohttp' cannot be used with a client that has a transport of its own"
            )
        return False
    return _is_aiohttp(transport)


def _own_transport(config: ClientConfig, connections: int, *, aiohttp: bool) -> AsyncTransport:
    # Imported here: both are slow to import, and httpx need not be there.
    if aiohttp:
        from spooled._http._aiohttp import AiohttpTransport

        return AiohttpTransport(config, max_connections=connections)
    from spooled._http._httpx import AsyncHttpxTransport

    return AsyncHttpxTransport(config, max_connections=connections)


def _is_aiohttp(transport: str) -> bool:
    if transport == "httpx" and importlib.util.find_spec("httpx") is None:
        raise RuntimeError(
            "transport='httpx' needs the extra `httpx`: pip install \"spooled-contrib[httpx]\""
        )
    return transport != "httpx"
