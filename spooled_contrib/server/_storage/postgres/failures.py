"""Tell what a failure of PostgreSQL means: an outage, one operation that took too long, or a mistake in a statement."""

from __future__ import annotations

import psycopg
from psycopg import errors

from spooled_contrib.server._storage.errors import (
    DatabaseOutageError,
    OperationTimeoutError,
    StorageFailedError,
    UncertainCommitError,
)

SILENT = "the database does not answer"
UNREACHABLE = "the database cannot be reached"

_TOO_LONG = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.QueryCanceled,
)
# By the first characters of the SQLSTATE.
_OUTAGES = {
    "25006": "the database is read-only",
    "53100": "the disk of the database is full",
    "53": "the database has no resources left",
    "57P": "the database is being shut down or started",
    "58": "the disk of the database failed to read or write",
    "XX001": "the database is damaged",
    "XX002": "the database is damaged",
}


def classify(
    error: psycopg.Error, *, lost: bool, silent: bool, uncertain: bool, reader: bool
) -> StorageFailedError:
    """Return what the caller of an operation is told.

    Args:
        lost: There is no connection any more.
        silent: It was given up, because no answer came.
        uncertain: That happened during the commit.
        reader: The transaction was read-only on purpose.
    """
    detail = " ".join(str(error).split()) or type(error).__name__
    if silent:
        detail = f"{SILENT} ({detail})"
    if uncertain:
        return UncertainCommitError(detail)
    if lost:
        return DatabaseOutageError(detail, reason=SILENT if silent else UNREACHABLE, slow=True)
    if isinstance(error, _TOO_LONG):
        return OperationTimeoutError(detail)
    state = error.sqlstate or ""
    for length in (5, 3, 2):
        reason = _OUTAGES.get(state[:length])
        if reason is not None and not (reader and state == "25006"):
            return DatabaseOutageError(detail, reason=reason)
    return StorageFailedError(detail)
