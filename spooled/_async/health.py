"""Whether the server is well."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled.config import RetryConfig
from spooled.errors import NetworkError, ServerError, TimeoutError  # noqa: A004 - the official name
from spooled.models import HealthResponse

# A probe wants to know how things are now.
_ONCE = RetryConfig(max_retries=0)


class AsyncHealth:
    """`client.health`. Contract: api-v1 §2."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self) -> HealthResponse:
        """Return the server's own opinion; `degraded` is an answer, too.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", "/health", HealthResponse, retry=_ONCE)

    async def liveness(self) -> bool:
        """Return whether the server answers at all. One attempt; an unreachable server is False."""
        return await self._answers("/health/live")

    async def readiness(self) -> bool:
        """Return whether the server says that it can work. One attempt; an unreachable server is False."""
        return await self._answers("/health/ready")

    async def _answers(self, path: str) -> bool:
        try:
            await self._session.call("GET", path, type(None), retry=_ONCE)
        except (NetworkError, ServerError, TimeoutError):
            return False
        return True
