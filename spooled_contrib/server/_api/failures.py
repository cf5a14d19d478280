"""What is answered when an operation has failed and was not refused: the database's troubles, and mistakes of ours."""

from __future__ import annotations

import logging
import sqlite3

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._database_health import DatabaseHealth
from spooled_contrib.server._storage.errors import (
    DatabaseOutageError,
    OperationTimeoutError,
    StorageFailedError,
    UncertainCommitError,
)

logger = logging.getLogger("spooled.server")

OUTAGE_RETRY_SECONDS = 2
"""What a client is told to wait while the database cannot be used. It is probed each second."""


def refusal_of(health: DatabaseHealth, error: Exception, what: str) -> refuse.RefusalError:
    """Return the answer to a request that ended with this error, and log what nobody else does.

    Args:
        health: Told about a database that cannot be used.
        error: What was raised.
        what: The request, for the log.
    """
    if isinstance(error, refuse.RefusalError):
        return error
    if isinstance(error, RecursionError):
        return refuse.invalid_json("nested too deeply")
    if isinstance(error, DatabaseOutageError):
        # Said once, when it begins, by `DatabaseHealth`.
        health.refused(error)
        return refuse.unavailable(error.reason, retry_after=OUTAGE_RETRY_SECONDS)
    if isinstance(error, OperationTimeoutError):
        logger.info("%s: %s", what, error)
        return refuse.unavailable(error.reason, retry_after=None)
    if isinstance(error, UncertainCommitError):
        health.refused(error)
        # Not 503 and no Retry-After: sent again, it may be done twice.
        return refuse.RefusalError(500, "DATABASE_ERROR", error.reason.capitalize())
    if isinstance(error, sqlite3.Error | StorageFailedError):
        logger.error("the database failed on %s", what, exc_info=error)
        return refuse.RefusalError(500, "DATABASE_ERROR", "The database failed")
    logger.error("%s failed", what, exc_info=error)
    return refuse.RefusalError(500, "INTERNAL_ERROR", "The server failed")
