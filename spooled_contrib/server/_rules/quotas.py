"""Plan caps (contract section 1.3). All of them are off unless the server was given limits.

What is counted must not grow between the count and the insert that it allowed, so operations of an organization under
a cap pass one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from spooled_contrib.server import _plans as plans
from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._storage import Tx

PLAN = "free"
"""What the row of a new organization says. What applies to it, and what is reported, is in `Plans`."""

FEATURES = frozenset({"schedules", "workflows", "webhooks"})
"""What a plan can be without."""

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
        "UNION SELECT queue_name FROM queue_config WHERE organization_id = ? "
        "UNION SELECT queue_name FROM schedules WHERE organization_id = ? AND is_active = 1) AS names",
        organization_id,
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


def schedules(tx: Tx, organization_id: str) -> int:
    return _count(
        tx, "SELECT COUNT(*) FROM schedules WHERE organization_id = ? AND is_active = 1", organization_id
    )


def workflows(tx: Tx, organization_id: str) -> int:
    """Only live ones count: what has ended takes nothing from anybody."""
    return _count(
        tx,
        "SELECT COUNT(*) FROM workflows WHERE organization_id = ? AND status IN ('pending', 'running')",
        organization_id,
    )


def webhooks(tx: Tx, organization_id: str) -> int:
    return _count(
        tx, "SELECT COUNT(*) FROM webhooks WHERE organization_id = ? AND enabled = 1", organization_id
    )


def check_new_jobs(tx: Tx, organization_id: str, limits: Limits, adding: int) -> None:
    """Daily quota first, then active jobs; all or nothing."""
    if limits.jobs_per_day is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "jobs_per_day", jobs_today(tx, organization_id), adding)
    if limits.active_jobs is not None:
        check_active_jobs(tx, organization_id, limits, adding)


def check_active_jobs(tx: Tx, organization_id: str, limits: Limits, adding: int) -> None:
    if limits.active_jobs is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "active_jobs", active_jobs(tx, organization_id), adding)


def check_queue(tx: Tx, organization_id: str, limits: Limits, queue_name: str) -> None:
    """A queue that exists is never refused."""
    check_queues(tx, organization_id, limits, [queue_name])


def check_queues(tx: Tx, organization_id: str, limits: Limits, queue_names: Sequence[str]) -> None:
    """Several at once, each named once; all or nothing."""
    if limits.queues is None:
        return
    if not _new_queues(tx, organization_id, queue_names):
        return
    _one_by_one(tx, organization_id)
    adding = _new_queues(tx, organization_id, queue_names)
    if adding:
        check_cap(limits, "queues", queues(tx, organization_id), adding)


def _new_queues(tx: Tx, organization_id: str, queue_names: Sequence[str]) -> int:
    return sum(
        not queue_exists(tx, organization_id, name) and not _is_scheduled(tx, organization_id, name)
        for name in queue_names
    )


def check_worker(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.workers is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "workers", workers(tx, organization_id), 1)


def check_api_key(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.api_keys is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "api_keys", api_keys(tx, organization_id), 1)


def check_webhook(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.webhooks is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "webhooks", webhooks(tx, organization_id), 1)


def check_schedule(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.schedules is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "schedules", schedules(tx, organization_id), 1)


def check_feature(limits: Limits, resource: str) -> None:
    """A cap of 0 means that the plan does not have the feature at all: 403."""
    if getattr(limits, resource) == 0:
        check_cap(limits, resource, 0, 1)


def check_workflow(tx: Tx, organization_id: str, limits: Limits) -> None:
    if limits.workflows is not None:
        _one_by_one(tx, organization_id)
        check_cap(limits, "workflows", workflows(tx, organization_id), 1)


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


def _is_scheduled(tx: Tx, organization_id: str, queue_name: str) -> bool:
    """The target of an active schedule counts as a queue before its first job is made."""
    return (
        tx.select_one(
            "SELECT 1 FROM schedules WHERE organization_id = ? AND queue_name = ? AND is_active = 1 LIMIT 1",
            (organization_id, queue_name),
        )
        is not None
    )


def check_payload(size: int, limits: Limits) -> None:
    if limits.payload_bytes is not None and size > limits.payload_bytes:
        raise refuse.payload_too_large(
            size, limits.payload_bytes, limits.tier, plans.upgrade(limits, "payload_bytes", size)
        )


def _one_by_one(tx: Tx, organization_id: str) -> None:
    tx.serialize(f"quota:{organization_id}")


def _count(tx: Tx, sql: str, *params: object) -> int:
    row = tx.select_one(sql, params)
    return int(row[0]) if row is not None else 0


def check_cap(limits: Limits, resource: str, current: int, adding: int) -> None:
    """Hold one of the counts in `Limits` to its limit.

    Raises:
        RefusalError: 429 when there would be too many; 403 when the plan has none of this feature.
    """
    limit = getattr(limits, resource)
    if limit is None or current + adding <= limit:
        return
    larger = plans.upgrade(limits, resource, current + adding)
    if limit == 0 and resource in FEATURES:
        raise refuse.feature_disabled(resource, limits.tier, larger)
    raise refuse.quota_exceeded(resource, current, limit, limits.tier, larger)
