"""What time does to jobs and workers (lifecycle sections 1, 8, 10, 14 and 15).

Each sweep is one indexed search that finds nothing most of the time.
"""

from __future__ import annotations

from spooled_contrib.server._rules import counting, deletion, events, history, webhooks
from spooled_contrib.server._rules.statuses import DEADLETTER, PENDING
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import SECOND

WORKER_SILENCE = 120 * SECOND
"""A healthy or degraded worker is taken for dead when its last heartbeat is older than this."""

DOWNTIME_GRACE = 30 * SECOND
"""How long leases last at least from a start, because no server was there to renew them before."""

ROWS_PER_SWEEP = 1000
"""Rows that one sweep takes at most, so that requests need not wait long for it. A sweep that reached it goes on."""


def after_lost_lease(retry_count: int, max_retries: int) -> tuple[str, int, str]:
    """Status, retry count and last error of a job whose lease ran out. There is no back-off."""
    if retry_count < max_retries:
        return PENDING, retry_count + 1, "Lease expired (worker timeout)"
    return DEADLETTER, retry_count, "Max retries exceeded after lease expiration"


def activate_scheduled(tx: Tx) -> int:
    """Cosmetic: the claim takes due jobs whether or not they were renamed to pending."""
    due = "SELECT seq FROM jobs WHERE status = 'scheduled' AND scheduled_at <= ?" + tx.dialect.skip_locked  # noqa: S608
    chosen = tx.dialect.any_of.format(column="seq", select=due)
    return tx.execute(
        f"UPDATE jobs SET status = 'pending', updated_at = ? WHERE {chosen}",  # noqa: S608
        (tx.now, tx.now),
    )


def forgive_downtime(tx: Tx) -> int:
    """At a server's start: give workers that could reach no server the time to say that they are still there.

    Without this, the jobs of every worker that was busy during an outage longer than its leases would run twice.
    """
    until = tx.now + DOWNTIME_GRACE
    return tx.execute(
        "UPDATE jobs SET lease_expires_at = ? WHERE status = 'processing' AND lease_expires_at < ?",
        (until, until),
    )


def recover_leases(tx: Tx) -> int:
    """Take jobs back whose lease ended, the instant of its end included.

    A job that is being acked or whose lease is being extended at this moment is left alone: what that comes to decides.
    """
    rows = tx.select(
        "SELECT id, organization_id, queue_name, retry_count, max_retries, assigned_worker_id, lease_id FROM jobs "  # noqa: S608
        "WHERE status = 'processing' AND lease_expires_at <= ? ORDER BY lease_expires_at LIMIT ?"
        f"{tx.dialect.skip_locked}",
        (tx.now, ROWS_PER_SWEEP),
    )
    for job_id, organization_id, queue_name, retry_count, max_retries, worker_id, lease_id in rows:
        status, retries, error = after_lost_lease(retry_count, max_retries)
        tx.execute(
            "UPDATE jobs SET status = ?, ready = 0, retry_count = ?, last_error = ?, assigned_worker_id = NULL, "
            "lease_id = NULL, lease_expires_at = NULL, updated_at = ? WHERE id = ?",
            (status, retries, error, tx.now, job_id),
        )
        event = "lease_expired" if status == PENDING else "deadlettered"
        details = {
            "organization_id": organization_id,
            "error": error,
            "lease_id": lease_id,
            "retry_count": retries,
        }
        history.record(tx, job_id, event, worker_id, details)
        counting.count(tx, counting.RETRIED if status == PENDING else counting.DEADLETTERED)
        events.touched(tx, organization_id, queue_name, job_id)
        if status == DEADLETTER:
            webhooks.job_died(tx, organization_id, queue_name, job_id, error)
    return len(rows)


def retire_silent_workers(tx: Tx) -> int:
    """Their jobs stay leased until the lease ends: a live lease is never taken away."""
    return tx.execute(
        "UPDATE workers SET status = 'offline', updated_at = ? "
        "WHERE status IN ('healthy', 'degraded') AND last_heartbeat < ?",
        (tx.now, tx.now - WORKER_SILENCE),
    )


def delete_expired_jobs(tx: Tx) -> int:
    """Jobs past `expires_at` that nobody runs or finished are deleted, not cancelled."""
    return deletion.delete_jobs(
        tx,
        "expires_at IS NOT NULL AND expires_at <= ? AND status IN ('pending', 'scheduled', 'failed', 'deadletter')",
        (tx.now,),
        limit=ROWS_PER_SWEEP,
        patient=True,
    )


def forget_ended_sessions(tx: Tx) -> int:
    """A revoked login need not be remembered once its refresh token would have expired."""
    return tx.execute("DELETE FROM revoked_sessions WHERE expires_at <= ?", (tx.now,))


def run_frequent(tx: Tx) -> int:
    """Everything that only looks at rows whose time has come; the most rows that one of the sweeps took."""
    return max(activate_scheduled(tx), recover_leases(tx), retire_silent_workers(tx), delete_expired_jobs(tx))
