"""Removing jobs for good, with everything that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_contrib.server._rules import events
from spooled_contrib.server._storage import Tx

_CHUNK = 500


def delete_jobs(
    tx: Tx,
    condition: str,
    params: Sequence[object],
    *,
    limit: int | None = None,
    order: str = "seq",
    patient: bool = False,
) -> int:
    """Delete the jobs that `condition` selects, their history and their dependency edges; how many.

    Args:
        condition: A constant SQL condition on `jobs`, never text from a request.
        limit: At most this many, by `order`.
        patient: Leave jobs that somebody is changing at this moment to the next time. Else wait for them.
    """
    sql = f"SELECT id, organization_id, queue_name FROM jobs WHERE {condition} ORDER BY {order}"  # noqa: S608
    values = list(params)
    if limit is not None:
        sql += " LIMIT ?"
        values.append(limit)
    # Held, so that none of them is claimed or revived between being chosen and being deleted.
    sql += tx.dialect.skip_locked if patient else tx.dialect.for_update
    rows = tx.select(sql, values)
    ids = [row[0] for row in rows]
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        tx.execute(f"DELETE FROM job_history WHERE job_id IN ({marks})", chunk)  # noqa: S608
        tx.execute(
            f"DELETE FROM job_dependencies WHERE child_job_id IN ({marks}) OR parent_job_id IN ({marks})",  # noqa: S608
            [*chunk, *chunk],
        )
        tx.execute(f"DELETE FROM jobs WHERE id IN ({marks})", chunk)  # noqa: S608
    if tx.listening:
        for job_id, organization_id, queue_name in rows:
            events.touched(tx, organization_id, queue_name, job_id)
    return len(ids)
