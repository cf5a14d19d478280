"""The transport of a client: the default, or what the user gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled._http._transport import AsyncTransport, Transport
from spooled.config import ClientConfig

if TYPE_CHECKING:
    from spooled._http._user_transports import AsyncUserTransport, UserTransport

# Each is imported when it is used: importing HTTP takes most of the time, and no client may ever be made.


def async_transport_for(config: ClientConfig, users: AsyncUserTransport | None) -> AsyncTransport:
    """Return aiohttp's transport, or one that sends through the user's.

    Raises:
        TypeError: The user's is no transport.
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """
    if users is None:
        from spooled._http._aiohttp import AiohttpTransport

        return AiohttpTransport(config)
    from spooled._http._httpx import AsyncHttpxTransport

    return AsyncHttpxTransport(config, users)


def transport_for(config: ClientConfig, users: UserTransport | None) -> Transport:
    """Return the standard library's transport, or one that sends through the user's.

    Raises:
        TypeError: The user's is no transport.
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """
    if users is None:
        from spooled._http._http_client import HttpClientTransport

        return HttpClientTransport(config)
    from spooled._http._httpx import HttpxTransport

    return HttpxTransport(config, users)
