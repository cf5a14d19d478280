"""The default transports, over httpx. Slow to import, so only a client that is used imports it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from spooled._http._deadline import deadline_of_this_thread, install_deadlines
from spooled._http._failures import broken, crowded, overdue, unconnected
from spooled._http._messages import Request, Response
from spooled._http._pools import Pool, Pools
from spooled._http._proxy import proxy_for
from spooled._http._transport import KEEPALIVE_SECONDS
from spooled.config import ClientConfig
from spooled.errors import SpooledError

# What sending and reading may raise, whoever wrote the transport. Anything else is a bug and passes through.
_FAILURES = (httpx.HTTPError, httpx.StreamError, OSError)


class _Translator:
    """Between our messages and httpx's, below `httpx.Client`: we need no redirects, cookies or auth flows."""

    def __init__(self, config: ClientConfig) -> None:
        self.base_url = config.base_url
        self.connect_timeout = config.connect_timeout
        self._proxy = proxy_for(config.base_url)
        # Loading the certificates takes tens of milliseconds and plain HTTP has no use for them.
        secure = self._proxy is not None or config.base_url.startswith("https:")
        self._trust = httpx.create_ssl_context() if secure else False
        self._cached: tuple[object, httpx.Headers] = (None, httpx.Headers())

    def request(self, request: Request) -> httpx.Request:
        url = self.base_url + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        seconds = request.timeout
        return httpx.Request(
            request.method,
            url,
            headers=self._headers(request.headers),
            content=request.body,
            extensions={
                "timeout": {
                    "connect": min(self.connect_timeout, seconds),
                    "read": seconds,
                    "write": seconds,
                    "pool": seconds,
                }
            },
        )

    def response(self, response: httpx.Response, body: bytes) -> Response:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw
        }
        return Response(response.status_code, headers, body)

    def failure(self, request: Request, error: Exception) -> SpooledError:
        """Our error for one of httpx's."""
        if isinstance(error, httpx.ConnectTimeout):
            return unconnected(self.base_url, request, self.connect_timeout)
        if isinstance(error, httpx.PoolTimeout):
            return crowded(request)
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            return overdue(request)
        return broken(self.base_url, request, error)

    def _headers(self, headers: Mapping[str, str]) -> httpx.Headers:
        # A session sends the same mapping until its credentials change, so its parsed form is kept.
        given, parsed = self._cached
        if given is not headers:
            parsed = httpx.Headers(headers)
            self._cached = (headers, parsed)
        return parsed

    def pool_options(self, limit: int) -> dict[str, Any]:
        """Arguments of an httpx transport for `limit` connections."""
        return {
            "limits": httpx.Limits(
                max_connections=limit,
                max_keepalive_connections=limit,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            "proxy": self._proxy,
            "verify": self._trust,
        }


class HttpxTransport:
    """Sends requests through an `httpx.BaseTransport`, from any number of threads.

    Args:
        config: Address, timeouts, connection limit.
        transport: A transport of the user's. It is used as it is and not closed. Default: a connection pool.
        max_connections: Overrides the configuration's.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.BaseTransport | None = None,
        max_connections: int | None = None,
    ) -> None:
        if transport is not None and not isinstance(transport, httpx.BaseTransport):
            raise TypeError(f"transport must be an httpx.BaseTransport, got {type(transport).__name__}")
        self._translate = _Translator(config)
        self._max_connections = max_connections or config.max_connections
        self._owned = transport is None
        self._pid = os.getpid()
        self._transport = transport or self._pool()
        self._inherited: list[httpx.BaseTransport] = []

    def send(self, request: Request) -> Response:
        if self._pid != os.getpid():
            self._leave_parent()
        deadline = time.monotonic() + request.timeout
        try:
            with deadline_of_this_thread(deadline):
                response = self._transport.handle_request(self._translate.request(request))
                try:
                    body = bytearray()
                    for chunk in response.iter_bytes():
                        body += chunk
                        if time.monotonic() > deadline:
                            raise overdue(request)
                finally:
                    response.close()
        except SpooledError:
            raise
        except _FAILURES as error:
            raise self._translate.failure(request, error) from error
        return self._translate.response(response, bytes(body))

    def close(self) -> None:
        if self._owned:
            self._transport.close()

    def _pool(self) -> httpx.BaseTransport:
        pool = httpx.HTTPTransport(**self._translate.pool_options(self._max_connections))
        install_deadlines(pool)
        return pool

    def _leave_parent(self) -> None:
        """After a fork: the parent goes on using the connections, so open new ones and leave those alone."""
        if self._owned:
            self._inherited.append(self._transport)
            self._transport = self._pool()
        self._pid = os.getpid()


class AsyncHttpxTransport:
    """Sends requests through an `httpx.AsyncBaseTransport`, on one event loop.

    Args:
        config: Address, timeouts, connection limit.
        transport: A transport of the user's. It is used as it is and not closed. One that is only a
            `httpx.BaseTransport` is called in a thread. Default: a connection pool.
        max_connections: Overrides the configuration's.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.AsyncBaseTransport | httpx.BaseTransport | None = None,
        max_connections: int | None = None,
    ) -> None:
        self._translate = _Translator(config)
        self._pools: Pools | None = None
        self._blocking: HttpxTransport | None = None
        if transport is None:
            self._pools = Pools(self._pool, max_connections or config.max_connections)
        elif isinstance(transport, httpx.AsyncBaseTransport):
            self._users = Pool(transport, limit=0)
        else:
            self._blocking = HttpxTransport(config, transport=transport)

    async def send(self, request: Request) -> Response:
        if self._blocking is not None:
            return await asyncio.to_thread(self._blocking.send, request)
        pool = self._users if self._pools is None else self._pools.choose()
        pool.busy += 1
        try:
            async with asyncio.timeout(request.timeout):
                response = await pool.transport.handle_async_request(self._translate.request(request))
                try:
                    body = await response.aread()
                finally:
                    await response.aclose()
        except _FAILURES as error:
            raise self._translate.failure(request, error) from error
        finally:
            pool.busy -= 1
        return self._translate.response(response, body)

    async def aclose(self) -> None:
        if self._pools is not None:
            await self._pools.aclose()

    def _pool(self, limit: int) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(**self._translate.pool_options(limit))
