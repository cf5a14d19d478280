"""One row for each thing that happened to a job. The set of `event_type` is open (contract section 3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from spooled_contrib.server._storage import Row, Tx

_INSERT = (
    "INSERT INTO job_history (job_id, event_type, worker_id, details, created_at) VALUES (?, ?, ?, ?, ?)"
)
_encode = msgspec.json.Encoder().encode


def details_text(details: dict[str, Any]) -> str:
    return _encode(details).decode()


def record(tx: Tx, job_id: str, event_type: str, worker_id: str | None, details: dict[str, Any]) -> None:
    tx.execute(_INSERT, (job_id, event_type, worker_id, details_text(details), tx.now))


def record_many(tx: Tx, event_type: str, rows: Iterable[tuple[str, str | None, dict[str, Any]]]) -> None:
    """Record the same event for many jobs: (job id, worker id, details) each."""
    now = tx.now
    tx.execute_many(
        _INSERT, [(job, event_type, worker, details_text(details), now) for job, worker, details in rows]
    )


def list_history(tx: Tx, job_id: str, *, descending: bool, limit: int, offset: int) -> list[Row]:
    direction = "DESC" if descending else "ASC"
    return tx.select(
        "SELECT seq, job_id, event_type, worker_id, details, created_at FROM job_history WHERE job_id = ? "  # noqa: S608
        f"ORDER BY seq {direction} LIMIT ? OFFSET ?",
        (job_id, limit, offset),
    )
