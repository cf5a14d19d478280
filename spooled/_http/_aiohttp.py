"""The fast transport of the worker engine, over aiohttp (extra `fast`)."""

from __future__ import annotations

import io
import ssl
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from spooled._http._failures import broken, overdue, unconnected
from spooled._http._messages import Request, Response
from spooled._http._proxy import proxy_for
from spooled._http._transport import KEEPALIVE_SECONDS
from spooled.config import ClientConfig


class AiohttpTransport:
    """Sends requests through an `aiohttp.ClientSession`, on one event loop.

    Args:
        config: Address and timeouts.
        max_connections: Connections opened at most. Default: the configuration's.
    """

    def __init__(self, config: ClientConfig, *, max_connections: int | None = None) -> None:
        self._base_url = config.base_url
        self._connect_timeout = config.connect_timeout
        self._max_connections = config.max_connections if max_connections is None else max_connections
        self._proxy = proxy_for(config.base_url)
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Response:
        session = self._session
        if session is None:
            session = self._session = self._open()
        url = self._base_url + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        try:
            async with session.request(
                request.method,
                # Encoded already: yarl would turn %2E%2E back into a step up.
                URL(url, encoded=True),
                data=_content(request.body),
                headers=request.headers,
                timeout=self._timeout(request.timeout),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = await response.read()
        except aiohttp.ConnectionTimeoutError as error:
            raise unconnected(self._base_url, request, self._connect_timeout) from error
        except TimeoutError as error:
            raise overdue(request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise broken(self._base_url, request, error) from error
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers
        }
        return Response(response.status, headers, body)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Made by the first request, because aiohttp ties a session to the running loop."""
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            keepalive_timeout=KEEPALIVE_SECONDS,
            ssl=_trust() if self._base_url.startswith("https:") else True,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        known = self._timeouts.get(seconds)
        if known is None:
            if len(self._timeouts) > 100:  # the engine may ask for what is left of a lease
                self._timeouts.clear()
            known = aiohttp.ClientTimeout(total=seconds, connect=None, sock_connect=self._connect_timeout)
            self._timeouts[seconds] = known
        return known


def _content(body: bytes | None) -> bytes | io.BytesIO | None:
    # From here on aiohttp writes bytes in pieces only when they come as a file, and warns when they do not.
    return io.BytesIO(body) if body is not None and len(body) > 1_048_576 else body


def _trust() -> ssl.SSLContext:
    """The certificates httpx trusts, so that both transports accept the same servers."""
    import httpx  # slow to import, and plain HTTP does not need it

    return httpx.create_ssl_context()
