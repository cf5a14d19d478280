"""The default transport of coroutines, over aiohttp. Slow to import, so only a client that is used imports it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from urllib.parse import urlencode
from weakref import WeakSet

import aiohttp
from yarl import URL

from spooled._http._bodies import Body, BodyError, TooLargeError
from spooled._http._failures import (
    broken,
    not_let_through,
    overdue,
    too_large,
    unconnected,
    unreachable,
)
from spooled._http._messages import Request, Response
from spooled._http._proxy import proxy_for, take_apart
from spooled._http._transport import KEEPALIVE_SECONDS
from spooled._http._trust import trust
from spooled.config import ClientConfig
from spooled.errors import SpooledError


class _EndedError(Exception):
    """A connection ended before its answer came; the cause is aiohttp's own error.

    Attributes:
        stale: Whether it had served another request before, and no byte of this answer came.
    """

    def __init__(self, stale: bool) -> None:
        super().__init__(stale)
        self.stale = stale


_FAILURES = (_EndedError, aiohttp.ClientError, OSError)

_served: WeakSet[object] = WeakSet()
"""Connections on which an answer has come."""


class _Answer(aiohttp.ClientResponse):
    """Tells a kept connection that the server had closed from others, and keeps aiohttp from sending again by itself:

    what is sent twice must be counted.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        try:
            answer = await super().start(connection)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            # Of an answer that had begun, the message holds what has come.
            begun = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
            raise _EndedError(protocol in _served and not begun) from error
        _served.add(protocol)
        return answer


class AiohttpConnections:
    """An `aiohttp.ClientSession` for one server, and what its errors mean.

    Args:
        config: Address and timeouts.
        max_connections: Connections opened at most.

    Raises:
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, config: ClientConfig, max_connections: int) -> None:
        self.base_url = config.base_url
        self._connect_timeout = config.connect_timeout
        self._max_connections = max_connections
        self._proxy = proxy_for(config.base_url)
        secure = config.base_url.startswith("https:") or (self._proxy or "").startswith("https:")
        self._trust: ssl.SSLContext | bool = trust() if secure else True
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, request: Request, *, each_wait: bool = False) -> aiohttp.ClientResponse:
        """Send the request and return the answer, once its headers are there. The caller releases it.

        Args:
            request: What to send.
            each_wait: Whether `request.timeout` bounds each wait and not all of them together.
        """
        loop = asyncio.get_running_loop()
        session = self._session
        if session is None or self._loop is not loop:
            await self.aclose()
            session, self._loop = self._open(), loop
            self._session = session
        url = self.base_url + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        return await session.request(
            request.method,
            # Encoded already: yarl would turn %2E%2E back into a step up.
            URL(url, encoded=True),
            data=_content(request.body),
            headers=request.headers,
            timeout=self._each(request.timeout) if each_wait else self._total(request.timeout),
            allow_redirects=False,
            proxy=self._proxy,
        )

    def failure(self, request: Request, error: Exception) -> SpooledError:
        """Return our error for one of aiohttp's."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return unconnected(self.base_url, request, self._connect_timeout)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerFingerprintMismatch):
            return unreachable(self.base_url, request, error)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            assert self._proxy is not None
            address = take_apart(self._proxy).address
            return not_let_through(self.base_url, request, address, error.status, error.message)
        if isinstance(error, TimeoutError):
            return overdue(request)
        if isinstance(error, _EndedError) and isinstance(error.__cause__, Exception):
            return broken(self.base_url, request, error.__cause__, stale=error.stale)
        return broken(self.base_url, request, error)

    async def aclose(self) -> None:
        """Close the connections. Those of another loop, which is most likely closed, are left to it."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._loop is asyncio.get_running_loop() or (self._loop is not None and self._loop.is_closed()):
            await session.close()
            # Sockets close in the next turn of the loop, which may be the last.
            await asyncio.sleep(0)
        else:
            session.detach()

    def _open(self) -> aiohttp.ClientSession:
        """Return a session of the running loop, to which aiohttp ties it."""
        connector = aiohttp.TCPConnector(
            limit=self._max_connections, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._trust
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # it does so without a limit
            response_class=_Answer,
        )

    def _total(self, seconds: float) -> aiohttp.ClientTimeout:
        known = self._timeouts.get(seconds)
        if known is None:
            if len(self._timeouts) > 100:  # the engine may ask for what is left of a lease
                self._timeouts.clear()
            known = aiohttp.ClientTimeout(total=seconds, connect=None, sock_connect=self._connect_timeout)
            self._timeouts[seconds] = known
        return known

    def _each(self, seconds: float) -> aiohttp.ClientTimeout:
        connecting = min(self._connect_timeout, seconds)
        return aiohttp.ClientTimeout(total=None, connect=seconds, sock_connect=connecting, sock_read=seconds)


class AiohttpTransport:
    """Sends requests through an `aiohttp.ClientSession`, on one event loop.

    Args:
        config: Address, timeouts, connection limit, size of answers.
        max_connections: Overrides the configuration's.

    Raises:
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, config: ClientConfig, *, max_connections: int | None = None) -> None:
        self._limit = config.max_response_bytes
        self._connections = AiohttpConnections(config, max_connections or config.max_connections)

    async def send(self, request: Request) -> Response:
        try:
            async with await self._connections.ask(request) as response:
                headers = _headers(response)
                body = Body(self._limit, headers.get("content-encoding"))
                content = response.content
                while chunk := await content.readany():
                    body.feed(chunk)
                return Response(response.status, headers, body.whole())
        except TooLargeError as error:
            raise too_large(request, self._limit) from error
        except BodyError as error:
            raise broken(self._connections.base_url, request, error) from error
        except _FAILURES as error:
            raise self._connections.failure(request, error) from error

    async def aclose(self) -> None:
        await self._connections.aclose()


class AiohttpStream:
    """An answer whose body is still coming. See `spooled._http._streams.Stream`."""

    def __init__(
        self,
        connections: AiohttpConnections,
        request: Request,
        response: aiohttp.ClientResponse,
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = _headers(response)
        self._connections = connections
        self._request = request
        self._response = response

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except _FAILURES as error:
            raise self._connections.failure(self._request, error) from error


class AiohttpStreamTransport:
    """Opens streams on connections of their own. See `spooled._http._streams.StreamTransport`."""

    def __init__(self, config: ClientConfig) -> None:
        self._connections = AiohttpConnections(config, 1)

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AiohttpStream]:
        try:
            response = await self._connections.ask(request, each_wait=True)
        except _FAILURES as error:
            raise self._connections.failure(request, error) from error
        try:
            yield AiohttpStream(self._connections, request, response)
        finally:
            response.close()

    async def aclose(self) -> None:
        await self._connections.aclose()


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}


def _content(body: bytes | None) -> bytes | io.BytesIO | None:
    # From here on aiohttp writes bytes in pieces only when they come as a file, and warns when they do not.
    return io.BytesIO(body) if body is not None and len(body) > 1_048_576 else body
