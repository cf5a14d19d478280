"""The dead-letter queue: jobs of status `deadletter` (contract section 3.8, lifecycle section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import control, deletion, events, quotas
from spooled_contrib.server._rules.statuses import DEADLETTER
from spooled_contrib.server._storage import Row, Tx


def retry(
    tx: Tx,
    principal: Principal,
    limits: Limits,
    *,
    queue_name: str | None,
    job_ids: Sequence[str] | None,
    limit: int,
) -> tuple[list[str], list[str]]:
    """Revive dead letters. `job_ids` wins over `queue_name`; without ids the oldest go first.

    Returns:
        The ids of those that were revived, and of steps that stay because the plan has no room for their workflows.
    """
    if principal.queues is not None:
        if queue_name is None or job_ids is not None:
            raise refuse.access_denied(
                "An API key that is limited to queues must name queue_name, and no job_ids"
            )
        principal.require_queue(queue_name)
    organization_id = principal.organization_id
    where, params = "organization_id = ? AND status = 'deadletter'", [organization_id]
    if job_ids is not None:
        where += f" AND id IN ({', '.join('?' * len(job_ids))})"
        if not job_ids:
            return [], []
        params += job_ids
    elif queue_name is not None:
        where += " AND queue_name = ?"
        params.append(queue_name)
    rows = tx.select(
        f"SELECT id, queue_name, workflow_id FROM jobs WHERE {where} ORDER BY created_at, seq LIMIT ?"  # noqa: S608
        f"{tx.dialect.for_update}",
        (*params, limit),
    )
    rows, skipped = _that_fit(tx, organization_id, limits, rows)
    if not rows:
        return [], skipped
    quotas.check_new_jobs(tx, organization_id, limits, len(rows))
    for job_id, job_queue, _ in rows:
        control.revive(tx, organization_id, job_queue, job_id, DEADLETTER)
        # Children that still wait for it are gated again.
        tx.execute(
            "UPDATE jobs SET dependencies_met = 0, ready = 0, updated_at = ? WHERE parent_job_id = ? "
            "AND organization_id = ? AND status IN ('pending', 'scheduled')",
            (tx.now, job_id, organization_id),
        )
        events.touched(tx, organization_id, job_queue, job_id)
    return [job_id for job_id, _, _ in rows], skipped


def _that_fit(tx: Tx, organization_id: str, limits: Limits, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Leave out steps of failed workflows that would run again beyond the plan's cap; the rest, and their ids."""
    steps = {row[2] for row in rows if row[2] is not None}
    if limits.workflows is None or not steps:
        return rows, []
    marks = ", ".join("?" * len(steps))
    failed = {
        row[0]
        for row in tx.select(
            f"SELECT id FROM workflows WHERE status = 'failed' AND id IN ({marks})",  # noqa: S608
            list(steps),
        )
    }
    room = max(0, limits.workflows - quotas.workflows(tx, organization_id))
    # The oldest dead letters decide which workflows get the room.
    waking = [workflow_id for workflow_id in dict.fromkeys(row[2] for row in rows) if workflow_id in failed]
    asleep = set(waking[room:])
    return [row for row in rows if row[2] not in asleep], [row[0] for row in rows if row[2] in asleep]


def purge(tx: Tx, principal: Principal, *, queue_name: str | None, older_than: int | None, limit: int) -> int:
    """Delete dead letters, the oldest first; how many."""
    if principal.queues is not None:
        if queue_name is None:
            raise refuse.access_denied("An API key that is limited to queues must name queue_name")
        principal.require_queue(queue_name)
    where, params = "organization_id = ? AND status = 'deadletter'", [principal.organization_id]
    values: list[object] = list(params)
    if queue_name is not None:
        where += " AND queue_name = ?"
        values.append(queue_name)
    if older_than is not None:
        where += " AND created_at < ?"
        values.append(older_than)
    return deletion.delete_jobs(tx, where, values, limit=limit, order="created_at, seq")
