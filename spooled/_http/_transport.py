"""The seam: how a request gets to the server. Sessions know nothing of what is behind it."""

from __future__ import annotations

from typing import Protocol

from spooled._http._messages import Request, Response

KEEPALIVE_SECONDS = 4.0
"""How long idle connections are kept. Shorter than uvicorn's 5 s: the client should close them before the
server does, so that no POST runs into the closing."""


class AsyncTransport(Protocol):
    """Sends requests from coroutines."""

    async def send(self, request: Request) -> Response:
        """Return the response, whatever its status.

        Raises:
            NetworkError: The server was not reached or the connection broke.
            TimeoutError: The response was not complete after `request.timeout` seconds.
        """

    async def aclose(self) -> None:
        """Close the connections. The transport must not be used afterwards."""


class Transport(Protocol):
    """Sends requests from threads; safe to share between them."""

    def send(self, request: Request) -> Response:
        """Return the response, whatever its status.

        Raises:
            NetworkError: The server was not reached or the connection broke.
            TimeoutError: The response was not complete after `request.timeout` seconds.
        """

    def close(self) -> None:
        """Close the connections. The transport must not be used afterwards."""
