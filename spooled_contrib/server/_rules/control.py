"""What clients may change about a job (contract section 3.6)."""

from __future__ import annotations

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import counting, events, history, webhooks, workflows
from spooled_contrib.server._rules.reading import get_job
from spooled_contrib.server._rules.statuses import CANCELLED, PENDING, REVIVABLE, WAITING
from spooled_contrib.server._storage import Row, Tx


def cancel(tx: Tx, principal: Principal, job_id: str) -> None:
    """Cancel a job that no worker holds. A running one cannot be stopped: 409."""
    queue_name, status = _hold(tx, principal, job_id)
    if status not in WAITING:
        raise refuse.conflict(f"Job is {status}; only pending and scheduled jobs can be cancelled")
    tx.execute(
        "UPDATE jobs SET status = 'cancelled', ready = 0, completed_at = ?, updated_at = ? WHERE id = ?",
        (tx.now, tx.now, job_id),
    )
    history.record(tx, job_id, "cancelled", None, {"organization_id": principal.organization_id})
    events.status_changed(tx, principal.organization_id, queue_name, job_id, status, CANCELLED)
    webhooks.emit(
        tx,
        principal.organization_id,
        webhooks.JOB_CANCELLED,
        {"job_id": job_id, "queue_name": queue_name, "status": CANCELLED, "old_status": status},
    )


def retry(tx: Tx, principal: Principal, job_id: str) -> Row:
    """Give a dead job all its tries back; the row after that, as `reading.JOB_COLUMNS`."""
    queue_name, status = _hold(tx, principal, job_id)
    if status not in REVIVABLE:
        raise refuse.conflict(f"Job is {status}; only failed and deadletter jobs can be retried")
    revive(tx, principal.organization_id, queue_name, job_id, status)
    events.status_changed(tx, principal.organization_id, queue_name, job_id, status, PENDING)
    return get_job(tx, principal, job_id)


def revive(tx: Tx, organization_id: str, queue_name: str, job_id: str, old_status: str) -> None:
    """`scheduled_at`, `started_at` and `result` stay as they were."""
    rows = tx.change(
        "UPDATE jobs SET status = 'pending', ready = 0, retry_count = 0, last_error = NULL, updated_at = ? "
        "WHERE id = ? RETURNING workflow_id",
        (tx.now, job_id),
    )
    if rows[0][0] is not None:
        workflows.job_revived(tx, rows[0][0])
    history.record(tx, job_id, "retried", None, {"organization_id": organization_id})
    counting.count(tx, counting.RETRIED)
    webhooks.emit(
        tx,
        organization_id,
        webhooks.JOB_RETRIED,
        {"job_id": job_id, "queue_name": queue_name, "status": PENDING, "old_status": old_status},
    )


def set_priority(tx: Tx, principal: Principal, job_id: str, priority: int) -> int:
    """Set the priority of a job that waits; the one it had. 404 also for a job that does not wait."""
    _, status = _hold(tx, principal, job_id)
    if status not in WAITING:
        raise refuse.not_found()
    row = tx.select_one("SELECT priority FROM jobs WHERE id = ?", (job_id,))
    assert row is not None
    tx.execute("UPDATE jobs SET priority = ?, updated_at = ? WHERE id = ?", (priority, tx.now, job_id))
    return int(row[0])


def _hold(tx: Tx, principal: Principal, job_id: str) -> tuple[str, str]:
    """Queue and status of a job that the caller may see. Nobody claims or acks it before the operation ends."""
    scope, names = principal.queue_condition()
    row = tx.select_one(
        f"SELECT queue_name, status FROM jobs WHERE id = ? AND organization_id = ?{scope}{tx.dialect.for_update}",  # noqa: S608
        (job_id, principal.organization_id, *names),
    )
    if row is None:
        raise refuse.not_found()
    return row[0], row[1]
