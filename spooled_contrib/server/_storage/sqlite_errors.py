"""Tell an outage of a SQLite file from a mistake in a statement, and say it in words without paths."""

from __future__ import annotations

import sqlite3

from spooled_contrib.server._storage.errors import DatabaseOutageError, UncertainCommitError

FULL = "the disk is full"
DAMAGED = "the database file is damaged"
LOCKED = "another process keeps the database locked"
UNWRITABLE = "the database file cannot be written"

_REASONS = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_READONLY: UNWRITABLE,
    sqlite3.SQLITE_PERM: UNWRITABLE,
    sqlite3.SQLITE_NOMEM: "the server has no memory left",
}

# The commit record was written, and only its way to the disk failed.
_UNCERTAIN = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def outage_of(error: BaseException) -> DatabaseOutageError | None:
    """Return the outage that an error stands for; None when it is about the statement."""
    code = _code(error)
    reason = None if code is None else _REASONS.get(code & 0xFF)
    if reason is None:
        return None
    return DatabaseOutageError(f"{reason} ({error})", reason=reason, slow=reason == LOCKED)


def uncertain_commit(error: BaseException) -> UncertainCommitError | None:
    """Return what is told after a commit that failed so that its outcome is not known."""
    return UncertainCommitError(str(error)) if _code(error) in _UNCERTAIN else None


def is_interrupt(error: BaseException) -> bool:
    """Return whether the statement was stopped with `interrupt()`."""
    code = _code(error)
    return code is not None and code & 0xFF == sqlite3.SQLITE_INTERRUPT


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return code if isinstance(code, int) else None
