"""The states of a job (lifecycle contract, section 1)."""

from __future__ import annotations

from typing import Final

PENDING: Final = "pending"
SCHEDULED: Final = "scheduled"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
DEADLETTER: Final = "deadletter"
CANCELLED: Final = "cancelled"

ALL: Final = (PENDING, SCHEDULED, PROCESSING, COMPLETED, FAILED, DEADLETTER, CANCELLED)
WAITING: Final = frozenset({PENDING, SCHEDULED})
ACTIVE: Final = frozenset({PENDING, SCHEDULED, PROCESSING})
TERMINAL: Final = frozenset({COMPLETED, FAILED, DEADLETTER, CANCELLED})
REVIVABLE: Final = frozenset({FAILED, DEADLETTER})
NEVER_COMPLETES: Final = frozenset({FAILED, DEADLETTER, CANCELLED})
"""A dependency in one of these will not complete by itself."""
