"""The credential of a realtime connection, renewed together with the client's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from spooled._async._session import AsyncSession
from spooled._http._credentials import Credentials
from spooled._sync._session import Session
from spooled.config import ClientConfig


class Access(Protocol):
    """Who may connect."""

    def headers(self) -> Mapping[str, str]:
        """Headers of a request, names in lower case."""

    def hide(self, body: bytes) -> bytes:
        """`body` without the credentials, for error texts."""

    async def refresh_if_due(self) -> None:
        """Renew an access token that is about to end, if that can be done."""

    async def renew(self) -> bool:
        """Get another token in place of a refused one; False when there is none to be had."""


class FixedAccess:
    """A token that nothing renews."""

    def __init__(self, config: ClientConfig) -> None:
        self._credentials = Credentials(config)

    def headers(self) -> Mapping[str, str]:
        return self._credentials.headers

    def hide(self, body: bytes) -> bytes:
        return self._credentials.hide(body, self.headers())

    async def refresh_if_due(self) -> None:
        pass

    async def renew(self) -> bool:
        return False


class SessionAccess:
    """What a client's session uses. A session of the blocking client is asked in a thread."""

    def __init__(self, session: AsyncSession | Session) -> None:
        self._session = session

    def headers(self) -> Mapping[str, str]:
        return self._session.credentials.headers

    def hide(self, body: bytes) -> bytes:
        return self._session.credentials.hide(body, self.headers())

    async def refresh_if_due(self) -> None:
        if isinstance(self._session, AsyncSession):
            await self._session.renew_if_due()
        else:
            await asyncio.to_thread(self._session.renew_if_due)

    async def renew(self) -> bool:
        refused = self._session.credentials.bearer
        if isinstance(self._session, AsyncSession):
            return await self._session.renew(refused)
        return await asyncio.to_thread(self._session.renew, refused)
