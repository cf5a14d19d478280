"""What the page shows first: every queue with its counts, its recent pace and its oldest waiting job.

The calls of the contract tell this one queue at a time; a page that is refreshed every second or two asks once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import queues
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import SECOND, text

BUCKET_SECONDS = 10
WINDOW_SECONDS = 300
"""How far back the pace is told. A caller that has the beginning asks for the rest only."""

# The conditions of two partial indexes, so that jobs which are not due, however many, are not read.
_READY = "ready = 1"
_ASLEEP = "ready = 0 AND dependencies_met = 1 AND status IN ('pending', 'scheduled') AND COALESCE(scheduled_at, 0) <= ?"


def overview(tx: Tx, principal: Principal, since: int) -> dict[str, Any]:
    """Queues, workers and, from `since` (seconds since the epoch) on, jobs created and completed per bucket."""
    now = tx.now // SECOND
    first = max(since, now - WINDOW_SECONDS) // BUCKET_SECONDS * BUCKET_SECONDS
    first = min(first, now // BUCKET_SECONDS * BUCKET_SECONDS)
    names = [row[0] for row in queues.list_queues(tx, principal)]
    counts = _counts(tx, principal)
    oldest = _waiting_since(tx, principal)
    created = _created(tx, principal, first)
    paused = _paused(tx, principal)
    alive, total = _workers(tx, principal)
    return {
        "now": text(tx.now),
        "pace_from": first,
        "pace_seconds": BUCKET_SECONDS,
        "pace_buckets": now // BUCKET_SECONDS - first // BUCKET_SECONDS + 1,
        "counts": _total(counts),
        "waiting_since": text(min(oldest.values())) if oldest else None,
        "workers_alive": sum(alive.values()),
        "workers_total": total,
        "queues": [
            {
                "queue_name": name,
                "counts": counts.get(name, {}),
                "paused": name in paused,
                "paused_reason": paused.get(name),
                "waiting_since": text(oldest[name]) if name in oldest else None,
                "workers_alive": alive.get(name, 0),
                "created": created.get(name, {}),
                "completed": _completed(tx, principal.organization_id, name, first),
            }
            for name in names
        ],
    }


def _counts(tx: Tx, principal: Principal) -> dict[str, dict[str, int]]:
    scope, names = principal.queue_condition()
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, status, count in tx.select(
        f"SELECT queue_name, status, COUNT(*) FROM jobs WHERE organization_id = ?{scope} "  # noqa: S608
        "GROUP BY queue_name, status",
        (principal.organization_id, *names),
    ):
        found[name][status] = count
    return found


def _total(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """Over all queues: the list of them ends after a hundred."""
    found: dict[str, int] = {}
    for of_queue in counts.values():
        for status, count in of_queue.items():
            found[status] = found.get(status, 0) + count
    return found


def _waiting_since(tx: Tx, principal: Principal) -> dict[str, int]:
    """Of each queue, since when the job waits that could have been claimed first. Delayed ones wait from their time."""
    scope, names = principal.queue_condition()
    found: dict[str, int] = {}
    for condition, due in ((_READY, ()), (_ASLEEP, (tx.now,))):
        for name, since in tx.select(
            "SELECT queue_name, MIN(CASE WHEN scheduled_at > created_at THEN scheduled_at ELSE created_at END) "  # noqa: S608
            f"FROM jobs WHERE organization_id = ?{scope} AND {condition} GROUP BY queue_name",
            (principal.organization_id, *names, *due),
        ):
            found[name] = min(since, found.get(name, since))
    return found


def _created(tx: Tx, principal: Principal, first: int) -> dict[str, dict[str, int]]:
    scope, names = principal.queue_condition()
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, bucket, count in tx.select(
        f"SELECT queue_name, (created_at - ?) / ?, COUNT(*) FROM jobs WHERE organization_id = ?{scope} "  # noqa: S608
        "AND created_at >= ? GROUP BY 1, 2",
        (first * SECOND, BUCKET_SECONDS * SECOND, principal.organization_id, *names, first * SECOND),
    ):
        found[name][str(bucket)] = count
    return found


def _completed(tx: Tx, organization_id: str, queue_name: str, first: int) -> dict[str, int]:
    # One queue at a time, because the index of completions starts with the queue.
    rows = tx.select(
        "SELECT (completed_at - ?) / ?, COUNT(*) FROM jobs WHERE organization_id = ? AND queue_name = ? "
        "AND completed_at IS NOT NULL AND completed_at >= ? AND status = 'completed' GROUP BY 1",
        (first * SECOND, BUCKET_SECONDS * SECOND, organization_id, queue_name, first * SECOND),
    )
    return {str(bucket): count for bucket, count in rows}


def _paused(tx: Tx, principal: Principal) -> dict[str, str | None]:
    scope, names = principal.queue_condition()
    rows = tx.select(
        f"SELECT queue_name, settings FROM queue_config WHERE organization_id = ?{scope} AND enabled = 0",  # noqa: S608
        (principal.organization_id, *names),
    )
    found: dict[str, str | None] = {}
    for name, stored in rows:
        settings = json.loads(stored)
        reason = settings.get("paused_reason") if isinstance(settings, dict) else None
        found[name] = reason if isinstance(reason, str) else None
    return found


def _workers(tx: Tx, principal: Principal) -> tuple[dict[str, int], int]:
    scope, names = principal.queue_condition()
    rows = tx.select(
        "SELECT queue_name, SUM(CASE WHEN status IN ('healthy', 'degraded', 'draining') THEN 1 ELSE 0 END), "  # noqa: S608
        f"COUNT(*) FROM workers WHERE organization_id = ?{scope} GROUP BY queue_name",
        (principal.organization_id, *names),
    )
    return {row[0]: int(row[1]) for row in rows}, sum(row[2] for row in rows)
