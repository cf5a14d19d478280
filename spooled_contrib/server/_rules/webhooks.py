"""Outgoing webhooks of an organization, and the events they are told about (contract section 9)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._rules import deliveries, quotas
from spooled_contrib.server._rules.statuses import DEADLETTER
from spooled_contrib.server._storage import Row, Tx

JOB_CREATED = "job.created"
JOB_STARTED = "job.started"
JOB_COMPLETED = "job.completed"
JOB_FAILED = "job.failed"
JOB_CANCELLED = "job.cancelled"
JOB_DEADLETTERED = "job.deadlettered"
JOB_RETRIED = "job.retried"
QUEUE_PAUSED = "queue.paused"
QUEUE_RESUMED = "queue.resumed"
WORKER_REGISTERED = "worker.registered"
WORKER_DEREGISTERED = "worker.deregistered"
SCHEDULE_TRIGGERED = "schedule.triggered"
WORKFLOW_COMPLETED = "workflow.completed"
WORKFLOW_FAILED = "workflow.failed"

EVENTS = frozenset(
    {
        JOB_CREATED,
        JOB_STARTED,
        JOB_COMPLETED,
        JOB_FAILED,
        JOB_CANCELLED,
        JOB_DEADLETTERED,
        JOB_RETRIED,
        QUEUE_PAUSED,
        QUEUE_RESUMED,
        WORKER_REGISTERED,
        WORKER_DEREGISTERED,
        SCHEDULE_TRIGGERED,
        WORKFLOW_COMPLETED,
        WORKFLOW_FAILED,
    }
)
FORMATS = frozenset({"json", "slack", "discord", "teams"})

COLUMNS = (
    "id, organization_id, name, url, events, format, enabled, failure_count, last_triggered_at, last_status, "
    "created_at, updated_at"
)


class Change(Struct, kw_only=True):
    """What to set. None keeps; for the secret, whose None clears, UNSET keeps."""

    name: str | None = None
    url: str | None = None
    events: list[str] | None = None
    format: str | None = None
    enabled: bool | None = None
    secret: str | UnsetType | None = UNSET

    def __repr__(self) -> str:
        return f"Change(name={self.name!r}, events={self.events!r}, format={self.format!r}, enabled={self.enabled!r})"


def emit(tx: Tx, organization_id: str, event: str, data: Any) -> None:
    """Tell the organization's webhooks about something that this transaction does.

    Args:
        event: One of the names above.
        data: What the contract's table says for the event; anything that JSON can hold.
    """
    emit_each(tx, organization_id, event, (data,))


def emit_each(tx: Tx, organization_id: str, event: str, items: Iterable[Any]) -> None:
    """The same event once for each item. `items` is only looked at when somebody wants to know."""
    # One probe of an index that holds enabled webhooks only: all that it costs those who have none.
    rows = tx.select(
        "SELECT id, events FROM webhooks WHERE organization_id = ? AND enabled = 1", (organization_id,)
    )
    if not rows:
        return
    wanting = [webhook_id for webhook_id, events in rows if event in json.loads(events)]
    if wanting:
        deliveries.enqueue(tx, organization_id, event, items, webhook_ids=wanting)


def job_died(tx: Tx, organization_id: str, queue_name: str, job_id: str, error: str) -> dict[str, Any]:
    """A job went to the dead-letter queue, by whatever cause; the data that was sent."""
    data = {"job_id": job_id, "queue_name": queue_name, "status": DEADLETTER, "error": error}
    emit(tx, organization_id, JOB_FAILED, data)
    emit(tx, organization_id, JOB_DEADLETTERED, data)
    return data


def list_webhooks(tx: Tx, organization_id: str) -> list[Row]:
    """`COLUMNS`, the newest first."""
    return tx.select(
        f"SELECT {COLUMNS} FROM webhooks WHERE organization_id = ? ORDER BY created_at DESC, id",  # noqa: S608
        (organization_id,),
    )


def get(tx: Tx, organization_id: str, webhook_id: str) -> Row:
    """`COLUMNS`, and the secret after them.

    Raises:
        RefusalError: 404 when unknown or of another organization.
    """
    row = tx.select_one(
        f"SELECT {COLUMNS}, secret FROM webhooks WHERE id = ? AND organization_id = ?",  # noqa: S608
        (webhook_id, organization_id),
    )
    if row is None:
        raise refuse.not_found()
    return row


def create(tx: Tx, organization_id: str, limits: Limits, new: Change) -> Row:
    """Add a webhook; `COLUMNS`. A disabled one costs no quota."""
    enabled = new.enabled is not False
    if enabled:
        quotas.check_webhook(tx, organization_id, limits)
    return tx.change(
        "INSERT INTO webhooks (id, organization_id, name, url, events, secret, format, enabled, created_at, "  # noqa: S608
        f"updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}",
        (
            str(uuid.uuid4()),
            organization_id,
            new.name,
            new.url,
            json.dumps(new.events),
            new.secret or None,
            new.format or "json",
            int(enabled),
            tx.now,
            tx.now,
        ),
    )[0]


def change(tx: Tx, organization_id: str, limits: Limits, webhook_id: str, change: Change) -> Row:
    """Change a webhook; `COLUMNS`. One that is enabled again starts with a clean record."""
    row = get(tx, organization_id, webhook_id)
    enabling = bool(change.enabled and not row[6])
    if enabling:
        quotas.check_webhook(tx, organization_id, limits)
    return tx.change(
        "UPDATE webhooks SET name = COALESCE(?, name), url = COALESCE(?, url), events = COALESCE(?, events), "  # noqa: S608
        "format = COALESCE(?, format), enabled = COALESCE(?, enabled), secret = ?, failure_count = ?, updated_at = ? "
        f"WHERE id = ? RETURNING {COLUMNS}",
        (
            change.name,
            change.url,
            None if change.events is None else json.dumps(change.events),
            change.format,
            None if change.enabled is None else int(change.enabled),
            row[12] if change.secret is UNSET else change.secret or None,
            0 if enabling else row[7],
            tx.now,
            webhook_id,
        ),
    )[0]


def delete(tx: Tx, organization_id: str, webhook_id: str) -> None:
    """Delete a webhook with its log; what was not delivered is not going to be."""
    get(tx, organization_id, webhook_id)
    tx.execute("DELETE FROM webhook_deliveries WHERE webhook_id = ?", (webhook_id,))
    tx.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,))
