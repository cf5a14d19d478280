"""Workflows: jobs that were made together and end together (contract section 7, lifecycle section 13).

A workflow is looked at when one of its jobs is completed, and by a sweep that finds those of which no job can run any
more. That a job died or was cancelled is only noticed there.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import events
from spooled_contrib.server._rules.reading import JOB_COLUMNS
from spooled_contrib.server._storage import Row, Tx

PENDING = "pending"
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
ALL = (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)

COLUMNS = (
    "id, organization_id, name, description, status, total_jobs, completed_jobs, failed_jobs, created_at, started_at, "
    "completed_at, metadata"
)

WORKFLOWS_PER_SWEEP = 1000


class Count(Struct, frozen=True):
    """How many jobs of a workflow are in which kind of state. `failed` are dead letters too."""

    active: int
    completed: int
    failed: int


def after_completion(count: Count) -> str:
    """The status after a job was completed. Cancelled jobs do not matter."""
    if count.active:
        return RUNNING
    return FAILED if count.failed else COMPLETED


def when_nothing_runs(count: Count, total: int) -> str:
    """The status of a workflow that the sweep finds with nothing left to run. What was deleted counts as cancelled."""
    if count.failed:
        return FAILED
    return COMPLETED if count.completed == total else CANCELLED


def job_completed(tx: Tx, workflow_id: str) -> None:
    """Bring a workflow up to date in the transaction that completed one of its jobs. One that has ended stays."""
    # Two jobs that are completed at once must not each take the other for unfinished: whoever changes the workflow
    # first is waited for, and seen by the count below.
    live = tx.execute(
        "UPDATE workflows SET updated_at = ? WHERE id = ? AND status IN ('pending', 'running')",
        (tx.now, workflow_id),
    )
    if live:
        count = count_jobs(tx, workflow_id)
        _conclude(tx, workflow_id, after_completion(count), count)


def job_revived(tx: Tx, workflow_id: str) -> None:
    """A dead job of it was given another chance: a workflow that failed runs again."""
    tx.execute(
        "UPDATE workflows SET status = 'running', completed_at = NULL WHERE id = ? AND status = 'failed'",
        (workflow_id,),
    )
    recount(tx, workflow_id)


def recount(tx: Tx, workflow_id: str) -> None:
    """Write down how many of its jobs are completed and dead."""
    count = count_jobs(tx, workflow_id)
    tx.execute(
        "UPDATE workflows SET completed_jobs = ?, failed_jobs = ?, updated_at = ? WHERE id = ?",
        (count.completed, count.failed, tx.now, workflow_id),
    )


def count_jobs(tx: Tx, workflow_id: str) -> Count:
    row = tx.select_one(
        "SELECT COALESCE(SUM(CASE WHEN status IN ('pending', 'scheduled', 'processing') THEN 1 ELSE 0 END), 0), "
        "COALESCE(SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END), 0), "
        "COALESCE(SUM(CASE WHEN status IN ('failed', 'deadletter') THEN 1 ELSE 0 END), 0) "
        "FROM jobs WHERE workflow_id = ?",
        (workflow_id,),
    )
    assert row is not None
    return Count(*map(int, row))


def sweep(tx: Tx) -> int:
    """End the workflows of which nothing is left to run; how many."""
    rows = tx.select(
        "SELECT w.id, w.total_jobs FROM workflows w WHERE w.status IN ('pending', 'running') AND NOT EXISTS ("
        "SELECT 1 FROM jobs j WHERE j.workflow_id = w.id AND j.status IN ('pending', 'scheduled', 'processing')) "
        "LIMIT ?",
        (WORKFLOWS_PER_SWEEP,),
    )
    for workflow_id, total in rows:
        count = count_jobs(tx, workflow_id)
        # A job of it may have been revived since the search.
        if not count.active:
            _conclude(tx, workflow_id, when_nothing_runs(count, total), count)
    return len(rows)


def delete_old_workflows(tx: Tx, whose: str, params: Sequence[str], before: int, limit: int) -> int:
    """Workflows that ended before a time, of the organizations that a condition names; how many."""
    return tx.execute(
        "DELETE FROM workflows WHERE seq IN (SELECT seq FROM workflows WHERE completed_at IS NOT NULL "  # noqa: S608
        f"AND completed_at < ? AND status IN ('completed', 'failed', 'cancelled') AND {whose} "
        "ORDER BY completed_at LIMIT ?)",
        (before, *params, limit),
    )


def get(tx: Tx, principal: Principal, workflow_id: str) -> Row:
    """Its `COLUMNS`; 404 when it is unknown, foreign or out of scope."""
    scope, names = _scope(principal)
    row = tx.select_one(
        f"SELECT {COLUMNS} FROM workflows WHERE id = ? AND organization_id = ?{scope}",  # noqa: S608
        (workflow_id, principal.organization_id, *names),
    )
    if row is None:
        raise refuse.not_found()
    return row


def list_workflows(tx: Tx, principal: Principal, *, status: str | None, limit: int, offset: int) -> list[Row]:
    """`COLUMNS` of each, the newest first."""
    where, names = _scope(principal)
    params: list[object] = [principal.organization_id, *names]
    if status is not None:
        where += " AND status = ?"
        params.append(status)
    return tx.select(
        f"SELECT {COLUMNS} FROM workflows WHERE organization_id = ?{where} "  # noqa: S608
        "ORDER BY seq DESC LIMIT ? OFFSET ?",
        (*params, limit, offset),
    )


def jobs_of(tx: Tx, workflow_id: str) -> list[Row]:
    """`reading.JOB_COLUMNS` of each, in the order in which they were asked for."""
    return tx.select(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE workflow_id = ? ORDER BY seq",  # noqa: S608
        (workflow_id,),
    )


def edges_of(tx: Tx, workflow_id: str) -> list[Row]:
    """Parent, child and the child's mode for everything that a job of the workflow waits or waited for."""
    return tx.select(
        "SELECT d.parent_job_id, d.child_job_id, j.dependency_mode FROM jobs j "
        "JOIN job_dependencies d ON d.child_job_id = j.id JOIN jobs p ON p.id = d.parent_job_id "
        "WHERE j.workflow_id = ? ORDER BY j.seq, p.seq",
        (workflow_id,),
    )


def _conclude(tx: Tx, workflow_id: str, status: str, count: Count) -> None:
    ended = status != RUNNING
    changed = tx.change(
        "UPDATE workflows SET status = ?, completed_jobs = ?, failed_jobs = ?, completed_at = ?, updated_at = ? "
        "WHERE id = ? AND status IN ('pending', 'running') RETURNING organization_id",
        (status, count.completed, count.failed, tx.now if ended else None, tx.now, workflow_id),
    )
    if changed and status in (COMPLETED, FAILED):
        events.workflow_ended(tx, changed[0][0], workflow_id, status)


def _scope(principal: Principal) -> tuple[str, list[object]]:
    """A condition for keys that are limited to queues: they see a workflow that is in those queues and in no other."""
    if principal.queues is None:
        return "", []
    names = sorted(principal.queues)
    marks = ", ".join("?" * len(names))
    inside = "EXISTS (SELECT 1 FROM jobs j WHERE j.workflow_id = workflows.id)"
    outside = (
        f"EXISTS (SELECT 1 FROM jobs j WHERE j.workflow_id = workflows.id AND j.queue_name NOT IN ({marks}))"  # noqa: S608
    )
    return f" AND {inside} AND NOT {outside}", list(names)
