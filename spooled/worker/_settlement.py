"""What the server's answer to an ack or a heartbeat means. Pure: no I/O and no clock.

The rules are those of contract api-v1 §3.7: which misses mean that the lease is gone, and which mean that an
earlier attempt, whose answer was lost on the way, did arrive.
"""

from __future__ import annotations

import enum

from spooled.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    SpooledError,
    ValidationError,
    is_lease_expired,
)
from spooled.models import Job


class Operation(enum.StrEnum):
    """What a worker asks the server to do with a job that it holds."""

    COMPLETE = "complete"
    FAIL = "fail"
    HEARTBEAT = "heartbeat"


class Verdict(enum.Enum):
    """What to do after an answer."""

    DONE = enum.auto()
    """The server has accepted it on an earlier attempt, or so it seems: `was_ours` tells whether it was that one."""
    AGAIN = enum.auto()
    """Nothing is decided: try again while the lease lives."""
    LOST = enum.auto()
    """The lease belongs to nobody or to somebody else: never ack this execution."""
    REFUSED = enum.auto()
    """The server will not take this request however often it is sent, but the lease is still ours."""


def judge(operation: Operation, error: SpooledError, *, replay: bool) -> Verdict:
    """Classify a failed attempt.

    Args:
        operation: What was asked for.
        error: What came back.
        replay: An earlier attempt of the same operation may have reached the server.
    """
    match error:
        case NotFoundError():
            # A fail that landed clears the assignment, so its replay finds nothing. For the others, nothing
            # found means that the server took the job back.
            return Verdict.DONE if replay and operation is Operation.FAIL else Verdict.LOST
        case ConflictError() if is_lease_expired(error):
            return Verdict.LOST
        case ConflictError():
            # "Job is already completed", and still assigned to this worker: by an earlier attempt, if there was one.
            completed = operation is Operation.COMPLETE and "already completed" in error.message.lower()
            return Verdict.DONE if replay and completed else Verdict.LOST
        case ValidationError() | PayloadTooLargeError() | AuthenticationError() | AuthorizationError():
            return Verdict.REFUSED
        case RateLimitError():
            # A quota answer to an ack is in no contract; like a rate limit it is about now, not about this ack.
            return Verdict.AGAIN
        case _ if error.is_retryable() or error.status_code >= 500 or error.status_code in (0, 408):
            return Verdict.AGAIN
        case _:
            return Verdict.REFUSED


def was_ours(operation: Operation, job: Job, *, lease_id: str, error: str | None) -> bool:
    """Whether a job that seems to be settled was settled by this execution, and not by a later run of the same worker.

    Args:
        operation: What was asked for.
        job: The job as it is now.
        lease_id: The execution's lease. The server leaves it on a job that is completed under it.
        error: The error text that was sent with a fail; kept on the job, also when a later run completes it.
    """
    if operation is Operation.COMPLETE:
        return job.lease_id == lease_id
    return job.last_error == error


def may_have_arrived(error: SpooledError) -> bool:
    """Whether a failed attempt may all the same have been carried out by the server."""
    return error.status_code == 0 or error.status_code == 408 or error.status_code >= 500


def is_fatal_for_claims(error: SpooledError) -> bool:
    """Whether asking for work again with the same key and the same arguments is pointless."""
    return isinstance(error, AuthenticationError | AuthorizationError | ValidationError)
