"""Realtime clients that are made from an address and a token, without a client."""

from __future__ import annotations

import dataclasses
from typing import Any

from spooled._http._option_rules import mask
from spooled.config import ClientConfig
from spooled.errors import ConfigurationError
from spooled.realtime._access import FixedAccess
from spooled.realtime._async_clients import AsyncRealtime
from spooled.realtime._clients import Realtime
from spooled.realtime._filters import EVERYTHING, SubscriptionFilter
from spooled.realtime._reconnect_policy import ReconnectOptions
from spooled.realtime._sse_source import SseSource
from spooled.realtime._websocket_source import WebSocketSource


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WebSocketConnectionOptions:
    """What a WebSocket client is made from.

    Attributes:
        ws_url: The server's address, `wss://api.spooled.cloud`; `/api/v1/ws` is added to it if missing.
        token: An API key or an access token. Sent in a header.
        queue: The first subscription. Default: everything.
        job_id: As `queue`.
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.
        command_timeout: Seconds that opening the connection, or sending a command, may take.
    """

    ws_url: str
    token: str
    queue: str | None = None
    job_id: str | None = None
    auto_reconnect: bool = True
    max_reconnect_attempts: int = 10
    reconnect_delay: float = 1.0
    max_reconnect_delay: float = 30.0
    command_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not self.command_timeout > 0:
            raise ConfigurationError(
                f"command_timeout must be a number of seconds above 0, got {self.command_timeout!r}"
            )

    def __repr__(self) -> str:
        return f"WebSocketConnectionOptions(ws_url={self.ws_url!r}, token={mask(self.token)!r})"

    def _reconnecting(self) -> ReconnectOptions:
        return ReconnectOptions(
            self.auto_reconnect, self.max_reconnect_attempts, self.reconnect_delay, self.max_reconnect_delay
        )


def _socket_parts(options: WebSocketConnectionOptions) -> tuple[WebSocketSource, FixedAccess]:
    config = ClientConfig(access_token=options.token, ws_url=options.ws_url, timeout=options.command_timeout)
    access = FixedAccess(config)
    return WebSocketSource(config, access), access


def _stream_parts(base_url: str, token: str) -> tuple[SseSource, FixedAccess]:
    config = ClientConfig(access_token=token, base_url=base_url)
    access = FixedAccess(config)
    return SseSource(config, access), access


def _begin_with(client: Any, queue: str | None, job_id: str | None) -> None:
    wanted = SubscriptionFilter(queue=queue, job_id=job_id)
    if wanted != EVERYTHING:
        client._subscription.subscriptions.add(wanted)


class WebSocketClient(Realtime):
    """Events over a WebSocket, for threads. Handlers get the event, not only its data.

    Args:
        options: Address, token, first subscription.

    Raises:
        ModuleNotFoundError: The extra `realtime` is not installed.
        ConfigurationError: An option has a bad value.
    """

    def __init__(self, options: WebSocketConnectionOptions) -> None:
        source, access = _socket_parts(options)
        super().__init__(source, access, options._reconnecting(), whole=True)
        _begin_with(self, options.queue, options.job_id)


class AsyncWebSocketClient(AsyncRealtime):
    """Events over a WebSocket, for coroutines. Handlers get the event, not only its data.

    Args:
        options: Address, token, first subscription.

    Raises:
        ModuleNotFoundError: The extra `realtime` is not installed.
        ConfigurationError: An option has a bad value.
    """

    def __init__(self, options: WebSocketConnectionOptions) -> None:
        source, access = _socket_parts(options)
        super().__init__(source, access, options._reconnecting(), whole=True)
        _begin_with(self, options.queue, options.job_id)


class SSEClient(Realtime):
    """Events over HTTP, for threads. Handlers get the event's data.

    Args:
        base_url: The server's address.
        token: An API key or an access token.
        queue: The first subscription. Default: everything.
        job_id: As `queue`; with it alone, the stream ends with the job.
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.

    Raises:
        ConfigurationError: An option has a bad value.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        queue: str | None = None,
        job_id: str | None = None,
        auto_reconnect: bool = True,
        max_reconnect_attempts: int = 10,
        reconnect_delay: float = 1.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        source, access = _stream_parts(base_url, token)
        options = ReconnectOptions(
            auto_reconnect, max_reconnect_attempts, reconnect_delay, max_reconnect_delay
        )
        super().__init__(source, access, options, whole=False)
        _begin_with(self, queue, job_id)


class AsyncSSEClient(AsyncRealtime):
    """Events over HTTP, for coroutines. Handlers get the event's data.

    Args:
        base_url: The server's address.
        token: An API key or an access token.
        queue: The first subscription. Default: everything.
        job_id: As `queue`; with it alone, the stream ends with the job.
        auto_reconnect: Whether a lost connection is made again.
        max_reconnect_attempts: How often in a row.
        reconnect_delay: Seconds before the first attempt; each further one waits twice as long.
        max_reconnect_delay: The longest wait in seconds.

    Raises:
        ConfigurationError: An option has a bad value.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        queue: str | None = None,
        job_id: str | None = None,
        auto_reconnect: bool = True,
        max_reconnect_attempts: int = 10,
        reconnect_delay: float = 1.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        source, access = _stream_parts(base_url, token)
        options = ReconnectOptions(
            auto_reconnect, max_reconnect_attempts, reconnect_delay, max_reconnect_delay
        )
        super().__init__(source, access, options, whole=False)
        _begin_with(self, queue, job_id)
