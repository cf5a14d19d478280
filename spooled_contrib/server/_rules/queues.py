"""Queues: named by the jobs in them, configured on demand (contract section 4, lifecycle section 11)."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import deletion, quotas, webhooks
from spooled_contrib.server._rules.creation import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_SECONDS
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import SECOND, micros, text

COLUMNS = (
    "id, organization_id, queue_name, max_retries, default_timeout, rate_limit, enabled, settings, "
    "created_at, updated_at"
)
_DAY = 86_400 * SECOND


class QueueChange(Struct, kw_only=True):
    """What to change about a queue. None keeps. `settings` is merged member by member when it is an object."""

    max_retries: int | None = None
    default_timeout: int | None = None
    rate_limit: int | None = None
    enabled: bool | None = None
    settings: Any = None


def list_queues(tx: Tx, principal: Principal) -> list[Row]:
    """At most 100 by name: queue_name, max_retries, default_timeout, rate_limit, enabled."""
    scope, names = principal.queue_condition("q.queue_name")
    organization_id = principal.organization_id
    return tx.select(
        "SELECT q.queue_name, COALESCE(c.max_retries, ?), COALESCE(c.default_timeout, ?), c.rate_limit, "  # noqa: S608
        "COALESCE(c.enabled, 1) FROM ("
        "SELECT DISTINCT queue_name FROM jobs WHERE organization_id = ? "
        "UNION SELECT queue_name FROM queue_config WHERE organization_id = ?) AS q "
        "LEFT JOIN queue_config c ON c.organization_id = ? AND c.queue_name = q.queue_name "
        f"WHERE 1 = 1{scope} ORDER BY q.queue_name LIMIT 100",
        (
            DEFAULT_MAX_RETRIES,
            DEFAULT_TIMEOUT_SECONDS,
            organization_id,
            organization_id,
            organization_id,
            *names,
        ),
    )


def get_queue(tx: Tx, principal: Principal, queue_name: str) -> Row:
    """`COLUMNS` of a configured queue, or what they would be for one that only has jobs."""
    principal.require_sight(queue_name)
    row = _config(tx, principal.organization_id, queue_name)
    if row is not None:
        return row
    if not quotas.queue_exists(tx, principal.organization_id, queue_name):
        raise refuse.not_found()
    return (
        f"implicit:{queue_name}",
        principal.organization_id,
        queue_name,
        DEFAULT_MAX_RETRIES,
        DEFAULT_TIMEOUT_SECONDS,
        None,
        1,
        '{"implicit":true}',
        tx.now,
        tx.now,
    )


def configure(tx: Tx, principal: Principal, limits: Limits, queue_name: str, change: QueueChange) -> Row:
    principal.require_queue(queue_name)
    quotas.check_queue(tx, principal.organization_id, limits, queue_name)
    return _upsert(tx, principal.organization_id, queue_name, change)


def merge_settings(old: Any, new: Any) -> Any:
    """Objects are merged one level deep; anything else replaces."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **new}
    return new


def _upsert(tx: Tx, organization_id: str, queue_name: str, change: QueueChange) -> Row:
    # What is not changed is read and written back: two changes at the same time must not undo each other.
    tx.serialize(f"queue:{organization_id}:{queue_name}")
    row = _config(tx, organization_id, queue_name)
    old_settings = {} if row is None else json.loads(row[7])
    settings = old_settings if change.settings is None else merge_settings(old_settings, change.settings)
    old = (DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_SECONDS, None, 1) if row is None else row[3:7]
    new = [
        before if after is None else after
        for before, after in zip(
            old,
            (
                change.max_retries,
                change.default_timeout,
                change.rate_limit,
                None if change.enabled is None else int(change.enabled),
            ),
            strict=True,
        )
    ]
    return tx.change(
        f"INSERT INTO queue_config ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        "ON CONFLICT (organization_id, queue_name) DO UPDATE SET max_retries = excluded.max_retries, "
        "default_timeout = excluded.default_timeout, rate_limit = excluded.rate_limit, enabled = excluded.enabled, "
        f"settings = excluded.settings, updated_at = excluded.updated_at RETURNING {COLUMNS}",
        (str(uuid.uuid4()), organization_id, queue_name, *new, json.dumps(settings), tx.now, tx.now),
    )[0]


def stats(tx: Tx, principal: Principal, queue_name: str) -> dict[str, Any]:
    """Zeros for a queue that does not exist."""
    principal.require_sight(queue_name)
    key = (principal.organization_id, queue_name)
    counts: dict[str, int] = dict(
        tx.select(
            "SELECT status, COUNT(*) FROM jobs WHERE organization_id = ? AND queue_name = ? "
            "AND status IN ('pending', 'processing', 'failed') GROUP BY status",
            key,
        )
    )
    completed, average = _one(
        tx,
        "SELECT COUNT(*), AVG(completed_at - started_at) FROM jobs WHERE organization_id = ? AND queue_name = ? "
        "AND completed_at IS NOT NULL AND completed_at >= ? AND status = 'completed'",
        *key,
        tx.now - _DAY,
    )
    (oldest,) = _one(
        tx,
        "SELECT MIN(created_at) FROM jobs WHERE organization_id = ? AND queue_name = ? AND status = 'pending'",
        *key,
    )
    (active,) = _one(
        tx,
        "SELECT COUNT(*) FROM workers WHERE organization_id = ? AND queue_name = ? AND status = 'healthy'",
        *key,
    )
    return {
        "queue_name": queue_name,
        "pending_jobs": counts.get("pending", 0),
        "processing_jobs": counts.get("processing", 0),
        "completed_jobs_24h": completed,
        "failed_jobs_24h": counts.get("failed", 0),
        "avg_processing_time_ms": None if average is None else float(average) / 1000,
        "max_job_age_seconds": None if oldest is None else (tx.now - oldest) // SECOND,
        "active_workers": active,
    }


