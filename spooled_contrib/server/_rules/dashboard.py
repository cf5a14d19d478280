"""The numbers of the dashboard (contract section 11)."""

from __future__ import annotations

from typing import Any

from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import reading
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import SECOND

HOUR = 3600 * SECOND
DAY = 24 * HOUR
RECENT_HEARTBEAT = 60 * SECOND
MOST_QUEUES = 20


def numbers(tx: Tx, principal: Principal) -> dict[str, Any]:
    """Everything but the state of the system, as far as the key may see."""
    return {
        "jobs": _jobs(tx, principal),
        "queues": _queues(tx, principal),
        "workers": _workers(tx, principal),
        "recent_activity": _recent(tx, principal),
    }


def _jobs(tx: Tx, principal: Principal) -> dict[str, Any]:
    counts = reading.count_by_status(tx, principal, None)
    completed, wait, work = _one(
        tx,
        principal,
        "COUNT(*), AVG(started_at - created_at), AVG(completed_at - started_at)",
        "status = 'completed' AND completed_at >= ?",
        tx.now - DAY,
    )
    return {
        "total": counts["total"],
        "pending": counts["pending"],
        "processing": counts["processing"],
        "completed_24h": completed,
        "failed_24h": _failed_since(tx, principal, tx.now - DAY),
        "deadletter": counts["deadletter"],
        "avg_wait_time_ms": None if wait is None else float(wait) / 1000,
        "avg_processing_time_ms": None if work is None else float(work) / 1000,
    }


def _queues(tx: Tx, principal: Principal) -> list[dict[str, Any]]:
    scope, names = principal.queue_condition("q.queue_name")
    organization_id = principal.organization_id
    rows = tx.select(
        "SELECT q.queue_name, SUM(q.pending), SUM(q.processing), MIN(COALESCE(c.enabled, 1)) FROM ("  # noqa: S608
        "SELECT queue_name, CASE WHEN status = 'pending' THEN 1 ELSE 0 END AS pending, "
        "CASE WHEN status = 'processing' THEN 1 ELSE 0 END AS processing FROM jobs WHERE organization_id = ? "
        "UNION ALL SELECT queue_name, 0, 0 FROM queue_config WHERE organization_id = ?) AS q "
        "LEFT JOIN queue_config c ON c.organization_id = ? AND c.queue_name = q.queue_name "
        f"WHERE 1 = 1{scope} GROUP BY q.queue_name ORDER BY q.queue_name LIMIT ?",
        (organization_id, organization_id, organization_id, *names, MOST_QUEUES),
    )
    return [
        {"name": row[0], "pending": int(row[1]), "processing": int(row[2]), "paused": not row[3]}
        for row in rows
    ]


def _workers(tx: Tx, principal: Principal) -> dict[str, int]:
    """Those that are not offline; healthy is who was heard of within a minute."""
    scope, names = principal.queue_condition()
    total, healthy = tx.select(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN last_heartbeat >= ? THEN 1 ELSE 0 END), 0) FROM workers "  # noqa: S608
        f"WHERE organization_id = ? AND status <> 'offline'{scope}",
        (tx.now - RECENT_HEARTBEAT, principal.organization_id, *names),
    )[0]
    return {"total": total, "healthy": int(healthy), "unhealthy": total - int(healthy)}


def _recent(tx: Tx, principal: Principal) -> dict[str, int]:
    since = tx.now - HOUR
    return {
        "jobs_created_1h": _one(tx, principal, "COUNT(*)", "created_at >= ?", since)[0],
        "jobs_completed_1h": _one(
            tx, principal, "COUNT(*)", "status = 'completed' AND completed_at >= ?", since
        )[0],
        "jobs_failed_1h": _failed_since(tx, principal, since),
    }


def _failed_since(tx: Tx, principal: Principal, since: int) -> int:
    """Dead letters have no time of their own; the last change of one that nobody touched is its death."""
    found: int = _one(
        tx, principal, "COUNT(*)", "status IN ('failed', 'deadletter') AND updated_at >= ?", since
    )[0]
    return found


def _one(tx: Tx, principal: Principal, what: str, condition: str, *params: object) -> Row:
    scope, names = principal.queue_condition()
    return tx.select(
        f"SELECT {what} FROM jobs WHERE organization_id = ? AND {condition}{scope}",  # noqa: S608
        (principal.organization_id, *params, *names),
    )[0]
