"""Looking at jobs without touching them (contract sections 3.1, 3.4 and 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules.statuses import ALL
from spooled_contrib.server._storage import Row, Tx

JOB_COLUMNS = (
    "id, organization_id, queue_name, status, payload, result, retry_count, max_retries, last_error, created_at, "
    "updated_at, scheduled_at, started_at, completed_at, expires_at, priority, tags, timeout_seconds, parent_job_id, "
    "completion_webhook, assigned_worker_id, lease_id, lease_expires_at, idempotency_key, workflow_id, "
    "dependency_mode, dependencies_met"
)
SUMMARY_COLUMNS = (
    "id, queue_name, status, priority, retry_count, max_retries, job_type, last_error, created_at, scheduled_at, "
    "started_at, completed_at"
)
ORDERS = frozenset(
    {
        "created_at",
        "updated_at",
        "scheduled_at",
        "completed_at",
        "priority",
        "status",
        "queue_name",
        "retry_count",
    }
)


_NULLABLE = frozenset({"scheduled_at", "completed_at"})


class JobFilter(Struct, kw_only=True):
    """What `GET /jobs` and `GET /jobs/dlq` can ask for. None does not restrict."""

    queue_name: str | None = None
    statuses: Sequence[str] = ()
    search: str | None = None
    job_type: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    tag: str | None = None
    order_by: str = "created_at"
    descending: bool = True
    limit: int = 50
    offset: int = 0


def get_job(tx: Tx, principal: Principal, job_id: str) -> Row:
    """All of `JOB_COLUMNS`.

    Raises:
        RefusalError: 404 when the job is unknown, foreign or out of scope.
    """
    scope, names = principal.queue_condition()
    row = tx.select_one(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ? AND organization_id = ?{scope}",  # noqa: S608
        (job_id, principal.organization_id, *names),
    )
    if row is None:
        raise refuse.not_found()
    return row


def list_jobs(tx: Tx, principal: Principal, wanted: JobFilter) -> tuple[list[Row], bool]:
    """Rows of `SUMMARY_COLUMNS`, and whether there are more."""
    where, params = _conditions(tx, principal, wanted)
    direction = "DESC" if wanted.descending else "ASC"
    assert wanted.order_by in ORDERS
    # Databases differ in where they put what is absent.
    absent = " NULLS LAST" if wanted.descending else " NULLS FIRST"
    nulls = absent if wanted.order_by in _NULLABLE else ""
    # `seq` makes pages stable where the order has ties, in the direction in which jobs came.
    rows = tx.select(
        f"SELECT {SUMMARY_COLUMNS} FROM jobs WHERE {where} "  # noqa: S608
        f"ORDER BY {wanted.order_by} {direction}{nulls}, seq {direction} LIMIT ? OFFSET ?",
        (*params, wanted.limit + 1, wanted.offset),
    )
    return rows[: wanted.limit], len(rows) > wanted.limit


def _conditions(tx: Tx, principal: Principal, wanted: JobFilter) -> tuple[str, list[object]]:
    scope, names = principal.queue_condition()
    where = ["organization_id = ?" + scope]
    params: list[object] = [principal.organization_id, *names]

    def add(condition: str, *values: object) -> None:
        where.append(condition)
        params.extend(values)

    if wanted.queue_name is not None:
        add("queue_name = ?", wanted.queue_name)
    if tuple(wanted.statuses) == ("deadletter",):
        # Written out, so that the partial index of dead letters applies.
        add("status = 'deadletter'")
    elif wanted.statuses:
        add(f"status IN ({', '.join('?' * len(wanted.statuses))})", *wanted.statuses)
    if wanted.job_type is not None:
        add("job_type = ?", wanted.job_type)
    if wanted.created_after is not None:
        add("created_at >= ?", wanted.created_after)
    if wanted.created_before is not None:
        add("created_at < ?", wanted.created_before)
    if wanted.tag is not None:
        add(f"tags IS NOT NULL AND {tx.dialect.has_tag}", wanted.tag)
    if wanted.search is not None:
        literal = like_literal(wanted.search.lower())
        add(
            r"(lower(id) LIKE ? ESCAPE '\' OR lower(queue_name) LIKE ? ESCAPE '\' "
            r"OR lower(job_type) LIKE ? ESCAPE '\')",
            f"{literal}%",
            f"%{literal}%",
            f"%{literal}%",
        )
    return " AND ".join(where), params


def like_literal(text: str) -> str:
    """`text` for a LIKE pattern, with nothing in it meaning anything but itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def count_by_status(tx: Tx, principal: Principal, queue_name: str | None) -> dict[str, int]:
    """Return how many jobs are in each state, all states present, plus `total`."""
    scope, params = principal.queue_condition()
    where = "organization_id = ?" + scope
    if queue_name is not None:
        where += " AND queue_name = ?"
        params = [*params, queue_name]
    counts = dict.fromkeys(ALL, 0)
    # By queue as well, because the index is in that order: half the time, as nothing needs to be sorted.
    for _, status, count in tx.select(
        f"SELECT queue_name, status, COUNT(*) FROM jobs WHERE {where} GROUP BY queue_name, status",  # noqa: S608
        (principal.organization_id, *params),
    ):
        counts[status] += count
    counts["total"] = sum(counts.values())
    return counts


def statuses_of(tx: Tx, principal: Principal, job_ids: Sequence[str]) -> list[Row]:
    """Id, status, queue_name, retry_count, created_at, completed_at of those that exist."""
    scope, names = principal.queue_condition()
    return tx.select(
        "SELECT id, status, queue_name, retry_count, created_at, completed_at FROM jobs "  # noqa: S608
        f"WHERE organization_id = ?{scope} AND id IN ({', '.join('?' * len(job_ids))})",
        (principal.organization_id, *names, *job_ids),
    )
