"""What is deleted because it is old (lifecycle section 14), by the plan that each organization is on."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_contrib.server._limits import Limits
from spooled_contrib.server._plans import Plans
from spooled_contrib.server._rules import deletion, deliveries, schedule_runs, workflows
from spooled_contrib.server._rules.sweeps import ROWS_PER_SWEEP
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import SECOND

DAY = 86_400 * SECOND

_WALK = 10_000
"""Rows of history that one turn looks at, from the oldest on."""


def run(tx: Tx, plans: Plans) -> int:
    """One turn for everybody; the most rows that one of its deletions took."""
    exceptions = sorted(plans.exceptions)
    most = 0
    for organization_id in exceptions:
        most = max(most, _turn(tx, plans.of(organization_id), "organization_id = ?", [organization_id]))
    others, params = "1 = 1", exceptions
    if exceptions:
        others = f"organization_id NOT IN ({', '.join('?' * len(exceptions))})"
    return max(most, _turn(tx, plans.default, others, params))


def _turn(tx: Tx, limits: Limits, whose: str, params: Sequence[str]) -> int:
    # An organization can be given more days than there are in any calendar, and no column holds such a time.
    jobs_before = max(0, tx.now - round(limits.job_days * DAY))
    history_before = max(0, tx.now - round(limits.history_days * DAY))
    taken = [
        deletion.delete_jobs(
            tx,
            "completed_at IS NOT NULL AND completed_at < ? AND status IN ('completed', 'cancelled') "
            f"AND {whose}",
            (jobs_before, *params),
            limit=ROWS_PER_SWEEP,
            patient=True,
        ),
        deliveries.delete_old(tx, whose, params, history_before, ROWS_PER_SWEEP),
        schedule_runs.delete_old_runs(tx, whose, params, history_before, ROWS_PER_SWEEP),
        workflows.delete_old_workflows(tx, whose, params, jobs_before, ROWS_PER_SWEEP),
    ]
    if limits.history_days < limits.job_days:
        taken.append(_delete_old_history(tx, whose, params, history_before))
    return max(taken)


def _delete_old_history(tx: Tx, whose: str, params: Sequence[str], before: int) -> int:
    # Rows are in order of time by `seq`, so the primary key finds the old ones; an index on the time would be one
    # more for every change of every job to keep.
    return tx.execute(
        "DELETE FROM job_history WHERE seq IN (SELECT seq FROM job_history WHERE created_at < ? "  # noqa: S608
        "AND seq < (SELECT COALESCE(MIN(seq), 0) FROM job_history) + ? "
        f"AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_history.job_id AND {whose}) ORDER BY seq LIMIT ?)",
        (before, _WALK, *params, ROWS_PER_SWEEP),
    )
