"""A JWT made from the API key, for endpoints that take the credential in a URL or accept no key."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._async.auth import AsyncAuth
from spooled._http._waiting import AsyncLock
from spooled.clock import Clock, SystemClock

_MARGIN = 60.0


class AsyncJwtCache:
    """Logs in when there is no token, or less than a minute of it left.

    Args:
        session: Whose API key is exchanged.
        clock: What tells the age of the token.
    """

    def __init__(self, session: AsyncSession, clock: Clock | None = None) -> None:
        self._auth = AsyncAuth(session)
        self._config = session.config
        self._clock = clock or SystemClock()
        self._lock = AsyncLock()
        self._token: str | None = None
        self._good_until = 0.0

    async def get(self, force_refresh: bool = False) -> str | None:
        """Return the token; the configured access token when there is no API key; None when there is neither."""
        key = self._config.api_key
        if key is None:
            return self._config.access_token
        async with self._lock:
            now = self._clock.monotonic()
            if self._token is None or force_refresh or now >= self._good_until:
                answer = await self._auth.login(api_key=key)
                self._token = answer.access_token
                self._good_until = now + max(answer.expires_in - _MARGIN, 0.0)
            return self._token
