"""Complete, fail and heartbeat: what a lease allows (contract section 3.7, lifecycle sections 3 and 4)."""

from __future__ import annotations

import random

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import (
    counting,
    deliveries,
    dependencies,
    events,
    history,
    webhooks,
    workflows,
)
from spooled_contrib.server._rules.statuses import DEADLETTER, PENDING, PROCESSING, TERMINAL
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import SECOND, text

# The whole fence in one condition. Strictly later than now: at the exact instant of expiry the lease is no longer its
# holder's.
_FENCE = (
    "id = ? AND organization_id = ? AND status = 'processing' AND assigned_worker_id = ? AND lease_id = ? "
    "AND lease_expires_at > ?"
)


def backoff_seconds(retry_count: int) -> int:
    """Return how long a job waits after a reported failure, before jitter, by its retry count before that failure."""
    return min(1 << min(retry_count, 6), 60)


def explain_miss(
    row: tuple[str, str | None, str | None, int | None] | None, worker_id: str, lease_id: str, now: int
) -> refuse.RefusalError:
    """Return why an ack did not match, in the contract's order.

    Args:
        row: status, assigned worker, lease id and lease expiry of the job; None when unknown, foreign or out of scope.
    """
    if row is None or row[1] != worker_id:
        return refuse.not_found()
    status, _, current_lease, expires_at = row
    if status == PROCESSING:
        if expires_at is None or expires_at <= now:
            return refuse.lease_expired("The lease has expired")
        if current_lease != lease_id:
            return refuse.lease_expired("The lease_id does not match the job's current lease")
        # Nothing is wrong with it; only a change between two statements leads here.
        return refuse.lease_expired("The lease changed meanwhile")
    if status in TERMINAL:
        return refuse.conflict(f"Job is already {status}")
    return refuse.lease_expired(f"The job is {status} again; its lease has ended")


def complete(
    tx: Tx, principal: Principal, job_id: str, worker_id: str, lease_id: str, result: str | None
) -> None:
    """Settle a job as done. Assignment and lease stay on the row, which is how a second ack is recognised."""
    organization_id = principal.organization_id
    now = tx.now
    scope, names = principal.queue_condition()
    rows = tx.change(
        f"UPDATE jobs SET status = 'completed', result = ?, completed_at = ?, updated_at = ? WHERE {_FENCE}{scope} "  # noqa: S608
        "RETURNING queue_name, started_at, has_dependents, workflow_id, completion_webhook, completion_webhook_secret",
        (result, now, now, job_id, organization_id, worker_id, lease_id, now, *names),
    )
    if not rows:
        raise _miss(tx, principal, job_id, worker_id, lease_id)
    queue_name, started_at, has_dependents, workflow_id, url, secret = rows[0]
    history.record(tx, job_id, "completed", worker_id, {"organization_id": organization_id})
    tx.tally(
        "UPDATE workers SET jobs_processed = jobs_processed + ? WHERE id = ? AND organization_id = ?",
        1,
        (worker_id, organization_id),
    )
    # The row says whether there is anything more to do, so that a job by itself costs no further statement.
    if workflow_id is not None:
        workflows.job_completed(tx, workflow_id)
    if has_dependents:
        dependencies.job_completed(tx, job_id)
    counting.completed(tx, started_at)
    events.job_completed(tx, organization_id, queue_name, job_id, started_at, result)
    data = {
        "job_id": job_id,
        "queue_name": queue_name,
        "status": "completed",
        "result": deliveries.result_json(result),
    }
    webhooks.emit(tx, organization_id, webhooks.JOB_COMPLETED, data)
    if url is not None:
        deliveries.enqueue(tx, organization_id, webhooks.JOB_COMPLETED, (data,), url=url, secret=secret)


def fail(tx: Tx, principal: Principal, job_id: str, worker_id: str, lease_id: str, error: str) -> None:
    """Report a failed execution: another try after a back-off, or the dead-letter queue when none is left."""
    organization_id = principal.organization_id
    now = tx.now
    scope, names = principal.queue_condition()
    fence = (job_id, organization_id, worker_id, lease_id, now, *names)
    row = tx.select_one(
        "SELECT queue_name, retry_count, max_retries, completion_webhook, completion_webhook_secret FROM jobs "  # noqa: S608
        f"WHERE {_FENCE}{scope}",
        fence,
    )
    if row is None:
        raise _miss(tx, principal, job_id, worker_id, lease_id)
    queue_name, retry_count, max_retries, url, secret = row
    if retry_count < max_retries:
        # Up to half a second of jitter keeps jobs that failed together from coming back together.
        next_run = now + backoff_seconds(retry_count) * SECOND + random.randrange(500) * 1000  # noqa: S311
        status, retry_count, event = PENDING, retry_count + 1, "retry_scheduled"
        details = {"retry_count": retry_count, "next_run": text(next_run)}
    else:
        next_run = None
        status, event = DEADLETTER, "deadlettered"
        details = {"total_retries": retry_count}
    changed = tx.execute(
        "UPDATE jobs SET status = ?, ready = 0, retry_count = ?, last_error = ?, updated_at = ?, "  # noqa: S608
        "scheduled_at = COALESCE(?, scheduled_at), assigned_worker_id = NULL, lease_id = NULL, "
        f"lease_expires_at = NULL WHERE {_FENCE}{scope}",
        (status, retry_count, error, now, next_run, *fence),
    )
    if not changed:
        raise _miss(tx, principal, job_id, worker_id, lease_id)
    history.record(
        tx, job_id, event, worker_id, {"organization_id": organization_id, "error": error, **details}
    )
    tx.tally(
        "UPDATE workers SET jobs_failed = jobs_failed + ? WHERE id = ? AND organization_id = ?",
        1,
        (worker_id, organization_id),
    )
    counting.count(tx, counting.FAILED)
    counting.count(tx, counting.RETRIED if status == PENDING else counting.DEADLETTERED)
    events.status_changed(tx, organization_id, queue_name, job_id, PROCESSING, status)
    events.job_failed(tx, organization_id, queue_name, job_id, error, retry_count)
    if status == DEADLETTER:
        data = webhooks.job_died(tx, organization_id, queue_name, job_id, error)
        if url is not None:
            deliveries.enqueue(tx, organization_id, webhooks.JOB_FAILED, (data,), url=url, secret=secret)


def heartbeat(
    tx: Tx, principal: Principal, job_id: str, worker_id: str, lease_id: str, lease_seconds: int
) -> None:
    """Let the lease end `lease_seconds` from now: counted from now, not from its present end, so it can get shorter."""
    now = tx.now
    scope, names = principal.queue_condition()
    changed = tx.execute(
        f"UPDATE jobs SET lease_expires_at = ?, updated_at = ? WHERE {_FENCE}{scope}",  # noqa: S608
        (
            now + lease_seconds * SECOND,
            now,
            job_id,
            principal.organization_id,
            worker_id,
            lease_id,
            now,
            *names,
        ),
    )
    if not changed:
        raise _miss(tx, principal, job_id, worker_id, lease_id)


def _miss(tx: Tx, principal: Principal, job_id: str, worker_id: str, lease_id: str) -> refuse.RefusalError:
    scope, names = principal.queue_condition()
    row = tx.select_one(
        "SELECT status, assigned_worker_id, lease_id, lease_expires_at FROM jobs "  # noqa: S608
        f"WHERE id = ? AND organization_id = ?{scope}",
        (job_id, principal.organization_id, *names),
    )
    found = None if row is None else (row[0], row[1], row[2], row[3])
    return explain_miss(found, worker_id, lease_id, tx.now)
