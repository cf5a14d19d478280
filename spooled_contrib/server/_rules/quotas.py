"""Plan caps (contract section 1.3). All of them are off unless the server was given limits.

What is counted must not grow between the count and the insert that it allowed, so operations of an organization under
a cap pass one after the other.
"""

from __future__ import annotations

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._settings import Limits
from spooled_contrib.server._storage import Tx

PLAN = "free"
"""The tier that every organization is created with. The server's own limits override the tier's numbers."""

_MICROS_PER_DAY = 86_400_000_000


def utc_day(now: int) -> int:
    """Days since the epoch; the daily counter starts again with each."""
    return now // _MICROS_PER_DAY


def jobs_today(tx: Tx, organization_id: str) -> int:
    row = tx.select_one("SELECT usage_day, jobs_today FROM organizations WHERE id = ?", (organization_id,))
    return int(row[1]) if row is not None and row[0] == utc_day(tx.now) else 0


_COUNT_TODAY = (
    "UPDATE organizations SET jobs_today = ? + CASE WHEN usage_day = ? THEN jobs_today ELSE 0 END, usage_day = ? "
    "WHERE id = ?"
)


def count_jobs_today(tx: Tx, organization_id: str, limits: Limits, created: int) -> None:
    """Deduplicated rows are not passed in: they cost nothing."""
    if not created:
        return
    day = utc_day(tx.now)
    if limits.jobs_per_day is None:
        tx.tally(_COUNT_TODAY, created, (day, day, organization_id))
    else:  # the next operation of the same commit has to see it
        tx.execute(_COUNT_TODAY, (created, day, day, organization_id))


def active_jobs(tx: Tx, organization_id: str) -> int:
    return _count(
        tx,
        "SELECT COUNT(*) FROM jobs WHERE organization_id = ? AND status IN ('pending', 'scheduled', 'processing')",
        organization_id,
    )


def queues(tx: Tx, organization_id: str) -> int:
    return _count(
        tx,
        "SELECT COUNT(*) FROM (SELECT queue_name FROM jobs WHERE organization_id = ? "
        "UNION SELECT queue_name FROM queue_config WHERE organization_id = ?) AS names",
        organization_id,
        organization_id,
    )


def workers(tx: Tx, organization_id: str) -> int:
    return _count(
        tx,
        "SELECT COUNT(*) FROM workers WHERE organization_id = ? AND status IN ('healthy', 'degraded')",
        organization_id,
    )


def api_keys(tx: Tx, organization_id: str) -> int:
    return _count(
        tx, "SELECT COUNT(*) FROM api_keys WHERE organization_id = ? AND is_active = 1", organization_id
    )


def check_new_jobs(tx: Tx, organization_id: str, limits: Limits, adding: int) -> None:
    """Daily quota first, then active jobs; all or nothing."""
    if limits.jobs_per_day is not None:
        _one_by_one(tx, organization_id)
        _check("jobs_per_day", jobs_today(tx, organization_id), adding, limits.jobs_per_day)
    if limits.active_jobs is not None:
        check_active_jobs(tx, organization_id, limits, adding)


def check_active_jobs(tx: Tx, organization_id: str, limits: Limits, adding: int) -> None:
    if limits.active_jobs is not None:
        _one_by_one(tx, organization_id)
        _check("active_jobs", active_jobs(tx, organization_id), adding, limits.active_jobs)


def check_queue(tx: Tx, organization_id: str, limits: Limits, queue_name: str) -> None:
    """A queue that exists is never refused."""
    if limits.queues is None or queue_exists(tx, organization_id, queue_name):
        return
    _one_by_one(tx, organization_id)
    if not queue_exists(tx, organization_id, queue_name):
        _check("queues", queues(tx, organization_id), 1, limits.queues)


def check_worker(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.workers is not None:
        _one_by_one(tx, organization_id)
        _check("workers", workers(tx, organization_id), 1, limits.workers)


def check_api_key(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.api_keys is not None:
        _one_by_one(tx, organization_id)
        _check("api_keys", api_keys(tx, organization_id), 1, limits.api_keys)


def queue_exists(tx: Tx, organization_id: str, queue_name: str) -> bool:
    """It has a configuration or holds a job in any state."""
    return (
        tx.select_one(
            "SELECT 1 FROM queue_config WHERE organization_id = ? AND queue_name = ?",
            (organization_id, queue_name),
        )
        is not None
        or tx.select_one(
            "SELECT 1 FROM jobs WHERE organization_id = ? AND queue_name = ? LIMIT 1",
            (organization_id, queue_name),
        )
        is not None
    )


def check_payload(size: int, limits: Limits) -> None:
    if limits.payload_bytes is not None and size > limits.payload_bytes:
        raise refuse.payload_too_large(size, limits.payload_bytes, PLAN)


def _one_by_one(tx: Tx, organization_id: str) -> None:
    tx.serialize(f"quota:{organization_id}")


def _count(tx: Tx, sql: str, *params: object) -> int:
    row = tx.select_one(sql, params)
    return int(row[0]) if row is not None else 0


def _check(resource: str, current: int, adding: int, limit: int) -> None:
    if current + adding > limit:
        raise refuse.quota_exceeded(resource, current, limit, PLAN)
