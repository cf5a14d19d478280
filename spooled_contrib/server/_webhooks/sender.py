"""One attempt to deliver: resolve, check, connect to what was checked, send, read a little of the answer."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl

import httpx

from spooled.clock import Clock
from spooled_contrib.server._rules.attempts import Delivery, Outcome
from spooled_contrib.server._webhooks import message, targets

logger = logging.getLogger("spooled.server")

TOTAL_SECONDS = 10.0
CONNECT_SECONDS = 5.0

_TIMEOUT = httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS).as_dict()

KEPT_BYTES = 4096
"""How much of an answer is read and kept. A receiver's answer is only for the log."""


class Sender:
    """Sends deliveries over HTTP. Belongs to one event loop."""

    def __init__(self, clock: Clock, *, allow_private: bool) -> None:
        self._clock = clock
        self._allow_private = allow_private
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt. Whatever happens, the outcome tells it; nothing is raised."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await self._attempt(delivery)
        except TimeoutError:
            return Outcome(error=f"no answer within {TOTAL_SECONDS:.0f} s")
        except targets.RefusedTargetError as error:
            return Outcome(error=f"refused: {error}", final=True)
        except targets.UnresolvedError as error:
            return Outcome(error=str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Outcome(error=_describe(error))
        except Exception as error:
            # A delivery that raised would stay leased and come back for ever.
            logger.exception("webhook delivery %s failed in a way that nobody thought of", delivery.id)
            return Outcome(error=_describe(error))

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()

    async def _attempt(self, delivery: Delivery) -> Outcome:
        targets.check_url(delivery.url, allow_private=self._allow_private)
        url = httpx.URL(delivery.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await targets.resolve(url.host, port, allow_private=self._allow_private)
        content = message.body(delivery)
        headers = message.headers(delivery, content, int(self._clock.now()))
        transport = await self._transport(url.scheme)
        for number, address in enumerate(addresses, 1):
            try:
                return await _post(transport, url, address, headers, content)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                # A host with two addresses, one of which this machine has no way to.
                if number == len(addresses):
                    raise
        raise AssertionError("a host has at least one address")

    async def _transport(self, scheme: str) -> httpx.AsyncHTTPTransport:
        # A transport and no client: a client follows the environment to proxies, which would resolve the name again,
        # and logs the address, which may hold a token.
        if scheme not in self._transports:
            # Loading the certificates takes longer than starting a server, so it waits until somebody needs them.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if scheme == "https":
                context = await asyncio.get_running_loop().run_in_executor(None, httpx.create_ssl_context)
            # No connection is kept: the next delivery to the same address may be for another name, whose certificate
            # was not looked at.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            self._transports.setdefault(
                scheme, httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
            )
        return self._transports[scheme]


async def _post(
    transport: httpx.AsyncHTTPTransport, url: httpx.URL, address: str, headers: dict[str, str], content: bytes
) -> Outcome:
    """Send to `address`, with the name from the URL in the Host header and in TLS."""
    sent = {**headers, "host": url.netloc.decode("ascii"), "connection": "close"}
    if url.userinfo:
        pair = f"{url.username}:{url.password}".encode()
        sent["authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
    request = httpx.Request(
        "POST",
        url.copy_with(host=address, username=None, password=None),
        headers=sent,
        content=content,
        extensions={"sni_hostname": url.host, "timeout": _TIMEOUT},
    )
    response = await transport.handle_async_request(request)
    try:
        text = await _beginning(response)
    finally:
        await response.aclose()
    if response.is_success:
        return Outcome(response.status_code, text)
    return Outcome(response.status_code, text, f"answered {response.status_code}")


async def _beginning(response: httpx.Response) -> str:
    kept = bytearray()
    # Raw: a compressed answer could unpack to far more than it weighs.
    async for chunk in response.aiter_raw(KEPT_BYTES):
        kept += chunk
        if len(kept) >= KEPT_BYTES:
            break
    return bytes(kept[:KEPT_BYTES]).decode("utf-8", "replace").replace("\0", "\ufffd")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\0", "\ufffd").removesuffix(": ")
