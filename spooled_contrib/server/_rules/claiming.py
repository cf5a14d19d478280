"""Handing jobs to workers (contract section 3.7, lifecycle section 2)."""

from __future__ import annotations

import uuid
from functools import cache

from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import events, history, webhooks
from spooled_contrib.server._storage import Dialect, Row, Tx
from spooled_contrib.server._times import SECOND

# Jobs whose time has come since they were put to sleep. Finding none costs one index probe.
_WAKE = """
UPDATE jobs SET ready = 1
WHERE {chosen}
"""
_ASLEEP = """
    SELECT seq FROM jobs
    WHERE organization_id = ? AND queue_name = ? AND ready = 0 AND dependencies_met = 1
      AND status IN ('pending', 'scheduled') AND COALESCE(scheduled_at, 0) <= ?{skip_locked}
"""

# `ready` is only an aid: the eligibility rule is repeated in full, so a wrong flag could delay a job, never run one.
_CLAIM = """
UPDATE jobs
SET status = 'processing', ready = 0, assigned_worker_id = ?, lease_id = ? || id, lease_expires_at = ?,
    started_at = ?, updated_at = ?
WHERE {chosen}
RETURNING id, queue_name, payload, retry_count, max_retries, timeout_seconds, lease_expires_at, lease_id,
    priority, created_at, seq
"""
_READY = """
    SELECT seq FROM jobs
    WHERE organization_id = ? AND queue_name = ? AND ready = 1
      AND status IN ('pending', 'scheduled') AND dependencies_met = 1
      AND (scheduled_at IS NULL OR scheduled_at <= ?) AND (expires_at IS NULL OR expires_at > ?)
      AND NOT EXISTS (SELECT 1 FROM queue_config WHERE organization_id = ? AND queue_name = ? AND enabled = 0)
    ORDER BY priority DESC, created_at ASC, seq ASC
    LIMIT ?{skip_locked}
"""


@cache
def _statements(dialect: Dialect) -> tuple[str, str]:
    """Return how to wake and how to claim. Rows that somebody else holds are left to them, so claimers never wait."""
    asleep, ready = (
        dialect.any_of.format(column="seq", select=select.format(skip_locked=dialect.skip_locked))
        for select in (_ASLEEP, _READY)
    )
    return _WAKE.format(chosen=asleep), _CLAIM.format(chosen=ready)


def claim(
    tx: Tx, principal: Principal, queue_name: str, worker_id: str, limit: int, lease_seconds: int
) -> list[Row]:
    """Lease up to `limit` jobs: priority first, then age, then the order in which they came.

    Returns:
        Rows of id, queue_name, payload, retry_count, max_retries, timeout_seconds, lease_expires_at, lease_id, and
        then what they are ordered by.
    """
    principal.require_queue(queue_name)
    organization_id = principal.organization_id
    now = tx.now
    wake, take = _statements(tx.dialect)
    tx.execute_many(wake, [(organization_id, queue_name, now)])
    # One random id a claim, completed by the job's own id: unique for each lease, and one statement for all.
    lease_prefix = f"{uuid.uuid4()}-"
    rows = tx.change(
        take,
        (
            worker_id,
            lease_prefix,
            now + lease_seconds * SECOND,
            now,
            now,
            organization_id,
            queue_name,
            now,
            now,
            organization_id,
            queue_name,
            limit,
        ),
    )
    if not rows:
        return rows
    rows.sort(key=_claim_order)
    batch = len(rows) > 1
    history.record_many(
        tx,
        "claimed",
        [
            (
                row[0],
                worker_id,
                {
                    "organization_id": organization_id,
                    "worker_id": worker_id,
                    "lease_id": row[7],
                    "batch_claim": batch,
                },
            )
            for row in rows
        ],
    )
    webhooks.emit_each(
        tx,
        organization_id,
        webhooks.JOB_STARTED,
        ({"job_id": row[0], "queue_name": queue_name, "worker_id": worker_id} for row in rows),
    )
    if tx.listening:
        for row in rows:
            events.touched(tx, organization_id, queue_name, row[0])
    return rows


def _claim_order(row: Row) -> tuple[int, int, int]:
    # A statement's RETURNING promises no order.
    return (-row[8], row[9], row[10])
