"""Transports of httpx's, and of httpx2's: those that users plug in. Slow to import, and neither need be installed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from spooled._http._bodies import Body, BodyError, TooLargeError
from spooled._http._failures import broken, crowded, overdue, too_large, unconnected, unreachable
from spooled._http._messages import Request, Response
from spooled._http._pools import Pool, Pools
from spooled._http._proxy import proxy_for
from spooled._http._transport import KEEPALIVE_SECONDS
from spooled._http._trust import trust
from spooled._http._user_transports import library_of
from spooled.config import ClientConfig
from spooled.errors import SpooledError

if TYPE_CHECKING:
    import httpx

    from spooled._http._user_transports import AsyncUserTransport, UserTransport


class _Translator:
    """Between our messages and httpx's, below `httpx.Client`: we need no redirects, cookies or auth flows.

    Args:
        config: Address and timeouts.
        library: httpx or httpx2.
    """

    def __init__(self, config: ClientConfig, library: ModuleType) -> None:
        self.base_url = config.base_url
        self.connect_timeout = config.connect_timeout
        self.limit = config.max_response_bytes
        # Their names are the same; httpx's types stand for both.
        self._library: Any = library
        # What sending and reading may raise, whoever wrote the transport. Anything else is a bug and passes through.
        self.failures: tuple[type[Exception], ...] = (
            library.HTTPError,
            library.StreamError,
            OSError,
            TooLargeError,
            BodyError,
        )
        self._cached: tuple[object, Any] = (None, None)

    def request(self, request: Request, timeouts: dict[str, float]) -> httpx.Request:
        url = self.base_url + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        made: httpx.Request = self._library.Request(
            request.method,
            url,
            headers=self._headers(request.headers),
            content=request.body,
            extensions={"timeout": timeouts},
        )
        return made

    def timeouts(self, seconds: float) -> dict[str, float]:
        connect = min(self.connect_timeout, seconds)
        return {"connect": connect, "read": seconds, "write": seconds, "pool": seconds}

    def body(self, response: httpx.Response) -> Body:
        return Body(self.limit, response.headers.get("content-encoding"))

    def response(self, response: httpx.Response, body: bytes) -> Response:
        return Response(response.status_code, headers_of(response), body)

    def failure(self, request: Request, error: Exception) -> SpooledError:
        """Return our error for one of httpx's, or for a body that cannot be taken."""
        library = self._library
        if isinstance(error, TooLargeError):
            return too_large(request, self.limit)
        if isinstance(error, library.ConnectTimeout):
            return unconnected(self.base_url, request, self.connect_timeout)
        if isinstance(error, library.PoolTimeout):
            return crowded(request)
        if isinstance(error, library.TimeoutException | TimeoutError):
            return overdue(request)
        if isinstance(error, library.ConnectError | library.ProxyError | library.UnsupportedProtocol):
            return unreachable(self.base_url, request, error)
        return broken(self.base_url, request, error)

    def _headers(self, headers: Mapping[str, str]) -> object:
        # A session sends the same mapping until its credentials change, so its parsed form is kept.
        given, parsed = self._cached
        if given is not headers:
            parsed = self._library.Headers(headers)
            self._cached = (headers, parsed)
        return parsed


class HttpxTransport:
    """Sends requests through a blocking transport of the user's, from any number of threads.

    The time of a request is checked whenever a piece of its answer comes; the wait for its headers is bounded by
    the transport's own rules, which count each read by itself.

    Args:
        config: Address, timeouts, size of answers.
        transport: It is used as it is and not closed.

    Raises:
        TypeError: It is no transport of httpx's or httpx2's.
    """

    def __init__(self, config: ClientConfig, transport: UserTransport) -> None:
        self._translate = _Translator(config, library_of(transport, "BaseTransport"))
        self._transport: Any = transport

    def send(self, request: Request) -> Response:
        translate = self._translate
        deadline = time.monotonic() + request.timeout
        timeouts = translate.timeouts(request.timeout)
        try:
            response = self._transport.handle_request(translate.request(request, timeouts))
            try:
                body = translate.body(response)
                if response.is_stream_consumed:  # made from ready content, which is decompressed then
                    return translate.response(response, response.content)
                timeouts["read"] = max(deadline - time.monotonic(), 0.001)
                for chunk in response.iter_raw():
                    body.feed(chunk)
                    if time.monotonic() > deadline:
                        raise overdue(request)
                return translate.response(response, body.whole())
            finally:
                response.close()
        except SpooledError:
            raise
        except translate.failures as error:
            raise translate.failure(request, error) from error

    def close(self) -> None:
        """Do nothing: the transport is the user's."""


