"""What clients may do to a workflow (contract section 7, lifecycle section 13)."""

from __future__ import annotations

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import (
    counting,
    dependencies,
    events,
    history,
    quotas,
    statuses,
    webhooks,
    workflows,
)
from spooled_contrib.server._storage import Row, Tx


def cancel(tx: Tx, principal: Principal, workflow_id: str) -> Row:
    """Cancel it, whatever its state, with its jobs that wait. Jobs that run go on, and may be completed."""
    workflows.get(tx, principal, workflow_id)
    tx.execute(
        "UPDATE workflows SET status = 'cancelled', completed_at = ? WHERE id = ?", (tx.now, workflow_id)
    )
    for job_id, queue_name, status in tx.select(
        "SELECT id, queue_name, status FROM jobs WHERE workflow_id = ? AND status IN ('pending', 'scheduled') "
        "ORDER BY seq",
        (workflow_id,),
    ):
        changed = tx.execute(
            "UPDATE jobs SET status = 'cancelled', ready = 0, completed_at = ?, updated_at = ? "
            "WHERE id = ? AND status IN ('pending', 'scheduled')",
            (tx.now, tx.now, job_id),
        )
        if changed:
            history.record(tx, job_id, "cancelled", None, {"organization_id": principal.organization_id})
            events.status_changed(
                tx, principal.organization_id, queue_name, job_id, status, statuses.CANCELLED
            )
            data = {
                "job_id": job_id,
                "queue_name": queue_name,
                "status": statuses.CANCELLED,
                "old_status": status,
            }
            webhooks.emit(tx, principal.organization_id, webhooks.JOB_CANCELLED, data)
    workflows.recount(tx, workflow_id)
    return workflows.get(tx, principal, workflow_id)


def retry(tx: Tx, principal: Principal, limits: Limits, workflow_id: str) -> Row:
    """Run a failed one again: every job of it that did not make it gets all its tries back, and waits again.

    Raises:
        RefusalError: 404; 400 unless it has failed; 429 when the plan has no room for it and its jobs.
    """
    status = workflows.get(tx, principal, workflow_id)[4]
    if status != workflows.FAILED:
        raise refuse.bad_request(f"The workflow is {status}; only failed workflows can be retried")
    organization_id = principal.organization_id
    lost = tx.select(
        "SELECT id, queue_name, status, dependency_mode FROM jobs WHERE workflow_id = ? "
        "AND status IN ('failed', 'deadletter', 'cancelled') ORDER BY seq",
        (workflow_id,),
    )
    quotas.check_new_jobs(tx, organization_id, limits, len(lost))
    quotas.check_workflow(tx, organization_id, limits)
    tx.execute("UPDATE workflows SET status = 'running', completed_at = NULL WHERE id = ?", (workflow_id,))
    tx.execute_many(
        "UPDATE jobs SET status = 'pending', ready = 0, retry_count = 0, last_error = NULL, started_at = NULL, "
        "completed_at = NULL, updated_at = ? WHERE id = ?",
        [(tx.now, job[0]) for job in lost],
    )
    # Only now, when all of them are pending again, can it be said which ones wait.
    for job_id, queue_name, old_status, mode in lost:
        met = dependencies.is_met(mode, [row[2] for row in dependencies.dependencies_of(tx, job_id)])
        tx.execute("UPDATE jobs SET dependencies_met = ? WHERE id = ?", (int(met), job_id))
        history.record(tx, job_id, "retried", None, {"organization_id": organization_id})
        events.status_changed(tx, organization_id, queue_name, job_id, old_status, statuses.PENDING)
        counting.count(tx, counting.RETRIED)
        data = {
            "job_id": job_id,
            "queue_name": queue_name,
            "status": statuses.PENDING,
            "old_status": old_status,
        }
        webhooks.emit(tx, organization_id, webhooks.JOB_RETRIED, data)
    workflows.recount(tx, workflow_id)
    return workflows.get(tx, principal, workflow_id)
