"""What a storage raises."""

from __future__ import annotations


class StorageFailedError(Exception):
    """The database refused an operation for a reason that is not one of those below. Nothing was committed.

    Args:
        detail: What the database said; for the log.
        reason: The cause in a few words without names, paths or secrets; for clients, and the same for the same cause.
    """

    default_reason = "the database failed"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason or self.default_reason


class DatabaseOutageError(StorageFailedError):
    """The database cannot be used at the moment, for whatever operation. Nothing was committed.

    Args:
        slow: It takes seconds to find that out, so that it is better not to try with each request.
    """

    default_reason = "the database cannot be used"

    def __init__(self, detail: str, *, reason: str | None = None, slow: bool = False) -> None:
        super().__init__(detail, reason=reason)
        self.slow = slow

    def again(self) -> DatabaseOutageError:
        """Return an equal error: one that several tasks raise would collect the tracebacks of all."""
        return type(self)(str(self), reason=self.reason, slow=self.slow)


class OperationTimeoutError(StorageFailedError):
    """One operation took too long and was stopped; others may do well. Nothing was committed."""

    default_reason = "the operation took too long and was stopped"


class UncertainCommitError(StorageFailedError):
    """The database failed during the commit. The operation may have been committed or not."""

    default_reason = "the database failed during the commit, so the change was made or was not"


class StorageUnavailableError(Exception):
    """The database cannot be opened or used. The message is one line for a human."""
