"""What the server answers, as frozen msgspec Structs. Unknown fields are ignored, absent ones default.

Timestamps are aware datetimes. Texts such as a job's `status` stay plain strings: a newer server may say
something this version does not know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_log = logging.getLogger("spooled.http")


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Page(list[T], Generic[T]):
    """One page of a list.

    Attributes:
        has_more: Whether there is another page at `offset + limit`; None when the server does not say.
    """

    def __init__(self, items: Iterable[T] = (), *, has_more: bool | None = None) -> None:
        super().__init__(items)
        self.has_more = has_more

    def __repr__(self) -> str:
        return f"Page({super().__repr__()}, has_more={self.has_more})"


# --- jobs ---------------------------------------------------------------------------------------------------


class CreateJobResponse(_Model, frozen=True):
    """Answer to `jobs.create`. `created` is False when the idempotency key named a job that existed."""

    id: str
    created: bool = True


class BulkJobSuccess(_Model, frozen=True):
    """One accepted job of a bulk request; `index` is its place in the request."""

    index: int
    job_id: str
    created: bool = True


class BulkJobFailure(_Model, frozen=True):
    """One refused job of a bulk request; `index` is its place in the request."""

    index: int
    error: str = ""


class BulkEnqueueResponse(_Model, frozen=True):
    """Answer to `jobs.bulk_enqueue`. HTTP success does not mean that every job was accepted: see `failed`."""

    succeeded: list[BulkJobSuccess] = []
    failed: list[BulkJobFailure] = []
    total: int = 0
    success_count: int = 0
    failure_count: int = 0


class Job(_Model, frozen=True):
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


class JobSummary(_Model, frozen=True):
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


class ClaimedJob(_Model, frozen=True):
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


class ClaimJobsResponse(_Model, frozen=True):
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


class AckResponse(_Model, frozen=True):
    """Answer to complete, fail and heartbeat."""

    success: bool = True
    error: str | None = None


class JobStats(_Model, frozen=True):
    """Number of jobs in each state."""

    pending: int = 0
    scheduled: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    deadletter: int = 0
    cancelled: int = 0
    total: int = 0


class JobStatusInfo(_Model, frozen=True):
    """One entry of `jobs.batch_status`."""

    id: str
    status: str
    queue_name: str = ""
    retry_count: int = 0
    created_at: datetime | None = None
    completed_at: datetime | None = None


class JobHistoryEvent(_Model, frozen=True):
    """Something that happened to a job. `event_type` is an open set: created, claimed, completed, ..."""

    id: str
    job_id: str
    event_type: str
    created_at: datetime
    worker_id: str | None = None
    details: Any = None


class BoostPriorityResponse(_Model, frozen=True):
    """Answer to `jobs.boost_priority`."""

    job_id: str
    old_priority: int
    new_priority: int


class RetryDlqResponse(_Model, frozen=True):
    """Answer to `jobs.dlq.retry`. `skipped_jobs` stayed dead: they would have passed the workflow cap."""

    retried_count: int = 0
    retried_jobs: list[str] = []
    skipped_jobs: list[str] = []

    @property
    def job_ids(self) -> list[str]:
        """The same as `retried_jobs`."""
        return self.retried_jobs


class PurgeDlqResponse(_Model, frozen=True):
    """Answer to `jobs.dlq.purge`."""

    purged_count: int = 0


# --- queues -------------------------------------------------------------------------------------------------


class QueueSummary(_Model, frozen=True):
    """A queue in the list of queues."""

    queue_name: str
    max_retries: int = 3
    default_timeout: int = 300
    rate_limit: int | None = None
    enabled: bool = True


class QueueConfig(_Model, frozen=True):
    """A queue's settings. One that only exists because it holds jobs has `settings={"implicit": True}`."""

    queue_name: str
    id: str = ""
    organization_id: str = ""
    max_retries: int = 3
    default_timeout: int = 300
    rate_limit: int | None = None
    enabled: bool = True
    settings: Any = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class QueueStats(_Model, frozen=True):
    """A queue's numbers. `pending_jobs` leaves out scheduled ones, see `JobStats`."""

    queue_name: str
    pending_jobs: int = 0
    processing_jobs: int = 0
    completed_jobs_24h: int = 0
    failed_jobs_24h: int = 0
    avg_processing_time_ms: float | None = None
    max_job_age_seconds: int | None = None
    active_workers: int = 0


class PauseQueueResponse(_Model, frozen=True):
    """Answer to `queues.pause`."""

    queue_name: str
    paused: bool = True
    paused_at: datetime | None = None
    reason: str | None = None


class ResumeQueueResponse(_Model, frozen=True):
    """Answer to `queues.resume`."""

    queue_name: str
    resumed: bool = True
    paused_duration_secs: int = 0


# --- workers ------------------------------------------------------------------------------------------------


class WorkerRegistration(_Model, frozen=True):
    """Answer to `workers.register`: the worker's id and how often it should report."""

    id: str
    queue_name: str = ""
    lease_duration_secs: int = 30
    heartbeat_interval_secs: int = 10


class WorkerSummary(_Model, frozen=True):
    """A worker in the list of workers."""

    id: str
    queue_name: str = ""
    hostname: str = ""
    status: str = ""
    current_jobs: int = 0
    max_concurrency: int = 0
    last_heartbeat: datetime | None = None
    jobs_processed: int | None = None
    jobs_failed: int | None = None


