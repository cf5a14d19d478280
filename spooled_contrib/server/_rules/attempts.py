"""Who sends a delivery, how often, and what is written down about each attempt (contract section 9).

A sender leases rows of the outbox: `next_attempt_at` is moved behind the end of the attempt and `claim` names the
taker. So several servers on one database never send the same delivery at the same time, and what a dead one had taken
becomes due again by itself.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from spooled_contrib.server._rules.deliveries import FAILED, PENDING, SUCCESS
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import SECOND

WAITS = (1, 2, 4, 8)
"""Seconds between the attempts of a delivery; there is one attempt more than waits."""

DISABLED_AFTER = 20
"""A webhook whose deliveries failed this often in a row is disabled."""

IN_FLIGHT_EACH = 16
"""Deliveries to one webhook that one server sends at the same time: a receiver that hangs leaves room for others."""

LEASE = 30 * SECOND
"""How long a sender has a delivery for itself: well more than an attempt may take."""

# The condition is repeated outside, where a database with several writers looks at the row as it is by then.
_CLAIM = """
UPDATE webhook_deliveries SET claim = ?, next_attempt_at = ?
WHERE seq IN (
    SELECT seq FROM webhook_deliveries WHERE status = 'pending' AND next_attempt_at <= ?{others}
    ORDER BY next_attempt_at, seq LIMIT ?{skip_locked}
) AND status = 'pending' AND next_attempt_at <= ?
RETURNING id, webhook_id, url, secret, event, payload, attempts, seq
"""


class Delivery(Struct, kw_only=True):
    """A delivery that was taken to be sent. `webhook_id` is None for the completion webhook of a job."""

    id: str
    claim: str
    webhook_id: str | None
    url: str
    secret: str | None
    format: str
    event: str
    payload: str
    attempt: int
    """1 for the first."""

    def __repr__(self) -> str:
        # The address may hold a token, and the secret is one.
        return f"Delivery(id={self.id!r}, event={self.event!r}, attempt={self.attempt})"


class Outcome(Struct, frozen=True):
    """What an attempt came to. `error` is None when the receiver answered 2xx."""

    status_code: int | None = None
    response_body: str | None = None
    error: str | None = None
    final: bool = False
    """Trying again is pointless: the target is one that is never called."""


def next_due(tx: Tx) -> int | None:
    """When the next delivery is due, those that are being sent included; None when there is none."""
    row = tx.select_one("SELECT MIN(next_attempt_at) FROM webhook_deliveries WHERE status = 'pending'")
    return None if row is None else row[0]


def claim_due(tx: Tx, limit: int, in_flight: Mapping[str, int]) -> list[Delivery]:
    """Lease up to `limit` due deliveries, the oldest first. Those of a disabled webhook fail on the spot.

    Args:
        in_flight: How many deliveries the caller is sending already, by webhook.
    """
    claim = str(uuid.uuid4())
    busy = sorted(webhook_id for webhook_id, count in in_flight.items() if count >= IN_FLIGHT_EACH)
    others = ""
    if busy:
        others = f" AND (webhook_id IS NULL OR webhook_id NOT IN ({', '.join('?' * len(busy))}))"
    rows = tx.change(
        _CLAIM.format(others=others, skip_locked=tx.dialect.skip_locked),
        (claim, tx.now + LEASE, tx.now, *busy, limit, tx.now),
    )
    sending = Counter(in_flight)
    given_up = False
    hooks = _webhooks(tx, {row[1] for row in rows if row[1] is not None})
    taken = []
    for delivery_id, webhook_id, url, secret, event, payload, attempts, _ in sorted(rows, key=_by_seq):
        format_ = "json"
        if webhook_id is not None:
            if webhook_id not in hooks:
                _give_up(tx, delivery_id, "the webhook is disabled")
                given_up = True
                continue
            if sending[webhook_id] >= IN_FLIGHT_EACH:
                _put_back(tx, delivery_id, claim)
                continue
            sending[webhook_id] += 1
            url, secret, format_ = hooks[webhook_id]
        taken.append(
            Delivery(
                id=delivery_id,
                claim=claim,
                webhook_id=webhook_id,
                url=url,
                secret=secret,
                format=format_,
                event=event,
                payload=payload,
                attempt=attempts + 1,
            )
        )
    # A whole batch may have been for webhooks that are disabled; what is due behind it must not wait.
    return claim_due(tx, limit, in_flight) if given_up and not taken else taken


def _by_seq(row: Row) -> int:
    return int(row[7])


def _webhooks(tx: Tx, ids: set[str]) -> dict[str, tuple[str, str | None, str]]:
    if not ids:
        return {}
    rows = tx.select(
        f"SELECT id, url, secret, format FROM webhooks WHERE enabled = 1 AND id IN ({', '.join('?' * len(ids))})",  # noqa: S608
        sorted(ids),
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _give_up(tx: Tx, delivery_id: str, error: str) -> None:
    tx.execute(
        "UPDATE webhook_deliveries SET status = 'failed', error = ?, claim = NULL WHERE id = ?",
        (error, delivery_id),
    )


def after_attempt(outcome: Outcome, attempt: int, *, once: bool) -> tuple[str, int]:
    """Return the delivery's status, and for a pending one the seconds until it is tried again."""
    if outcome.error is None:
        return SUCCESS, 0
    if once or outcome.final or attempt > len(WAITS):
        return FAILED, 0
    return PENDING, WAITS[attempt - 1]


