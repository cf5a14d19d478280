"""What `/metrics` measures: the state of all organizations together (contract section 2)."""

from __future__ import annotations

from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import SECOND

# Waiting jobs are counted in three parts, each of which a partial index holds, so that a million finished ones cost
# nothing. A ready job is pending, or about to be called so.
_PARTS = (
    "ready = 1",
    "ready = 0 AND dependencies_met = 1 AND status IN ('pending', 'scheduled') AND status = 'pending'",
    "ready = 0 AND dependencies_met = 0 AND status IN ('pending', 'scheduled') AND status = 'pending'",
)


def measure(tx: Tx) -> dict[str, float]:
    """Return the gauges by name, without the prefix that they all have."""
    pending, oldest = 0, tx.now
    for part in _PARTS:
        count, first = tx.select(f"SELECT COUNT(*), MIN(created_at) FROM jobs WHERE {part}")[0]  # noqa: S608
        pending += count
        oldest = oldest if first is None else min(oldest, first)
    (processing,) = tx.select("SELECT COUNT(*) FROM jobs WHERE status = 'processing'")[0]
    workers: dict[str, int] = dict(tx.select("SELECT status, COUNT(*) FROM workers GROUP BY status"))
    return {
        "jobs_pending": pending,
        "jobs_processing": processing,
        "job_max_age_seconds": (tx.now - oldest) / SECOND,
        "workers_active": sum(count for status, count in workers.items() if status != "offline"),
        "workers_healthy": workers.get("healthy", 0),
    }
