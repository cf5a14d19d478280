"""What `/metrics` counts. Counted with the change itself, and only if it is committed (contract section 2)."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._events import TALLY, Event
from spooled_contrib.server._storage import Tx

ENQUEUED: Final = "jobs_enqueued"
COMPLETED: Final = "jobs_completed"
FAILED: Final = "jobs_failed"
RETRIED: Final = "jobs_retried"
DEADLETTERED: Final = "jobs_deadlettered"
JOB_SECONDS: Final = "job_seconds"

NAMES: Final = (ENQUEUED, COMPLETED, FAILED, RETRIED, DEADLETTERED)


def count(tx: Tx, name: str, amount: int = 1) -> None:
    """Count something that this transaction does."""
    tx.emit(Event("", "", "", TALLY, {name: amount}))


def completed(tx: Tx, started_at: int | None) -> None:
    """Count a completed job, and how long its last execution took."""
    seconds = 0.0 if started_at is None else (tx.now - started_at) / 1_000_000
    tx.emit(Event("", "", "", TALLY, {COMPLETED: 1, JOB_SECONDS: seconds}))
