"""The other seam: a response that is read while it goes on. Slow to import, as `_httpx`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

from spooled._http._httpx import _FAILURES, _Translator
from spooled._http._messages import Request
from spooled.config import ClientConfig


class Stream:
    """A response whose body is still coming.

    Attributes:
        status: The HTTP status.
        headers: Names in any case.
    """

    def __init__(self, translate: _Translator, request: Request, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._translate = translate
        self._request = request
        self._response = response

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body in the pieces in which it arrives, decompressed.

        Raises:
            NetworkError: The connection broke.
            TimeoutError: No piece came for `request.timeout` seconds.
        """
        try:
            async with contextlib.aclosing(self._response.aiter_bytes()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
        except _FAILURES as error:
            raise self._translate.failure(self._request, error) from error


class StreamTransport:
    """Opens one stream at a time, on a connection that nothing else uses.

    Args:
        config: Address, time to connect.
        transport: A transport of the user's, for this event loop. It is used as it is and not closed.
            Default: a pool of one connection, with the environment's proxies.
    """

    def __init__(self, config: ClientConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._translate = _Translator(config)
        self._owned = transport is None
        self._transport = transport or httpx.AsyncHTTPTransport(**self._translate.pool_options(1))

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Stream]:
        """The response, once its headers are there. `request.timeout` bounds each wait, not all of them.

        Raises:
            NetworkError: The server was not reached or the connection broke.
            TimeoutError: The server was not reached in time.
        """
        try:
            response = await self._transport.handle_async_request(self._translate.request(request))
        except _FAILURES as error:
            raise self._translate.failure(request, error) from error
        try:
            yield Stream(self._translate, request, response)
        finally:
            with contextlib.suppress(*_FAILURES):
                await response.aclose()

    async def aclose(self) -> None:
        """Close the connection. The transport must not be used afterwards."""
        if self._owned:
            await self._transport.aclose()