def live_counts(tx: Tx, principal: Principal, queue_name: str) -> dict[str, int]:
    """Return the counters of the queue's stream: pending with scheduled, failed with dead letters."""
    counts: dict[str, int] = dict(
        tx.select(
            "SELECT status, COUNT(*) FROM jobs WHERE organization_id = ? AND queue_name = ? GROUP BY status",
            (principal.organization_id, queue_name),
        )
    )
    return {
        "pending": counts.get("pending", 0) + counts.get("scheduled", 0),
        "processing": counts.get("processing", 0),
        "completed": counts.get("completed", 0),
        "failed": counts.get("failed", 0) + counts.get("deadletter", 0),
    }


def pause(tx: Tx, principal: Principal, queue_name: str, reason: str | None) -> None:
    """Stop claims. Everything else goes on: enqueueing, acks, heartbeats, lease recovery."""
    principal.require_sight(queue_name)
    if not quotas.queue_exists(tx, principal.organization_id, queue_name):
        raise refuse.not_found()
    settings = {"paused": True, "paused_at": text(tx.now), "paused_reason": reason}
    _upsert(tx, principal.organization_id, queue_name, QueueChange(enabled=False, settings=settings))
    data = {"queue_name": queue_name, "reason": reason}
    webhooks.emit(tx, principal.organization_id, webhooks.QUEUE_PAUSED, data)


def paused_seconds(settings: Any, now: int) -> int:
    """Whole seconds since the pause that the settings tell of; 0 when they tell of none, or of nonsense."""
    since = settings.get("paused_at") if isinstance(settings, dict) else None
    if not isinstance(since, str):
        return 0
    try:
        paused_at = datetime.fromisoformat(since)
    except ValueError:
        return 0
    at = micros(paused_at) if paused_at.tzinfo is not None else None
    return 0 if at is None else max(0, (now - at) // SECOND)


def resume(tx: Tx, principal: Principal, queue_name: str) -> int:
    """Let claims through again; how many whole seconds they were stopped. 404 without a configuration."""
    principal.require_sight(queue_name)
    tx.serialize(f"queue:{principal.organization_id}:{queue_name}")
    row = _config(tx, principal.organization_id, queue_name)
    if row is None:
        raise refuse.not_found()
    duration = paused_seconds(json.loads(row[7]), tx.now)
    _upsert(
        tx,
        principal.organization_id,
        queue_name,
        QueueChange(enabled=True, settings={"paused": False, "paused_at": None, "paused_reason": None}),
    )
    data = {"queue_name": queue_name, "paused_duration_secs": duration}
    webhooks.emit(tx, principal.organization_id, webhooks.QUEUE_RESUMED, data)
    return duration


def delete(tx: Tx, principal: Principal, queue_name: str, *, delete_jobs: bool) -> None:
    """Delete the configuration, and with `delete_jobs` every job in any state.

    Raises:
        RefusalError: 404 when nothing of that name exists; 409 without `delete_jobs` while jobs wait or run, or
            when there is no configuration to delete.
    """
    principal.require_queue(queue_name)
    key = (principal.organization_id, queue_name)
    tx.serialize(f"queue:{principal.organization_id}:{queue_name}")
    configured = _config(tx, *key) is not None
    if not configured and not quotas.queue_exists(tx, *key):
        raise refuse.not_found()
    if delete_jobs:
        deletion.delete_jobs(tx, "organization_id = ? AND queue_name = ?", key)
    elif (
        tx.select_one(
            "SELECT 1 FROM jobs WHERE organization_id = ? AND queue_name = ? "
            "AND status IN ('pending', 'processing') LIMIT 1",
            key,
        )
        is not None
    ):
        raise refuse.conflict(
            f"The queue {queue_name!r} has pending or processing jobs; pass delete_jobs=true to delete them too"
        )
    elif not configured:
        raise refuse.conflict(
            f"The queue {queue_name!r} has no configuration to delete; pass delete_jobs=true to delete its jobs"
        )
    tx.execute("DELETE FROM queue_config WHERE organization_id = ? AND queue_name = ?", key)


def _config(tx: Tx, organization_id: str, queue_name: str) -> Row | None:
    return tx.select_one(
        f"SELECT {COLUMNS} FROM queue_config WHERE organization_id = ? AND queue_name = ?",  # noqa: S608
        (organization_id, queue_name),
    )


def _one(tx: Tx, sql: str, *params: object) -> Row:
    row = tx.select_one(sql, params)
    assert row is not None
    return row
