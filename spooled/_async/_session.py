"""Calls to the API: one place for credentials, retries, errors and rate-limit headers."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET

from spooled._http._credentials import Credentials
from spooled._http._json import decode, encode, list_of
from spooled._http._messages import Request, Response
from spooled._http._paths import API
from spooled._http._rate_limit import RateLimitInfo, rate_limit_of
from spooled._http._retry import delay_before_retry, may_replay
from spooled._http._transport import AsyncTransport
from spooled._http._waiting import AsyncLock, async_sleep
from spooled.clock import Clock, SystemClock
from spooled.config import ClientConfig, RetryConfig
from spooled.errors import AuthenticationError, NetworkError, SpooledError, create_error_from_response
from spooled.models import Page

T = TypeVar("T")
Query = Sequence[tuple[str, str]]

_log = logging.getLogger("spooled.http")


class _Refreshed(msgspec.Struct):
    access_token: str


class AsyncSession:
    """Sends API calls through a transport.

    Args:
        config: Address, credentials, timeouts, retries.
        transport: Where requests go. Closed together with the session.
        clock: What tells when an access token ends.
        resends: Whether to send once more, beside the retries, what met a connection that the server had closed.

    Attributes:
        config: The options in force.
        rate_limit: What the latest response said about it.
        credentials: What requests carry now.
    """

    def __init__(
        self,
        config: ClientConfig,
        transport: AsyncTransport,
        clock: Clock | None = None,
        *,
        resends: bool = True,
    ) -> None:
        self.config = config
        self._resends = resends
        self._clock = clock or SystemClock()
        self.rate_limit: RateLimitInfo | None = None
        self._transport = transport
        self.credentials = Credentials(config, self._clock.now())
        self._refreshing = AsyncLock()

    async def call(
        self,
        method: str,
        path: str,
        into: type[T],
        *,
        query: Query | None = None,
        body: object = UNSET,
        replay: bool | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send a request, again if need be, and read the answer.

        Args:
            method: Upper-case HTTP method.
            path: Percent-encoded, starts with `/`.
            into: What to read the answer into. `type(None)` ignores the body.
            query: Names and values, not yet encoded.
            body: JSON-able; `msgspec.Raw` inside it is passed through. Default: no body.
            replay: Whether sending it twice does no harm. Default: by method, so not for POST.
            timeout: Seconds for each attempt in total. Default: the configuration's.
            retry: Default: the configuration's. `RetryConfig(max_retries=0)` means one attempt.
            headers: Sent as well, lower-case names; they win over the usual ones. They hold a credential of
                this call's own, so its refusal does not renew the session's token.

        Raises:
            SpooledError: See the subclasses.
        """
        return decode(
            await self.exchange(
                method,
                path,
                query=query,
                body=body,
                replay=replay,
                timeout=timeout,
                retry=retry,
                headers=headers,
            ),
            into,
        )

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = UNSET,
        replay: bool | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """As `call`, but the successful response itself."""
        config = self.config
        retry = config.retry if retry is None else retry
        data = None if body is UNSET else encode(body)
        replays = may_replay(method, replay)
        renewed = resent = False
        attempt = 1  # of those that the policy counts
        while True:
            credentials = self.credentials
            await self.renew_if_due()
            bearer = credentials.bearer
            usual = credentials.headers if data is None else credentials.headers_with_body
            request = Request(
                method,
                path,
                tuple(query) if query else (),
                data,
                {**usual, **headers} if headers else usual,
                config.timeout if timeout is None else timeout,
            )
            error: SpooledError
            try:
                try:
                    return await self._attempt(request)
                except AuthenticationError:
                    if renewed or headers or not await self.renew(bearer):
                        raise
                    renewed = True
                    continue
            except SpooledError as failed:
                error = failed
            error.attempts = attempt + resent
            if (
                self._resends
                and replays
                and not resent
                and isinstance(error, NetworkError)
                and error.stale_connection
            ):
                resent = True  # no sign of trouble: the server closes what is idle
                continue
            delay = delay_before_retry(
                error,
                attempt=attempt,
                replay=replays,
                retry=retry,
                max_retry_after=config.max_retry_after,
                chance=random.random(),  # noqa: S311 - spreads waits, guards nothing
            )
            if delay is None:
                raise error
            _log.info("%s %s: retry %d in %.2f s after %s", method, path, attempt, delay, error)
            await async_sleep(delay)
            attempt += 1

    def with_timeout(self, seconds: float) -> AsyncSession:
        """Return this session with a shorter time-out, sharing credentials and connections; it is not closed."""
        other = copy.copy(self)
        other.config = self.config.replace(timeout=min(seconds, self.config.timeout))
        return other

    async def page(self, path: str, item: type[T], query: Query = ()) -> Page[T]:
        """GET a list of `item`, and whether there is more of it."""
        response = await self.exchange("GET", path, query=query)
        more = response.headers.get("x-has-more")
        items = decode(response, list_of(item))
        return Page(items, has_more=None if more is None else more.lower() == "true")

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    async def _attempt(self, request: Request) -> Response:
        debug = self.config.debug
        if debug:
            size = 0 if request.body is None else len(request.body)
            _log.debug("%s %s, %d bytes", request.method, request.path, size)
        response = await self._transport.send(request)
        if debug:
            _log.debug(
                "%s %s: %d, %d bytes", request.method, request.path, response.status, len(response.body)
            )
        if "x-ratelimit-limit" in response.headers:
            self.rate_limit = rate_limit_of(response.headers)
        if 200 <= response.status < 300:
            return response
        body = self.credentials.hide(response.body, request.headers)
        raise create_error_from_response(response.status, body, headers=response.headers)

    async def renew_if_due(self) -> None:
        """Get a new access token when the old one is about to end, if that can be had."""
        if not self.credentials.due(self._clock.now()):
            return
        try:
            await self.renew(self.credentials.bearer)
        except SpooledError as error:
            # The old token may still do. When the server refuses it, renewing is tried again.
            self.credentials.good_until = None
            _log.info("the access token could not be renewed before its end: %s", error)

    async def renew(self, refused: str | None) -> bool:
        """Get a new access token in place of `refused`, once for all calls that were refused with it.

        Returns:
            Whether there is a new one.

        Raises:
            SpooledError: The request for it failed.
        """
        credentials = self.credentials
        if not credentials.can_refresh():
            return False
        async with self._refreshing:
            if credentials.bearer != refused:
                return True
            if not credentials.can_refresh():
                return False
            data = encode({"refresh_token": credentials.refresh_token})
            # Without the stale bearer, which a server may refuse before it looks at the body.
            headers = {k: v for k, v in credentials.headers_with_body.items() if k != "authorization"}
            request = Request("POST", f"{API}/auth/refresh", (), data, headers, self.config.timeout)
            try:
                token = decode(await self._attempt(request), _Refreshed).access_token
            except AuthenticationError:
                # Final: asking again with the same token would only repeat this for every call.
                credentials.refresh_token = None
                return False
            credentials.use(token, self._clock.now())
            return True
