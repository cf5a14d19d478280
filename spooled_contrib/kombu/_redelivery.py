"""Count how often a message was begun, apart from how often it was lost.

The server counts every lease that is lost, and so does not tell a task that kills its worker from those that were only
fetched beside it. So a message may be lost more often than it may be begun: what has come back once is marked each time
that it begins, and when it has been lost too often, the marks decide. See docs/decisions/kombu-transport.md.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping
from typing import Any

from spooled import AsyncSpooledClient
from spooled.models import ClaimedJob
from spooled_contrib.kombu._envelope import Message
from spooled_contrib.kombu._pages import every_job

LIMIT = "spooled_redeliveries"
"""The message property that says how often it may come back after it has begun."""

BEGUN = "spooled_begun"
"""The message property of a copy: how often the message was begun before."""

MARKS = "kombu-begun"
"""The queue of marks, which nobody runs."""

KEPT = dt.timedelta(days=7)
"""How long a mark is kept: as long as a message may wait for its next worker."""

SPARE = 3
"""How often a message may be lost while it is decided what becomes of it."""

MOST = 100
"""The most retries that a job may have (contract api-v1 section 3.2)."""


def limited(message: Message, redeliveries: int) -> Message:
    """Return a message that says how often it may come back."""
    return {**message, "properties": {**message["properties"], LIMIT: redeliveries}}


def allowance(redeliveries: int) -> int:
    """Return how often the job of such a message may be lost: more often than the message may begin."""
    return min(MOST, redeliveries + 1 + SPARE)


def limit_of(job: ClaimedJob) -> int | None:
    """Return how often a message may come back; None for a job that the server alone counts."""
    limit = _properties(job).get(LIMIT)
    return limit if isinstance(limit, int) else None


def begun_before(job: ClaimedJob) -> int:
    """Return how often a message was begun as another job, of which this one is a copy."""
    begun = _properties(job).get(BEGUN)
    return begun if isinstance(begun, int) else 0


def is_suspect(job: ClaimedJob) -> bool:
    """Return whether a mark is to be made when the message begins: it has come back, or must never come back."""
    limit = limit_of(job)
    return limit is not None and (limit == 0 or job.retry_count > 0 or begun_before(job) > 0)


def is_due(job: ClaimedJob) -> bool:
    """Return whether the message must not begin before it is counted how often it has."""
    limit = limit_of(job)
    return limit is not None and (job.retry_count > limit or begun_before(job) > limit)


def copied(message: Message, begun: int) -> Message:
    """Return the message of a copy."""
    info = {**(message["properties"].get("delivery_info") or {}), "redelivered": True}
    counted = {BEGUN: begun} if begun else {}
    return {**message, "properties": {**message["properties"], "delivery_info": info, **counted}}


async def mark(client: AsyncSpooledClient, queue_name: str, job_id: str, lease_id: str) -> None:
    """Note that a message begins under this lease.

    Raises:
        SpooledError: It could not be noted.
    """
    until = dt.datetime.now(dt.UTC) + KEPT
    await client.jobs.create(
        queue_name=queue_name,
        payload={"job_type": lease_id},
        tags=[f"begun:{job_id}"],
        scheduled_at=until,
        expires_at=until,
        max_retries=0,
        idempotency_key=f"begun-{lease_id}"[:255],
    )


async def count_begun(client: AsyncSpooledClient, queue_name: str, job: ClaimedJob) -> int:
    """Return how often a message was begun before this lease. That costs a request when it has come back.

    Raises:
        SpooledError: The marks could not be read.
    """
    begun = begun_before(job)
    if not job.retry_count:
        return begun
    if not begun and limit_of(job):
        begun = 1  # the first time is not marked, so that messages that are never lost need no mark
    query = {"queue_name": queue_name, "tag": f"begun:{job.id}"}
    leases = {one.job_type async for one in every_job(client, **query)}
    return begun + len(leases - {job.lease_id or ""})


def requeues_when_lost(payload: object) -> bool:
    """Return whether Celery gives back a task of this kind when the child that runs it dies."""
    state: Any = sys.modules.get("celery._state")
    name = payload.get("job_type") if isinstance(payload, Mapping) else None
    if state is None or not isinstance(name, str):
        return False
    task = state.get_current_app().tasks.get(name)
    return bool(getattr(task, "reject_on_worker_lost", False))


def _properties(job: ClaimedJob) -> Mapping[str, Any]:
    message = job.payload.get("kombu") if isinstance(job.payload, Mapping) else None
    properties = message.get("properties") if isinstance(message, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}
