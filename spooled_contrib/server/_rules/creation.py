"""Making jobs (contract sections 3.2 and 3.3, lifecycle sections 1 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._ids import new_id
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import counting, events, history, quotas, webhooks
from spooled_contrib.server._rules.statuses import COMPLETED, PENDING, SCHEDULED
from spooled_contrib.server._storage import Tx

DEFAULT_MAX_RETRIES = 3
DEFAULT_TIMEOUT_SECONDS = 300


class NewJob(Struct, kw_only=True):
    """A job to be made, already checked field by field. JSON members are text; None means "use the default"."""

    queue_name: str
    payload: str
    job_type: str
    priority: int = 0
    max_retries: int | None = None
    timeout_seconds: int | None = None
    scheduled_at: int | None = None
    expires_at: int | None = None
    idempotency_key: str | None = None
    tags: str | None = None
    parent_job_id: str | None = None
    completion_webhook: str | None = None
    completion_webhook_secret: str | None = None
    workflow_id: str | None = None
    dependency_mode: str = "all"
    waits: bool = False
    """Gated from birth; whoever makes the job adds the edges."""


class CreatedJob(Struct, frozen=True):
    """`created` is False when the idempotency key named a job that exists; then `id` is that job's."""

    id: str
    created: bool


_COLUMNS = (
    "id, organization_id, queue_name, status, ready, payload, job_type, priority, retry_count, max_retries, "
    "timeout_seconds, created_at, updated_at, scheduled_at, expires_at, tags, parent_job_id, completion_webhook, "
    "completion_webhook_secret, idempotency_key, workflow_id, dependency_mode, dependencies_met"
)
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, {', '.join('?' * 14)})"  # noqa: S608
# One statement decides between "new" and "known", so that two equal keys cannot both be new. The existing row keeps
# everything but its updated_at.
_INSERT_OR_FIND = (
    _INSERT + " ON CONFLICT (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL "
    "DO UPDATE SET updated_at = excluded.updated_at RETURNING id"
)


def status_at_birth(scheduled_at: int | None, now: int) -> str:
    """`scheduled` only for a time strictly in the future."""
    return SCHEDULED if scheduled_at is not None and scheduled_at > now else PENDING


def create_jobs(
    tx: Tx,
    principal: Principal,
    limits: Limits,
    jobs: Sequence[NewJob],
    *,
    source: str | None = None,
    queue_cap: bool = True,
) -> list[CreatedJob]:
    """Make jobs that all go to the same queue. All or nothing.

    Checks in the contract's order: scope, payload size, daily and active quota, queue cap, parent.

    Args:
        source: Where they come from when not from a client, for webhooks: `cron`, `incoming_webhook`, ...
        queue_cap: Whether a queue that they bring into being counts against the plan.
    """
    organization_id = principal.organization_id
    queue_name = jobs[0].queue_name
    principal.require_queue(queue_name)
    for job in jobs:
        # Without a limit this is one comparison; a plan counts bytes, not characters.
        if limits.payload_bytes is not None:
            quotas.check_payload(len(job.payload.encode()), limits)
    quotas.check_new_jobs(tx, organization_id, limits, len(jobs))
    if queue_cap:
        quotas.check_queue(tx, organization_id, limits, queue_name)
    return insert_jobs(
        tx, organization_id, limits, jobs, events.Origin(source=source) if source else events.CLIENT
    )


