"""The server's metrics, for Prometheus."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http._rules import Text, body

_TOKEN = {"token": Text(1, 10_000, secret=True)}


class AsyncMetrics:
    """`client.metrics`. Contract: api-v1 §2."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, token: str | None = None) -> str:
        """All metrics in Prometheus' text format.

        Args:
            token: The server's metrics token, if it has one. Default: the client's own credential is sent.

        Raises:
            AuthenticationError: The server wants its metrics token.
            SpooledError: As every call.
        """
        body(_TOKEN, token=token)
        headers = None if token is None else {"authorization": f"Bearer {token}"}
        response = await self._session.exchange("GET", "/metrics", headers=headers)
        return response.body.decode("utf-8", "replace")
