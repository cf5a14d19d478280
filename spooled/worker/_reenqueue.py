"""Replace a job by a copy of itself: the way to another time, or to another worker, that costs no attempt."""

from __future__ import annotations

from typing import Any

import msgspec

from spooled.errors import ConflictError, NotFoundError, SpooledError
from spooled.models import ClaimedJob, Job
from spooled.worker._job_result import Reenqueue
from spooled.worker._requests import WorkerRequests

KEY_LIMIT = 255
"""The longest idempotency key in characters (contract api-v1 §3.2)."""


def retries_left(job: ClaimedJob, replace: Reenqueue) -> int:
    """The retries that a copy may have; negative when there is no run left for it."""
    return job.max_retries - job.retry_count - (1 if replace.costs_attempt else 0)


def is_replaceable(job: Job, *, has_dependents: bool) -> bool:
    """Whether nobody watches the job's id. A webhook's secret is never returned, so it could not be copied either."""
    return job.workflow_id is None and not has_dependents and job.completion_webhook is None


def copy_of(job: Job, replace: Reenqueue, *, key: str, retries: int) -> dict[str, Any]:
    """Return the body of the request that creates the successor."""
    body = {
        "queue_name": job.queue_name,
        "payload": job.payload,
        "priority": job.priority,
        "max_retries": retries,
        "timeout_seconds": job.timeout_seconds,
        "idempotency_key": key,
        "scheduled_at": replace.due,
        "expires_at": job.expires_at,
        "tags": job.tags,
    }
    return {name: value for name, value in body.items() if value is not None or name == "payload"}


def note(replace: Reenqueue, successor: str) -> dict[str, Any]:
    """The result that the original is completed with."""
    return {"spooled": {"outcome": replace.outcome, "successor": successor, "reason": replace.reason}}


async def make_copy(
    requests: WorkerRequests, job: ClaimedJob, replace: Reenqueue, payload: object
) -> str | None:
    """Create the copy and return its id; None when this job must not be replaced.

    `payload` is the copy's, unless it is UNSET.

    The idempotency key comes from the lease, so a repeated attempt of the same run finds the copy of the first.

    Raises:
        SpooledError: It did not work this time.
    """
    retries = retries_left(job, replace)
    if retries < 0:
        return None
    original = await requests.jobs.get(job.id)
    # The cheap answer first: most jobs have neither workflow nor webhook.
    if not is_replaceable(original, has_dependents=False):
        return None
    if (await requests.dependencies.get_dependencies(job.id)).dependents:
        return None
    key = f"spooled:{job.lease_id}"[-KEY_LIMIT:]
    copy = copy_of(original, replace, key=key, retries=retries)
    if payload is not msgspec.UNSET:
        copy["payload"] = payload
    return (await requests.jobs.create(**copy)).id


async def cancel_copy(requests: WorkerRequests, successor: str) -> SpooledError | None:
    """Cancel a copy whose original turned out to be somebody else's, so that the job does not run twice."""
    try:
        await requests.jobs.cancel(successor)
    except (NotFoundError, ConflictError):
        # It has run or is running; nothing can be done any more.
        return None
    except SpooledError as error:
        return error
    return None
