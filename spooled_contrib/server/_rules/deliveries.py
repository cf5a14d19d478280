"""The outbox of webhooks: what is to be sent, and what became of it (contract section 9).

A delivery is a row that is written in the transaction of the change it tells about, so that neither is ever there
without the other. How rows are taken and sent is in `attempts`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._events import DELIVERIES_DUE
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import text

PENDING = "pending"
SUCCESS = "success"
FAILED = "failed"
STATUSES = frozenset({PENDING, SUCCESS, FAILED})

MOST_ATTEMPTS = 10
"""A delivery that was tried this often, by itself and by hand, is not tried again."""

_encode = msgspec.json.Encoder().encode

_INSERT = (
    "INSERT INTO webhook_deliveries (id, organization_id, webhook_id, url, secret, event, payload, status, "
    "next_attempt_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)"
)
COLUMNS = (
    "id, webhook_id, event, payload, status, status_code, response_body, error, attempts, created_at, "
    "delivered_at"
)


def envelope(delivery_id: str, event: str, now: int, data: Any) -> str:
    """The JSON that is sent, and that the list of deliveries shows."""
    return _encode({"id": delivery_id, "event": event, "created_at": text(now), "data": data}).decode()


def enqueue(
    tx: Tx,
    organization_id: str,
    event: str,
    items: Iterable[Any],
    *,
    webhook_ids: Sequence[str | None] = (None,),
    url: str | None = None,
    secret: str | None = None,
) -> None:
    """Put one delivery for each item and webhook in the outbox; for no webhook, `url` and `secret` say where to."""
    now = tx.now
    rows = []
    for data in items:
        for webhook_id in webhook_ids:
            delivery_id = str(uuid.uuid4())
            payload = envelope(delivery_id, event, now, data)
            rows.append((delivery_id, organization_id, webhook_id, url, secret, event, payload, now, now))
    tx.execute_many(_INSERT, rows)
    tx.emit(DELIVERIES_DUE)


def result_json(result: str | None) -> Raw | None:
    """Return a job's stored result as it goes into `data`."""
    return None if result is None else Raw(result.encode())


def list_deliveries(tx: Tx, webhook_id: str, status: str | None, limit: int, offset: int) -> list[Row]:
    """`COLUMNS`, the newest first."""
    where, params = "webhook_id = ?", [webhook_id]
    if status is not None:
        where += " AND status = ?"
        params.append(status)
    return tx.select(
        f"SELECT {COLUMNS} FROM webhook_deliveries WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?",  # noqa: S608
        (*params, limit, offset),
    )


def retry(tx: Tx, webhook_id: str, delivery_id: str) -> str:
    """Try a failed delivery once more, as soon as possible; a sentence about what happens now.

    Raises:
        RefusalError: 404 when unknown; 400 when it arrived, or was tried too often.
    """
    row = tx.select_one(
        "SELECT status, attempts FROM webhook_deliveries WHERE id = ? AND webhook_id = ?",
        (delivery_id, webhook_id),
    )
    if row is None:
        raise refuse.not_found()
    status, attempts = row
    if status == SUCCESS:
        raise refuse.bad_request("The delivery was successful already")
    if attempts >= MOST_ATTEMPTS:
        raise refuse.bad_request(f"The delivery was tried {attempts} times; {MOST_ATTEMPTS} is the most")
    if status == PENDING:
        return "The delivery is pending; it is tried by itself"
    tx.execute(
        "UPDATE webhook_deliveries SET status = 'pending', next_attempt_at = ?, claim = NULL WHERE id = ?",
        (tx.now, delivery_id),
    )
    tx.emit(DELIVERIES_DUE)
    return "The delivery is queued for another attempt"


def delete_old(tx: Tx, whose: str, params: Sequence[str], before: int, limit: int) -> int:
    """Deliveries that ended and were made before that time, and inbound ones; how many of the larger part.

    Args:
        whose: A constant SQL condition on `organization_id`, with `params`.
        limit: At most this many of each, the oldest first.
    """
    outgoing = tx.execute(
        "DELETE FROM webhook_deliveries WHERE seq IN (SELECT seq FROM webhook_deliveries "  # noqa: S608
        f"WHERE created_at < ? AND status <> 'pending' AND {whose} ORDER BY created_at LIMIT ?)",
        (before, *params, limit),
    )
    inbound = tx.execute(
        "DELETE FROM ingest_deliveries WHERE seq IN (SELECT seq FROM ingest_deliveries "  # noqa: S608
        f"WHERE created_at < ? AND {whose} ORDER BY created_at LIMIT ?)",
        (before, *params, limit),
    )
    return max(outgoing, inbound)
