"""Events over a WebSocket. Contract: realtime §2. Needs the extra `realtime`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from spooled._http._paths import API
from spooled._http._proxy import proxy_for
from spooled._http._trust import trust
from spooled.config import ClientConfig
from spooled.errors import ConfigurationError, NetworkError, SpooledError, create_error_from_response
from spooled.errors import TimeoutError as SpooledTimeoutError
from spooled.realtime._access import Access
from spooled.realtime._filters import EVERYTHING, SubscriptionFilter
from spooled.realtime.events import RealtimeEvent, read_event

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_LARGEST = 8 * 1024 * 1024
_CLOSE_TIMEOUT = 1.0

# Its debug output has the headers in it, and they hold the credential.
_log = logging.getLogger("spooled.realtime.websocket")
_log.setLevel(logging.INFO)


def require_websockets() -> None:
    """Check that the library is there.

    Raises:
        ModuleNotFoundError: It is not; the message says how to get it.
    """
    try:
        import websockets.asyncio.client  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'realtime over WebSockets needs the extra `realtime`: pip install "spooled-contrib[realtime]"; '
            'type="sse" works without it',
            name=error.name,
        ) from error


class WebSocketSource:
    """Opens WebSockets.

    Args:
        config: Address and timeouts.
        access: Credentials. They go into a header, because addresses are written to logs.

    Raises:
        ModuleNotFoundError: The library `websockets` is not installed.
    """

    resets_backoff_on_data = False

    def __init__(self, config: ClientConfig, access: Access) -> None:
        require_websockets()
        self._config = config
        self._access = access
        self._address = address(config)
        self._trust: Any = None

    @contextlib.asynccontextmanager
    async def open(self, wanted: SubscriptionFilter) -> AsyncIterator[WebSocketConnection]:
        await self._access.refresh_if_due()
        query = urlencode(_fields(wanted))
        with self._translated():
            socket = await self._connect(f"{self._address}?{query}" if query else self._address)
        try:
            yield WebSocketConnection(socket, wanted, self._address, self._config.timeout)
        finally:
            await socket.close()

    async def aclose(self) -> None:
        pass

    async def _connect(self, url: str) -> ClientConnection:
        from websockets.asyncio.client import connect

        class Connect(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc  # the credential is for this server only

        config = self._config
        headers = dict(self._access.headers())
        for name in ("accept", "accept-encoding", "user-agent"):
            headers.pop(name, None)
        options: dict[str, Any] = {}
        if url.startswith("wss:"):
            options["ssl"] = self._certificates()
        return await Connect(
            url,
            additional_headers=headers,
            user_agent_header=config.user_agent,
            open_timeout=min(config.connect_timeout, config.timeout),
            close_timeout=_CLOSE_TIMEOUT,
            max_size=_LARGEST,
            proxy=proxy_for(url.replace("ws", "http", 1)),
            logger=_log,
            **options,
        )

    def _certificates(self) -> Any:
        """Return the certificates that HTTP trusts, so that both accept the same servers."""
        if self._trust is None:
            self._trust = trust()
        return self._trust

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

        try:
            yield
        except InvalidStatus as error:
            answer = error.response
            body = self._access.hide(bytes(answer.body or b""))
            raise create_error_from_response(
                answer.status_code, body, headers=dict(answer.headers.raw_items())
            ) from error
        except InvalidURI as error:
            raise ConfigurationError(f"ws_url is not an address of a WebSocket: {self._address}") from error
        except TimeoutError as error:
            seconds = min(self._config.connect_timeout, self._config.timeout)
            raise SpooledTimeoutError(
                f"no connection to {self._address} within {seconds:g} s", timeout_seconds=seconds
            ) from error
        except (WebSocketException, OSError) as error:
            raise NetworkError(f"{self._address}: {str(error) or type(error).__name__}") from error


class WebSocketConnection:
    """One WebSocket."""

    finished = False

    def __init__(
        self, socket: ClientConnection, wanted: SubscriptionFilter, address: str, command_timeout: float
    ) -> None:
        self._socket = socket
        self._wanted = wanted
        self._address = address
        self._command_timeout = command_timeout

    async def events(self) -> AsyncGenerator[RealtimeEvent]:
        from websockets.exceptions import ConnectionClosedError

        try:
            async for message in self._socket:
                event = read_event(message)
                if event is not None:
                    yield event
        except ConnectionClosedError as error:
            raise self._broken(error) from error

    async def change(self, wanted: SubscriptionFilter) -> bool:
        from websockets.exceptions import ConnectionClosed

        if wanted == self._wanted:
            return True
        commands: list[dict[str, str]] = []
        if self._wanted != EVERYTHING:
            # Subscribing replaces the fields that are given only, so the others have to be cleared first.
            commands.append({"cmd": "unsubscribe"})
        if wanted != EVERYTHING:
            commands.append({"cmd": "subscribe", **_fields(wanted)})
        try:
            async with asyncio.timeout(self._command_timeout):
                for command in commands:
                    # Some servers know one spelling, some the other; what they do not know they leave alone.
                    for name in (command["cmd"], command["cmd"].capitalize()):
                        await self._socket.send(msgspec.json.encode({**command, "cmd": name}).decode())
        except (ConnectionClosed, TimeoutError):
            # A server that takes nothing any more is as good as gone.
            return False
        self._wanted = wanted
        return True

    def _broken(self, error: Exception) -> SpooledError:
        return NetworkError(f"{self._address}: the connection was lost: {error}")


def address(config: ClientConfig) -> str:
    """Return where the WebSocket is: `ws_url`, or the same server as `base_url`."""
    base = config.ws_url or config.base_url
    if base.startswith("http"):
        base = base.replace("http", "ws", 1)
    base = base.rstrip("/")
    return base if base.endswith("/ws") else f"{base}{API}/ws"


def _fields(wanted: SubscriptionFilter) -> dict[str, str]:
    found = {"queue": wanted.queue, "job_id": wanted.job_id}
    return {name: value for name, value in found.items() if value is not None}
