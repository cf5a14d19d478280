"""Jobs that wait for other jobs (contract section 3.6, lifecycle section 13)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import events, history, webhooks
from spooled_contrib.server._rules.statuses import CANCELLED, COMPLETED, NEVER_COMPLETES
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import SECOND

OPEN = "open"
PARENT_LOST = "Parent job failed or was deadlettered"
DEPENDENCY_LOST = "Dependency job failed or was deadlettered"

LEVELS_PER_SWEEP = 10
"""How many generations of descendants one sweep cancels."""

_ORPHANED_AFTER = 3600 * SECOND


def is_met(mode: str, dependency_statuses: Sequence[str]) -> bool:
    """Return whether a job may run: it waits for nothing, for any one, or for all of its dependencies."""
    if not dependency_statuses:
        return True
    completed = [status == COMPLETED for status in dependency_statuses]
    return any(completed) if mode == "any" else all(completed)


def is_hopeless(mode: str, dependency_statuses: Sequence[str]) -> bool:
    """Return whether an unmet job can never run: one of all has failed, or none of any can still complete."""
    if not dependency_statuses:
        return False
    lost = [status in NEVER_COMPLETES for status in dependency_statuses]
    return all(lost) if mode == "any" else any(lost)


def job_completed(tx: Tx, parent_job_id: str) -> None:
    """Evaluate every job that waits for this one, in the transaction that completed it."""
    children = tx.select(
        "SELECT j.id FROM job_dependencies d JOIN jobs j ON j.id = d.child_job_id "
        "WHERE d.parent_job_id = ? AND j.dependencies_met = 0 ORDER BY j.id",
        (parent_job_id,),
    )
    for (child,) in children:
        # Held before the others are looked at: two dependencies that complete at the same time would each find the
        # other one unfinished, and the child would wait for the sweep.
        mode = _hold_gated(tx, child)
        if mode is not None and is_met(mode, [row[2] for row in dependencies_of(tx, child)]):
            _open(tx, child)


def add(tx: Tx, principal: Principal, job_id: str, depends_on: Sequence[str], mode: str) -> tuple[int, bool]:
    """Make a job wait for others.

    Edges to itself and edges that would close a circle are skipped, known ones are not counted again.

    Returns:
        How many edges are new, and whether the job may run now.

    Raises:
        RefusalError: 404 when the job or one of the dependencies is unknown.
    """
    # Two edges that are added at the same time could close a circle that neither of them sees.
    tx.serialize(f"dependencies:{principal.organization_id}")
    wanted = list(dict.fromkeys(depends_on))
    # In the order in which completions hold them: first what is waited for, then who waits.
    for dependency in sorted({*wanted} - {job_id}):
        _visible(tx, principal, dependency)
    _visible(tx, principal, job_id)
    added = 0
    for dependency in wanted:
        if dependency == job_id or _reaches(tx, dependency, job_id):
            continue
        added += tx.execute(
            "INSERT INTO job_dependencies (child_job_id, parent_job_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (job_id, dependency),
        )
        tx.execute("UPDATE jobs SET has_dependents = 1 WHERE id = ?", (dependency,))
    met = is_met(mode, [row[2] for row in dependencies_of(tx, job_id)])
    tx.execute(
        "UPDATE jobs SET dependency_mode = ?, dependencies_met = ?, ready = 0, updated_at = ? WHERE id = ?",
        (mode, int(met), tx.now, job_id),
    )
    return added, met


def dependencies_of(tx: Tx, job_id: str) -> list[Row]:
    """Id, queue and status of each job that this one waits for."""
    return tx.select(
        "SELECT j.id, j.queue_name, j.status FROM job_dependencies d JOIN jobs j ON j.id = d.parent_job_id "
        "WHERE d.child_job_id = ? ORDER BY j.seq",
        (job_id,),
    )


def dependents_of(tx: Tx, job_id: str) -> list[Row]:
    """Id, queue and status of each job that waits for this one."""
    return tx.select(
        "SELECT j.id, j.queue_name, j.status FROM job_dependencies d JOIN jobs j ON j.id = d.child_job_id "
        "WHERE d.parent_job_id = ? ORDER BY j.seq",
        (job_id,),
    )


def verdict(mode: str, parent_status: str | None, dependency_statuses: Sequence[str], age: int) -> str | None:
    """Return what the sweep does with a gated job.

    Args:
        mode: `all` or `any`.
        parent_status: Status of the job named by `parent_job_id`; None without one, or when it was deleted.
        dependency_statuses: Status of each job at the other end of an edge.
        age: Microseconds since the job was made.

    Returns:
        "open", a reason to cancel the job, or None to leave it.
    """
    if parent_status in NEVER_COMPLETES:
        return PARENT_LOST
    if is_hopeless(mode, dependency_statuses):
        return DEPENDENCY_LOST
    if dependency_statuses:
        return OPEN if is_met(mode, dependency_statuses) else None
    if parent_status is None:
        # What it waited for was deleted. After an hour nobody will put it back.
        return OPEN if age > _ORPHANED_AFTER else None
    return OPEN if parent_status == COMPLETED else None


def sweep(tx: Tx) -> int:
    """Open what became free, cancel what became hopeless; how many jobs were touched."""
    touched = 0
    for _ in range(LEVELS_PER_SWEEP):
        decided = _sweep_level(tx)
        touched += decided
        if not decided:
            break
    return touched


def _sweep_level(tx: Tx) -> int:
    rows = tx.select(
        "SELECT j.id, j.organization_id, j.queue_name, j.status, j.dependency_mode, j.created_at, pj.status, dj.status "
        "FROM jobs j LEFT JOIN jobs pj ON pj.id = j.parent_job_id "
        "LEFT JOIN job_dependencies d ON d.child_job_id = j.id LEFT JOIN jobs dj ON dj.id = d.parent_job_id "
        # The terms of the partial index, so that only gated jobs are read.
        "WHERE j.dependencies_met = 0 AND j.status IN ('pending', 'scheduled')"
    )
    decided = 0
    for job, statuses in _by_job(rows):
        job_id, organization_id, queue_name, status, mode, created_at, parent_status = job
        decision = verdict(mode, parent_status, statuses, tx.now - created_at)
        if decision is None:
            continue
        decided += 1
        if decision == OPEN:
            _open(tx, job_id)
            continue
        if not tx.execute(
            "UPDATE jobs SET status = 'cancelled', ready = 0, last_error = ?, completed_at = ?, updated_at = ? "
            "WHERE id = ? AND dependencies_met = 0 AND status IN ('pending', 'scheduled')",
            (decision, tx.now, tx.now, job_id),
        ):
            continue  # opened meanwhile, by a completion
        history.record(
            tx, job_id, "cancelled", None, {"organization_id": organization_id, "reason": decision}
        )
        events.status_changed(tx, organization_id, queue_name, job_id, status, CANCELLED)
        webhooks.emit(
            tx,
            organization_id,
            webhooks.JOB_CANCELLED,
            {
                "job_id": job_id,
                "queue_name": queue_name,
                "status": CANCELLED,
                "old_status": status,
                "reason": "parent_failed" if decision == PARENT_LOST else "dependency_failed",
            },
        )
    return decided


def _by_job(rows: Iterable[Row]) -> list[tuple[Row, list[str]]]:
    grouped: dict[str, tuple[Row, list[str]]] = {}
    for row in rows:
        statuses = grouped.setdefault(row[0], (row[:7], []))[1]
        if row[7] is not None:
            statuses.append(row[7])
    return list(grouped.values())


def _open(tx: Tx, job_id: str) -> None:
    # `ready` stays 0: the next claim wakes the job if its time has come.
    tx.execute("UPDATE jobs SET dependencies_met = 1, updated_at = ? WHERE id = ?", (tx.now, job_id))


def _hold_gated(tx: Tx, job_id: str) -> str | None:
    """Return the dependency mode of a job that waits; None when it does not any more."""
    row = tx.select_one(
        f"SELECT dependency_mode FROM jobs WHERE id = ? AND dependencies_met = 0{tx.dialect.for_update}",  # noqa: S608
        (job_id,),
    )
    return None if row is None else str(row[0])


def _visible(tx: Tx, principal: Principal, job_id: str) -> None:
    scope, names = principal.queue_condition()
    if (
        tx.select_one(
            f"SELECT 1 FROM jobs WHERE id = ? AND organization_id = ?{scope}{tx.dialect.for_update}",  # noqa: S608
            (job_id, principal.organization_id, *names),
        )
        is None
    ):
        raise refuse.not_found()


def _reaches(tx: Tx, start: str, target: str) -> bool:
    """Return whether `start` waits, directly or through others, for `target`."""
    row = tx.select_one(
        "WITH RECURSIVE above(id) AS (SELECT id FROM jobs WHERE id = ? "
        "UNION SELECT d.parent_job_id FROM job_dependencies d "
        "JOIN above ON d.child_job_id = above.id) SELECT 1 FROM above WHERE id = ? LIMIT 1",
        (start, target),
    )
    return row is not None
