"""Queues: look at, configure, pause, delete."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body
from spooled.models import PauseQueueResponse, QueueConfig, QueueStats, QueueSummary, ResumeQueueResponse

# In the class, `list` is the method.
_Queues = list[QueueSummary]


class AsyncQueues:
    """`client.queues`. Contract: api-v1 §4. Queues need not be created: the first job does it."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self) -> _Queues:
        """All queues the key may see, by name, at most 100.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/queues", list_of(QueueSummary))

    async def get(self, name: str) -> QueueConfig:
        """Return a queue's settings.

        Raises:
            NotFoundError: It has neither settings nor jobs.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(name), QueueConfig)

    @takes_id_and_mapping
    async def update_config(
        self,
        name: str,
        *,
        max_retries: int | None = None,
        default_timeout: int | None = None,
        rate_limit: int | None = None,
        enabled: bool | None = None,
        settings: object = None,
    ) -> QueueConfig:
        """Change a queue's settings; what is not given keeps its value. New jobs use them, existing ones do not.

        Args:
            name: The queue.
            max_retries: For jobs that do not say, 0 to 100.
            default_timeout: `timeout_seconds` for jobs that do not say, 1 to 86400.
            rate_limit: 1 to 100000; kept, but no server is known to enforce it.
            enabled: False stops claims, like `pause`.
            settings: A mapping that is merged into the queue's own settings; at most 64 KiB.

        Raises:
            QuotaExceededError: The queue is new and the plan's number of queues is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.QUEUE_CONFIG,
            max_retries=max_retries,
            default_timeout=default_timeout,
            rate_limit=rate_limit,
            enabled=enabled,
            settings=settings,
        )
        return await self._session.call("PUT", f"{_of(name)}/config", QueueConfig, body=sent)

    async def get_stats(self, name: str) -> QueueStats:
        """Return a queue's numbers; zeros for one that does not exist.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{_of(name)}/stats", QueueStats)

    async def pause(self, name: str, reason: str | None = None) -> PauseQueueResponse:
        """Stop claims. Enqueueing, acks and heartbeats go on.

        Args:
            name: The queue.
            reason: Kept with it, at most 500 characters.

        Raises:
            NotFoundError: There is no such queue.
            SpooledError: As every call.
        """
        sent = body(fields.PAUSE, reason=reason)
        return await self._session.call("POST", f"{_of(name)}/pause", PauseQueueResponse, body=sent)

    async def resume(self, name: str) -> ResumeQueueResponse:
        """Allow claims again.

        Raises:
            NotFoundError: The queue was never paused or configured.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_any(name)}/resume", ResumeQueueResponse)

    async def delete(self, name: str, delete_jobs: bool = False) -> None:
        """Delete a queue's settings, and all its jobs if wanted, running ones included.

        Raises:
            ConflictError: It has jobs and `delete_jobs` is False.
            NotFoundError: There is no such queue.
            SpooledError: As every call.
        """
        asked = [("delete_jobs", "true")] if delete_jobs else []
        await self._session.call("DELETE", _any(name), type(None), query=asked)


def _of(name: str) -> str:
    body({"name": fields.QUEUE_NAME}, required=("name",), name=name)
    return _any(name)


def _any(name: str) -> str:
    """Also for a queue with a name from before the rule, so that one can get rid of it."""
    return f"{API}/queues/{segment(name, 'name')}"
