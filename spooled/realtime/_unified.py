"""What `client.realtime()` gives: events with the client's own credentials."""

from __future__ import annotations

from typing import Literal, Protocol

from spooled._async._session import AsyncSession
from spooled._http._user_transports import is_async_transport
from spooled._sync._session import Session
from spooled.config import ClientConfig
from spooled.errors import ConfigurationError
from spooled.realtime._access import SessionAccess
from spooled.realtime._async_clients import AsyncRealtime
from spooled.realtime._clients import Realtime
from spooled.realtime._reconnect_policy import ReconnectOptions
from spooled.realtime._source import Source
from spooled.realtime._sse_source import SseSource
from spooled.realtime._websocket_source import WebSocketSource

Kind = Literal["websocket", "sse"]


class _Client(Protocol):
    @property
    def config(self) -> ClientConfig: ...
    @property
    def _user_transport(self) -> object: ...


class _BlockingClient(_Client, Protocol):
    """What is used of a `SpooledClient`."""

    @property
    def _session(self) -> Session: ...


class _AsyncClient(_Client, Protocol):
    """What is used of an `AsyncSpooledClient`."""

    @property
    def _session(self) -> AsyncSession: ...


class SpooledRealtime(Realtime):
    """Events with a client's credentials, for threads. Handlers get the event's data.

    Args:
        client: Whose address and credentials are used. It must stay open.
        type: `websocket` needs the extra `realtime`; `sse` needs nothing.
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.

    Raises:
        ModuleNotFoundError: The extra `realtime` is not installed.
        ConfigurationError: An option has a bad value.
    """

    def __init__(
        self,
        client: _BlockingClient,
        type: Kind = "websocket",  # noqa: A002 - the official name
        *,
        auto_reconnect: bool = True,
        max_reconnect_attempts: int = 10,
        reconnect_delay: float = 1.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        options = ReconnectOptions(
            auto_reconnect, max_reconnect_attempts, reconnect_delay, max_reconnect_delay
        )
        access = SessionAccess(client._session)
        super().__init__(_source(client, type, access), access, options, whole=False)


class AsyncSpooledRealtime(AsyncRealtime):
    """Events with a client's credentials, for coroutines. Handlers get the event's data.

    Args:
        client: Whose address and credentials are used. It must stay open.
        type: `websocket` needs the extra `realtime`; `sse` needs nothing.
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.

    Raises:
        ModuleNotFoundError: The extra `realtime` is not installed.
        ConfigurationError: An option has a bad value.
    """

    def __init__(
        self,
        client: _AsyncClient,
        type: Kind = "websocket",  # noqa: A002 - the official name
        *,
        auto_reconnect: bool = True,
        max_reconnect_attempts: int = 10,
        reconnect_delay: float = 1.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        options = ReconnectOptions(
            auto_reconnect, max_reconnect_attempts, reconnect_delay, max_reconnect_delay
        )
        access = SessionAccess(client._session)
        super().__init__(_source(client, type, access), access, options, whole=False)


def _source(client: _Client, kind: str, access: SessionAccess) -> Source:
    if kind == "websocket":
        return WebSocketSource(client.config, access)
    if kind != "sse":
        raise ConfigurationError(f"type must be 'websocket' or 'sse', got {kind!r}")
    transport = client._user_transport
    if transport is None:
        return SseSource(client.config, access)
    if not is_async_transport(transport):
        raise ConfigurationError(
            "a stream cannot be read through a blocking transport",
            hint="Give the client's transport the methods of httpx.AsyncBaseTransport too, or use "
            "client.with_options() without it.",
        )
    return SseSource(client.config, access, transport=transport)
