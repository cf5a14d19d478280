"""The register of workers (contract section 5, lifecycle section 10). Informational: a claim does not ask it."""

from __future__ import annotations

import uuid

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import quotas, webhooks
from spooled_contrib.server._storage import Row, Tx

HEALTHY = "healthy"
OFFLINE = "offline"

COLUMNS = (
    "id, organization_id, queue_name, hostname, worker_type, max_concurrency, current_jobs, status, last_heartbeat, "
    "metadata, version, registered_at, updated_at, jobs_processed, jobs_failed"
)


class NewWorker(Struct, kw_only=True):
    """A registration, already checked."""

    queue_name: str
    hostname: str
    worker_id: str | None
    worker_type: str | None
    max_concurrency: int
    metadata: str
    version: str | None


def register(tx: Tx, principal: Principal, limits: Limits, worker: NewWorker) -> str:
    """Add a worker, or bring back one of the same id with everything refreshed; its id."""
    principal.require_queue(worker.queue_name)
    organization_id = principal.organization_id
    worker_id = worker.worker_id or str(uuid.uuid4())
    # Whose an id is must not change between the question and the answer.
    tx.serialize(f"worker:{worker_id}")
    known = tx.select_one(
        "SELECT organization_id, status, queue_name FROM workers WHERE id = ?", (worker_id,)
    )
    if known is not None and (known[0] != organization_id or not principal.may_use(known[2])):
        # One text for both: whose it is must not be told.
        raise refuse.conflict(f"The worker id {worker_id!r} is taken; register with another one")
    if known is None or known[1] not in ("healthy", "degraded"):
        quotas.check_worker(tx, organization_id, limits)
    tx.execute(
        "INSERT INTO workers (id, organization_id, queue_name, hostname, worker_type, max_concurrency, current_jobs, "
        "status, metadata, version, last_heartbeat, registered_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?, 0, 'healthy', ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET queue_name = excluded.queue_name, hostname = excluded.hostname, "
        "worker_type = excluded.worker_type, max_concurrency = excluded.max_concurrency, status = 'healthy', "
        "metadata = excluded.metadata, version = excluded.version, last_heartbeat = excluded.last_heartbeat, "
        "updated_at = excluded.updated_at",
        (
            worker_id,
            organization_id,
            worker.queue_name,
            worker.hostname,
            worker.worker_type,
            worker.max_concurrency,
            worker.metadata,
            worker.version,
            tx.now,
            tx.now,
            tx.now,
        ),
    )
    webhooks.emit(
        tx,
        organization_id,
        webhooks.WORKER_REGISTERED,
        {"worker_id": worker_id, "queue_name": worker.queue_name, "hostname": worker.hostname},
    )
    return worker_id


def status_after_heartbeat(current: str, reported: str | None) -> str:
    """Without a report the status stays, except that a beating worker is not offline."""
    if reported is not None:
        return reported
    return HEALTHY if current == OFFLINE else current


def heartbeat(
    tx: Tx, principal: Principal, worker_id: str, current_jobs: int, status: str | None, metadata: str | None
) -> None:
    current = _row(tx, principal, worker_id, tx.dialect.for_update)[7]
    tx.execute(
        "UPDATE workers SET current_jobs = ?, status = ?, metadata = COALESCE(?, metadata), last_heartbeat = ?, "
        "updated_at = ? WHERE id = ?",
        (current_jobs, status_after_heartbeat(current, status), metadata, tx.now, tx.now, worker_id),
    )


def deregister(tx: Tx, principal: Principal, worker_id: str) -> None:
    """Mark a worker as gone. Jobs whose lease is live stay with it: it must ack them before it leaves."""
    worker = _row(tx, principal, worker_id, tx.dialect.for_update)
    if worker[7] != OFFLINE:
        data = {"worker_id": worker_id, "queue_name": worker[2]}
        webhooks.emit(tx, principal.organization_id, webhooks.WORKER_DEREGISTERED, data)
    tx.execute(
        "UPDATE workers SET status = 'offline', current_jobs = 0, updated_at = ? WHERE id = ?",
        (tx.now, worker_id),
    )


def get_worker(tx: Tx, principal: Principal, worker_id: str) -> Row:
    return _row(tx, principal, worker_id)


def list_workers(tx: Tx, principal: Principal) -> list[Row]:
    """At most 100, the last heartbeat first, offline ones included."""
    scope, names = principal.queue_condition()
    return tx.select(
        f"SELECT {COLUMNS} FROM workers WHERE organization_id = ?{scope} "  # noqa: S608
        "ORDER BY last_heartbeat DESC, id LIMIT 100",
        (principal.organization_id, *names),
    )


def _row(tx: Tx, principal: Principal, worker_id: str, lock: str = "") -> Row:
    scope, names = principal.queue_condition()
    row = tx.select_one(
        f"SELECT {COLUMNS} FROM workers WHERE id = ? AND organization_id = ?{scope}{lock}",  # noqa: S608
        (worker_id, principal.organization_id, *names),
    )
    if row is None:
        raise refuse.not_found()
    return row
