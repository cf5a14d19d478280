"""Jobs, and what is done with them."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import msgspec

from spooled.models._model import Model

_log = logging.getLogger("spooled.http")


class CreateJobResponse(Model, frozen=True):
    """Answer to `jobs.create`. `created` is False when the idempotency key named a job that existed."""

    id: str
    created: bool = True


class BulkJobSuccess(Model, frozen=True):
    """One accepted job of a bulk request; `index` is its place in the request."""

    index: int
    job_id: str
    created: bool = True


class BulkJobFailure(Model, frozen=True):
    """One refused job of a bulk request; `index` is its place in the request."""

    index: int
    error: str = ""


class BulkEnqueueResponse(Model, frozen=True):
    """Answer to `jobs.bulk_enqueue`. HTTP success does not mean that every job was accepted: see `failed`."""

    succeeded: list[BulkJobSuccess] = []
    failed: list[BulkJobFailure] = []
    total: int = 0
    success_count: int = 0
    failure_count: int = 0


class Job(Model, frozen=True):
    """A job with everything the server keeps about it."""

    id: str
    queue_name: str
    status: str
    created_at: datetime
    organization_id: str = ""
    payload: Any = None
    result: Any = None
    retry_count: int = 0
    max_retries: int = 0
    last_error: str | None = None
    updated_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0
    tags: Any = None
    timeout_seconds: int = 300
    parent_job_id: str | None = None
    completion_webhook: str | None = None
    assigned_worker_id: str | None = None
    lease_id: str | None = None
    lease_expires_at: datetime | None = None
    idempotency_key: str | None = None
    workflow_id: str | None = None
    dependency_mode: str | None = None
    dependencies_met: bool | None = None


class JobSummary(Model, frozen=True):
    """A job in a list. `attempt` and `retry_count` are the same number under its newer and its older name."""

    id: str
    queue_name: str
    status: str
    created_at: datetime
    priority: int = 0
    attempt: int = -1
    retry_count: int = -1
    max_retries: int = 0
    job_type: str = ""
    last_error: str | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    def __post_init__(self) -> None:
        number = max(self.attempt, self.retry_count, 0)
        msgspec.structs.force_setattr(self, "attempt", number)
        msgspec.structs.force_setattr(self, "retry_count", number)


class ClaimedJob(Model, frozen=True):
    """A job leased to a worker. `lease_id` is what every ack and heartbeat has to show."""

    id: str
    queue_name: str
    payload: Any = None
    retry_count: int = 0
    max_retries: int = 0
    timeout_seconds: int = 300
    lease_id: str | None = None
    lease_expires_at: datetime | None = None


class _UnreadClaim(msgspec.Struct):
    jobs: list[msgspec.Raw] = []


class _OnlyId(msgspec.Struct):
    id: Any = None


class ClaimJobsResponse(Model, frozen=True):
    """The claimed jobs, in no particular order.

    Attributes:
        jobs: The jobs, now leased.
        skipped: Ids of jobs that came in a form this version cannot read ("?" when not even the id). They are
            leased, too, and return to the queue when their lease ends.
    """

    jobs: list[ClaimedJob] = []
    skipped: list[str] = []

    @classmethod
    def from_json(cls, body: bytes) -> ClaimJobsResponse:
        """Read job by job when they cannot be read at once, so that one bad job does not lose the batch."""
        try:
            return _claim_decoder.decode(body)
        except msgspec.ValidationError:
            unread = msgspec.json.decode(body, type=_UnreadClaim)
        jobs: list[ClaimedJob] = []
        skipped: list[str] = []
        for raw in unread.jobs:
            try:
                jobs.append(msgspec.json.decode(raw, type=ClaimedJob))
            except msgspec.ValidationError as error:
                skipped.append(_id_of(raw))
                _log.error("claimed job %s is skipped, it cannot be read: %s", skipped[-1], error)
        return cls(jobs=jobs, skipped=skipped)


_claim_decoder = msgspec.json.Decoder(ClaimJobsResponse)


def _id_of(raw: msgspec.Raw) -> str:
    try:
        found = msgspec.json.decode(raw, type=_OnlyId).id
    except msgspec.ValidationError:
        return "?"
    return found if isinstance(found, str) else "?"


class AckResponse(Model, frozen=True):
    """Answer to complete, fail and heartbeat."""

    success: bool = True
    error: str | None = None


class JobStats(Model, frozen=True):
    """Number of jobs in each state."""

    pending: int = 0
    scheduled: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    deadletter: int = 0
    cancelled: int = 0
    total: int = 0


class JobStatusInfo(Model, frozen=True):
    """One entry of `jobs.batch_status`."""

    id: str
    status: str
    queue_name: str = ""
    retry_count: int = 0
    created_at: datetime | None = None
    completed_at: datetime | None = None


class JobHistoryEvent(Model, frozen=True):
    """Something that happened to a job. `event_type` is an open set: created, claimed, completed, ..."""

    id: str
    job_id: str
    event_type: str
    created_at: datetime
    worker_id: str | None = None
    details: Any = None


class BoostPriorityResponse(Model, frozen=True):
    """Answer to `jobs.boost_priority`."""

    job_id: str
    old_priority: int
    new_priority: int


class RetryDlqResponse(Model, frozen=True):
    """Answer to `jobs.dlq.retry`. `skipped_jobs` stayed dead: they would have passed the workflow cap."""

    retried_count: int = 0
    retried_jobs: list[str] = []
    skipped_jobs: list[str] = []

    @property
    def job_ids(self) -> list[str]:
        """The same as `retried_jobs`."""
        return self.retried_jobs


class PurgeDlqResponse(Model, frozen=True):
    """Answer to `jobs.dlq.purge`."""

    purged_count: int = 0
