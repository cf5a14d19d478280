"""What those who run the server may see and change: every organization (contract section 11)."""

from __future__ import annotations

import json
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._events import KEY_CHANGED
from spooled_contrib.server._rules import deletion, organizations
from spooled_contrib.server._rules.reading import like_literal
from spooled_contrib.server._rules.statuses import ACTIVE, PENDING, PROCESSING
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import SECOND

DAY = 86_400 * SECOND

COLUMNS = f"{organizations.COLUMNS}, assigned_plan, custom_limits, deleted_at"
ORDERS = frozenset({"created_at", "updated_at", "name", "slug"})

_OWNED = (
    "api_keys",
    "queue_config",
    "workers",
    "schedules",
    "workflows",
    "webhooks",
    "webhook_deliveries",
    "ingest_deliveries",
)
"""Tables whose rows leave with their organization. Jobs leave too, and take what is theirs along."""


class OrganizationFilter(Struct, kw_only=True):
    """What `GET /admin/organizations` can ask for."""

    search: str | None = None
    sort_by: str = "created_at"
    descending: bool = True
    limit: int = 50
    offset: int = 0


class Change(Struct, kw_only=True):
    """What to change about an organization. None keeps; for a plan or limits, whose None takes away, UNSET keeps."""

    name: str | None = None
    billing_email: str | None = None
    plan: str | UnsetType | None = UNSET
    custom_limits: dict[str, Any] | UnsetType | None = UNSET


def list_organizations(tx: Tx, wanted: OrganizationFilter) -> tuple[list[Row], int]:
    """`COLUMNS` of one page, and how many there are in all. Deleted ones are not listed."""
    assert wanted.sort_by in ORDERS
    where = "deleted_at IS NULL"
    params: list[str] = []
    if wanted.search is not None:
        where += r" AND (lower(name) LIKE ? ESCAPE '\' OR slug LIKE ? ESCAPE '\')"
        params += [f"%{like_literal(wanted.search.lower())}%"] * 2
    direction = "DESC" if wanted.descending else "ASC"
    rows = tx.select(
        f"SELECT {COLUMNS} FROM organizations WHERE {where} "  # noqa: S608
        f"ORDER BY {wanted.sort_by} {direction}, id LIMIT ? OFFSET ?",
        (*params, wanted.limit, wanted.offset),
    )
    (total,) = tx.select(f"SELECT COUNT(*) FROM organizations WHERE {where}", params)[0]  # noqa: S608
    return rows, total


def get(tx: Tx, organization_id: str) -> Row:
    """`COLUMNS`, of a deleted one too.

    Raises:
        RefusalError: 404.
    """
    row = tx.select_one(f"SELECT {COLUMNS} FROM organizations WHERE id = ?", (organization_id,))  # noqa: S608
    if row is None:
        raise refuse.not_found()
    return row


def change(tx: Tx, organization_id: str, change: Change) -> Row:
    """Change what is given; `COLUMNS`."""
    organizations.change(tx, organization_id, change.name, change.billing_email, None)
    if change.plan is not UNSET:
        tx.execute("UPDATE organizations SET assigned_plan = ? WHERE id = ?", (change.plan, organization_id))
    if change.custom_limits is not UNSET:
        limits = json.dumps(change.custom_limits) if change.custom_limits else None
        tx.execute("UPDATE organizations SET custom_limits = ? WHERE id = ?", (limits, organization_id))
    return get(tx, organization_id)


def delete_for_good(tx: Tx, organization_id: str) -> None:
    """Delete an organization with everything that is its own, running jobs included.

    Raises:
        RefusalError: 404; 409 for the server's own.
    """
    get(tx, organization_id)
    if organization_id == organizations.DEVELOPMENT_ORGANIZATION_ID:
        raise refuse.conflict("The server's own organization cannot be deleted")
    for (key_id,) in tx.select("SELECT id FROM api_keys WHERE organization_id = ?", (organization_id,)):
        tx.tell(KEY_CHANGED, key_id)
    deletion.delete_jobs(tx, "organization_id = ?", (organization_id,))
    tx.execute(
        "DELETE FROM schedule_runs WHERE schedule_id IN (SELECT id FROM schedules WHERE organization_id = ?)",
        (organization_id,),
    )
    for table in _OWNED:
        tx.execute(f"DELETE FROM {table} WHERE organization_id = ?", (organization_id,))  # noqa: S608
    tx.execute("DELETE FROM organizations WHERE id = ?", (organization_id,))


def reset_usage(tx: Tx, organization_id: str) -> None:
    """Start the organization's daily count of jobs again."""
    get(tx, organization_id)
    tx.execute("UPDATE organizations SET jobs_today = 0 WHERE id = ?", (organization_id,))


def stats(tx: Tx) -> dict[str, Any]:
    """Return the server's organizations, jobs and workers in numbers; plans are for the caller to count."""
    today = tx.now - tx.now % DAY
    total, created_today, created_this_week = tx.select(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN created_at >= ? THEN 1 ELSE 0 END), 0), "
        "COALESCE(SUM(CASE WHEN created_at >= ? THEN 1 ELSE 0 END), 0) FROM organizations WHERE deleted_at IS NULL",
        (today, tx.now - 7 * DAY),
    )[0]
    jobs: dict[str, int] = dict(tx.select("SELECT status, COUNT(*) FROM jobs GROUP BY status"))
    (completed,) = tx.select(
        "SELECT COUNT(*) FROM jobs WHERE status = 'completed' AND completed_at >= ?", (tx.now - DAY,)
    )[0]
    (failed,) = tx.select(
        "SELECT COUNT(*) FROM jobs WHERE status IN ('failed', 'deadletter') AND updated_at >= ?",
        (tx.now - DAY,),
    )[0]
    workers: dict[str, int] = dict(tx.select("SELECT status, COUNT(*) FROM workers GROUP BY status"))
    return {
        "organizations": {
            "total": total,
            "created_today": int(created_today),
            "created_this_week": int(created_this_week),
        },
        "jobs": {
            "total_active": sum(jobs.get(status, 0) for status in ACTIVE),
            "pending": jobs.get(PENDING, 0),
            "processing": jobs.get(PROCESSING, 0),
            "completed_24h": completed,
            "failed_24h": failed,
        },
        "workers": {
            "total": sum(workers.values()),
            "healthy": workers.get("healthy", 0),
            "degraded": workers.get("degraded", 0),
        },
    }


def organization_ids(tx: Tx) -> list[str]:
    return [row[0] for row in tx.select("SELECT id FROM organizations WHERE deleted_at IS NULL")]
