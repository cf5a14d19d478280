"""The dashboard: everything at a glance."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http._paths import API
from spooled.models import DashboardResponse


class AsyncDashboard:
    """`client.dashboard`. Contract: api-v1 §11."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self) -> DashboardResponse:
        """Return the server, its jobs, up to 20 queues, and workers, as far as the key may see them.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/dashboard", DashboardResponse)