def settle(tx: Tx, delivery: Delivery, outcome: Outcome) -> bool:
    """Write down what an attempt came to. False when the lease had ended and somebody else has the delivery now."""
    now = tx.now
    status, wait = after_attempt(outcome, delivery.attempt, once=delivery.webhook_id is None)
    changed = tx.execute(
        "UPDATE webhook_deliveries SET status = ?, attempts = ?, status_code = ?, response_body = ?, error = ?, "
        "next_attempt_at = ?, delivered_at = ?, claim = NULL WHERE id = ? AND claim = ?",
        (
            status,
            delivery.attempt,
            outcome.status_code,
            outcome.response_body,
            outcome.error,
            now + wait * SECOND,
            now if status == SUCCESS else None,
            delivery.id,
            delivery.claim,
        ),
    )
    if changed and delivery.webhook_id is not None:
        _note(tx, delivery.webhook_id, status)
    return bool(changed)


def _note(tx: Tx, webhook_id: str, status: str) -> None:
    if status == SUCCESS:
        tx.execute(
            "UPDATE webhooks SET failure_count = 0, last_status = 'success', last_triggered_at = ? WHERE id = ?",
            (tx.now, webhook_id),
        )
    elif status == PENDING:
        tx.execute("UPDATE webhooks SET last_triggered_at = ? WHERE id = ?", (tx.now, webhook_id))
    else:
        tx.execute(
            "UPDATE webhooks SET failure_count = failure_count + 1, last_triggered_at = ?, "
            "last_status = CASE WHEN failure_count + 1 >= ? THEN 'auto_disabled' ELSE 'failed' END, "
            "enabled = CASE WHEN failure_count + 1 >= ? THEN 0 ELSE enabled END WHERE id = ?",
            (tx.now, DISABLED_AFTER, DISABLED_AFTER, webhook_id),
        )


def release(tx: Tx, deliveries: Sequence[Delivery]) -> None:
    """Give back what was taken and not settled, so that the next server need not wait for the lease to end."""
    for delivery in deliveries:
        _put_back(tx, delivery.id, delivery.claim)


def _put_back(tx: Tx, delivery_id: str, claim: str) -> None:
    tx.execute(
        "UPDATE webhook_deliveries SET claim = NULL, next_attempt_at = ? WHERE id = ? AND claim = ?",
        (tx.now, delivery_id, claim),
    )