def insert_jobs(
    tx: Tx,
    organization_id: str,
    limits: Limits,
    jobs: Sequence[NewJob],
    origin: events.Origin = events.CLIENT,
) -> list[CreatedJob]:
    """Make jobs, of any queues, of which scope and quotas were checked."""
    queues = {job.queue_name for job in jobs}
    defaults = {name: queue_defaults(tx, organization_id, name) for name in queues}
    if any(job.idempotency_key is not None or job.parent_job_id is not None for job in jobs):
        created = [_create(tx, organization_id, job, *defaults[job.queue_name]) for job in jobs]
    else:
        rows = [_row(tx.now, organization_id, job, *defaults[job.queue_name], gated=False) for job in jobs]
        tx.execute_many(_INSERT, rows)
        created = [CreatedJob(str(row[0]), True) for row in rows]
    new = [(made, job) for made, job in zip(created, jobs, strict=True) if made.created]
    quotas.count_jobs_today(tx, organization_id, limits, len(new))
    details = {name: {"organization_id": organization_id, "queue_name": name} for name in queues}
    history.record_many(tx, "created", [(made.id, None, details[job.queue_name]) for made, job in new])
    for made, job in new:
        events.job_created(tx, organization_id, job.queue_name, made.id, job.priority)
    if new:
        counting.count(tx, counting.ENQUEUED, len(new))
        webhooks.emit_each(
            tx,
            organization_id,
            webhooks.JOB_CREATED,
            (created_data(made.id, job, tx.now, origin) for made, job in new),
        )
    return created


def created_data(job_id: str, job: NewJob, now: int, origin: events.Origin) -> dict[str, Any]:
    """Return what webhooks are told about a new job."""
    data: dict[str, Any] = {
        "job_id": job_id,
        "queue_name": job.queue_name,
        "priority": job.priority,
        "status": status_at_birth(job.scheduled_at, now),
    }
    for name in ("source", "schedule_id", "workflow_id"):
        value = getattr(origin, name)
        if value is not None:
            data[name] = value
    return data


def queue_defaults(tx: Tx, organization_id: str, queue_name: str) -> tuple[int, int]:
    """`max_retries` and `timeout_seconds` of a job that does not say."""
    row = tx.select_one(
        "SELECT max_retries, default_timeout FROM queue_config WHERE organization_id = ? AND queue_name = ?",
        (organization_id, queue_name),
    )
    return (row[0], row[1]) if row is not None else (DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_SECONDS)


def _create(tx: Tx, organization_id: str, job: NewJob, max_retries: int, timeout: int) -> CreatedJob:
    gated = job.parent_job_id is not None and _parent_is_open(tx, organization_id, job)
    params = _row(tx.now, organization_id, job, max_retries, timeout, gated=gated)
    job_id = str(params[0])
    if job.idempotency_key is None:
        tx.execute(_INSERT, params)
    else:
        found = tx.change(_INSERT_OR_FIND, params)[0][0]
        if found != job_id:
            return CreatedJob(found, False)
    if gated:
        tx.execute(
            "INSERT INTO job_dependencies (child_job_id, parent_job_id) VALUES (?, ?)",
            (job_id, job.parent_job_id),
        )
        tx.execute("UPDATE jobs SET has_dependents = 1 WHERE id = ?", (job.parent_job_id,))
    return CreatedJob(job_id, True)


def _row(
    now: int, organization_id: str, job: NewJob, max_retries: int, timeout: int, *, gated: bool
) -> tuple[object, ...]:
    """Return the values of `_COLUMNS`; the first is the new id."""
    status = status_at_birth(job.scheduled_at, now)
    return (
        new_id(),
        organization_id,
        job.queue_name,
        status,
        int(status == PENDING and not gated and not job.waits),
        job.payload,
        job.job_type,
        job.priority,
        max_retries if job.max_retries is None else job.max_retries,
        timeout if job.timeout_seconds is None else job.timeout_seconds,
        now,
        now,
        job.scheduled_at,
        job.expires_at,
        job.tags,
        job.parent_job_id,
        job.completion_webhook,
        job.completion_webhook_secret,
        job.idempotency_key,
        job.workflow_id,
        job.dependency_mode,
        int(not gated and not job.waits),
    )


def _parent_is_open(tx: Tx, organization_id: str, job: NewJob) -> bool:
    # Held, so that it cannot complete between being looked at and being told that somebody waits for it.
    row = tx.select_one(
        f"SELECT queue_name, status FROM jobs WHERE id = ? AND organization_id = ?{tx.dialect.for_update}",  # noqa: S608
        (job.parent_job_id, organization_id),
    )
    if row is None or row[0] != job.queue_name:
        raise refuse.invalid("parent_job_id", f"must name a job in the queue {job.queue_name!r}")
    return bool(row[1] != COMPLETED)