class AsyncHttpxTransport:
    """Sends requests through httpx, or a transport of the user's, on one event loop.

    Args:
        config: Address, timeouts, connection limit, size of answers.
        transport: A transport of the user's. It is used as it is and not closed. One that is only a
            `BaseTransport` is called in a thread. Default: httpx's connection pools.
        max_connections: Overrides the configuration's.

    Raises:
        TypeError: It is no transport of httpx's or httpx2's.
        ModuleNotFoundError: No transport was given, and httpx is not installed.
    """

    def __init__(
        self,
        config: ClientConfig,
        transport: AsyncUserTransport | UserTransport | None = None,
        *,
        max_connections: int | None = None,
    ) -> None:
        self._pools: Pools | None = None
        self._blocking: HttpxTransport | None = None
        if transport is None:
            library = importlib.import_module("httpx")
            self._pools = Pools(_pools_of(config), max_connections or config.max_connections)
        else:
            library = library_of(transport, "BaseTransport", "AsyncBaseTransport")
            users: Any = transport
            if isinstance(transport, library.AsyncBaseTransport):
                self._users = Pool(users, limit=0)
            else:
                self._blocking = HttpxTransport(config, users)
        self._translate = _Translator(config, library)

    async def send(self, request: Request) -> Response:
        if self._blocking is not None:
            return await asyncio.to_thread(self._blocking.send, request)
        translate = self._translate
        made = translate.request(request, translate.timeouts(request.timeout))
        pool = self._users if self._pools is None else self._pools.choose()
        pool.busy += 1
        try:
            async with asyncio.timeout(request.timeout):
                response = await pool.transport.handle_async_request(made)
                try:
                    body = translate.body(response)
                    if response.is_stream_consumed:  # made from ready content, which is decompressed then
                        return translate.response(response, response.content)
                    async for chunk in response.aiter_raw():
                        body.feed(chunk)
                    return translate.response(response, body.whole())
                finally:
                    await response.aclose()
        except translate.failures as error:
            raise translate.failure(request, error) from error
        finally:
            pool.busy -= 1

    async def aclose(self) -> None:
        if self._pools is not None:
            await self._pools.aclose()


class HttpxStream:
    """A response whose body is still coming. See `spooled._http._streams.Stream`."""

    def __init__(self, translate: _Translator, request: Request, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = headers_of(response)
        self._translate = translate
        self._request = request
        self._response = response

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            async with contextlib.aclosing(self._response.aiter_bytes()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
        except self._translate.failures as error:
            raise self._translate.failure(self._request, error) from error


class HttpxStreamTransport:
    """Opens streams through a transport of the user's. See `spooled._http._streams.StreamTransport`.

    Args:
        config: Address, time to connect.
        transport: It is used as it is and not closed.

    Raises:
        TypeError: It is no transport of httpx's or httpx2's for coroutines.
    """

    def __init__(self, config: ClientConfig, transport: AsyncUserTransport) -> None:
        self._translate = _Translator(config, library_of(transport, "AsyncBaseTransport"))
        self._transport: Any = transport

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[HttpxStream]:
        translate = self._translate
        try:
            response = await self._transport.handle_async_request(
                translate.request(request, translate.timeouts(request.timeout))
            )
        except translate.failures as error:
            raise translate.failure(request, error) from error
        try:
            yield HttpxStream(translate, request, response)
        finally:
            with contextlib.suppress(*translate.failures):
                await response.aclose()

    async def aclose(self) -> None:
        """Do nothing: the transport is the user's."""


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return the headers, with names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def _pools_of(config: ClientConfig) -> Any:
    """Return what makes a pool of httpx's for so many connections."""
    import httpx

    proxy = proxy_for(config.base_url)
    # Loading the certificates takes tens of milliseconds and plain HTTP has no use for them.
    verify = trust() if proxy is not None or config.base_url.startswith("https:") else False

    def make(limit: int) -> httpx.AsyncBaseTransport:
        limits = httpx.Limits(
            max_connections=limit, max_keepalive_connections=limit, keepalive_expiry=KEEPALIVE_SECONDS
        )
        return httpx.AsyncHTTPTransport(limits=limits, proxy=proxy, verify=verify)

    return make
