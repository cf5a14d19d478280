"""The other seam: a response that is read while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Protocol

from spooled._http._messages import Request
from spooled.config import ClientConfig

if TYPE_CHECKING:
    from spooled._http._user_transports import AsyncUserTransport


class Stream(Protocol):
    """A response whose body is still coming.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body in the pieces in which it arrives, as it comes.

        Raises:
            NetworkError: The connection broke.
            TimeoutError: No piece came for `request.timeout` seconds.
        """


class _Opener(Protocol):
    def open(self, request: Request) -> contextlib.AbstractAsyncContextManager[Stream]: ...
    async def aclose(self) -> None: ...


class StreamTransport:
    """Opens one stream at a time, on a connection that nothing else uses.

    Args:
        config: Address, time to connect.
        transport: An httpx transport of the user's, for this event loop. It is used as it is and not closed.
            Default: aiohttp, with the environment's proxies.

    Raises:
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, config: ClientConfig, transport: AsyncUserTransport | None = None) -> None:
        self._opener: _Opener
        # Imported here: both libraries are slow to import, and httpx need not be there.
        if transport is None:
            from spooled._http._aiohttp import AiohttpStreamTransport

            self._opener = AiohttpStreamTransport(config)
        else:
            from spooled._http._httpx import HttpxStreamTransport

            self._opener = HttpxStreamTransport(config, transport)

    def open(self, request: Request) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Open the response: it is there once its headers are. `request.timeout` bounds each wait, not all of them.

        Raises:
            NetworkError: The server was not reached or the connection broke.
            TimeoutError: The server was not reached in time.
        """
        return self._opener.open(request)

    async def aclose(self) -> None:
        """Close the connection. The transport must not be used afterwards."""
        await self._opener.aclose()