class Worker(_Model, frozen=True):
    """A registered worker."""

    id: str
    queue_name: str = ""
    queue_names: list[str] = []
    organization_id: str = ""
    hostname: str = ""
    worker_type: str | None = None
    max_concurrency: int = 0
    current_jobs: int = 0
    status: str = ""
    last_heartbeat: datetime | None = None
    metadata: Any = None
    version: str | None = None
    registered_at: datetime | None = None
    updated_at: datetime | None = None
    jobs_processed: int | None = None
    jobs_failed: int | None = None

    @classmethod
    def from_json(cls, body: bytes) -> Worker:
        """Older servers spell three of the fields differently."""
        fields = msgspec.json.decode(body)
        if isinstance(fields, dict):
            for older, newer in _OLDER_WORKER_NAMES.items():
                if older in fields:
                    fields.setdefault(newer, fields[older])
        return msgspec.convert(fields, cls)


_OLDER_WORKER_NAMES = {
    "max_concurrent_jobs": "max_concurrency",
    "current_job_count": "current_jobs",
    "created_at": "registered_at",
}


# --- authentication, keys, organisations --------------------------------------------------------------------


class LoginResponse(_Model, frozen=True):
    """A login session. `expires_in` and `refresh_expires_in` are seconds."""

    access_token: str
    refresh_token: str | None = None
    token_type: str = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = 86_400
    refresh_expires_in: int | None = None

    def __repr__(self) -> str:
        return f"LoginResponse(access_token='***', refresh_token='***', expires_in={self.expires_in})"


class RefreshResponse(_Model, frozen=True):
    """A renewed access token. `expires_in` is seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = 86_400

    def __repr__(self) -> str:
        return f"RefreshResponse(access_token='***', expires_in={self.expires_in})"


class OrganizationSummary(_Model, frozen=True):
    """An organisation in a list."""

    id: str
    name: str = ""
    slug: str = ""
    plan_tier: str = ""
    billing_email: str | None = None
    created_at: datetime | None = None


class Me(_Model, frozen=True):
    """Who the access token belongs to."""

    organization_id: str
    api_key_id: str = ""
    queues: list[str] = []
    issued_at: Any = None
    expires_at: Any = None
    organization: OrganizationSummary | None = None


class ValidateTokenResponse(_Model, frozen=True):
    """Whether a token is good, and what it says."""

    valid: bool
    error: str | None = None
    claims: dict[str, Any] | None = None


class HealthResponse(_Model, frozen=True):
    """The server's own opinion of itself: `healthy` or `degraded`."""

    status: str
    version: str | None = None
    database: bool = False
    cache: bool = False
    uptime_seconds: int | None = None


class ApiKey(_Model, frozen=True):
    """An API key without the key itself. `queues` empty or with `*` means unrestricted."""

    id: str
    name: str = ""
    key_prefix: str | None = None
    queues: list[str] = []
    rate_limit: int | None = None
    is_active: bool = True
    created_at: datetime | None = None
    last_used: datetime | None = None
    expires_at: datetime | None = None


class CreatedApiKey(_Model, frozen=True):
    """A new API key. `key` is shown only here, and not in the repr."""

    id: str
    key: str
    name: str = ""
    queues: list[str] = []
    created_at: datetime | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"CreatedApiKey(id={self.id!r}, key='***', name={self.name!r}, queues={self.queues!r})"


class Organization(_Model, frozen=True):
    """An organisation."""

    id: str
    name: str = ""
    slug: str = ""
    plan_tier: str = ""
    billing_email: str | None = None
    settings: Any = None
    custom_limits: Any = None
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None
    stripe_subscription_status: str | None = None
    stripe_current_period_end: datetime | None = None
    stripe_cancel_at_period_end: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateOrganizationResponse(_Model, frozen=True):
    """A new organisation and its first API key."""

    organization: Organization
    api_key: CreatedApiKey


class UsageItem(_Model, frozen=True):
    """How much of one resource is in use. `limit` None means unlimited."""

    current: int = 0
    limit: int | None = None
    percentage: float | None = None
    is_disabled: bool = False


class Usage(_Model, frozen=True):
    """Use of everything the plan counts."""

    jobs_today: UsageItem = UsageItem()
    active_jobs: UsageItem = UsageItem()
    queues: UsageItem = UsageItem()
    workers: UsageItem = UsageItem()
    api_keys: UsageItem = UsageItem()
    schedules: UsageItem = UsageItem()
    workflows: UsageItem = UsageItem()
    webhooks: UsageItem = UsageItem()


class PlanLimits(_Model, frozen=True):
    """What a plan allows; None means unlimited."""

    tier: str = ""
    display_name: str = ""
    max_jobs_per_day: int | None = None
    max_active_jobs: int | None = None
    max_queues: int | None = None
    max_workers: int | None = None
    max_api_keys: int | None = None
    max_schedules: int | None = None
    max_workflows: int | None = None
    max_webhooks: int | None = None
    max_payload_size_bytes: int | None = None
    rate_limit_requests_per_second: int | None = None
    rate_limit_burst: int | None = None
    job_retention_days: int | None = None
    history_retention_days: int | None = None


class UsageWarning(_Model, frozen=True):
    """A resource that is close to its cap. `severity` is `warning` or `critical`."""

    resource: str
    message: str = ""
    severity: str = "warning"


class OrganizationUsage(_Model, frozen=True):
    """Answer to `organizations.get_usage`."""

    plan: str
    plan_display_name: str = ""
    limits: PlanLimits = PlanLimits()
    usage: Usage = Usage()
    warnings: list[UsageWarning] = []
