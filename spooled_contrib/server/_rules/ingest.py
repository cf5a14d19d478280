"""Jobs that other systems send in with an organization's webhook token (contract section 10)."""

from __future__ import annotations

import hmac
import uuid

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import creation, organizations
from spooled_contrib.server._storage import Row, Tx

PROVIDER = "custom"
SOURCE = "incoming_webhook"
CREATED = "created"
DUPLICATE = "duplicate"
STATUSES = frozenset({CREATED, DUPLICATE})

COLUMNS = "id, provider, event_type, matched_queue, job_id, status, created_at"


class DeliveryFilter(Struct, kw_only=True):
    """What `GET /webhooks/deliveries` can ask for. None does not restrict."""

    status: str | None = None
    since: int | None = None
    queue_name: str | None = None
    limit: int = 50
    offset: int = 0


def check_token(tx: Tx, organization_id: str, token: str | None) -> None:
    """Let in whoever knows the organization's token.

    Raises:
        RefusalError: 404 for an unknown organization; 401 for a token that is missing, wrong or not configured.
    """
    organizations.get(tx, organization_id)
    wanted = organizations.webhook_token(tx, organization_id)
    if wanted is None or token is None or not hmac.compare_digest(wanted.encode(), token.encode()):
        raise refuse.authentication_failed(
            "Send the organization's webhook token in the header X-Webhook-Token"
        )


def ingest(tx: Tx, organization_id: str, limits: Limits, job: creation.NewJob, event_type: str) -> Row:
    """Make a job of what came in, and log it; id, queue and status of the job as it is stored.

    A known idempotency key leads to the job that has it, whatever queue that is in. A new queue is not charged.
    """
    everything = Principal(organization_id, "", None)
    (made,) = creation.create_jobs(tx, everything, limits, [job], source=SOURCE, queue_cap=False)
    row = tx.select_one("SELECT id, queue_name, status FROM jobs WHERE id = ?", (made.id,))
    assert row is not None
    tx.execute(
        f"INSERT INTO ingest_deliveries (organization_id, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            organization_id,
            str(uuid.uuid4()),
            PROVIDER,
            event_type,
            job.queue_name,
            made.id,
            CREATED if made.created else DUPLICATE,
            tx.now,
        ),
    )
    return row


def list_deliveries(tx: Tx, organization_id: str, wanted: DeliveryFilter) -> list[Row]:
    """`COLUMNS`, the newest first."""
    where: list[str] = ["organization_id = ?"]
    params: list[object] = [organization_id]
    for condition, value in (
        ("status = ?", wanted.status),
        ("created_at >= ?", wanted.since),
        ("matched_queue = ?", wanted.queue_name),
    ):
        if value is not None:
            where.append(condition)
            params.append(value)
    return tx.select(
        f"SELECT {COLUMNS} FROM ingest_deliveries WHERE {' AND '.join(where)} "  # noqa: S608
        "ORDER BY seq DESC LIMIT ? OFFSET ?",
        (*params, wanted.limit, wanted.offset),
    )
