"""Classify the server's answer to an ack or a heartbeat. Pure: no I/O and no clock.

The rules are those of contract api-v1 §3.7: which misses mean that the lease is gone, and which mean that an
earlier attempt, whose answer was lost on the way, did arrive.
"""

from __future__ import annotations

import enum

from spooled._http._acks import is_completed_already
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
    """What a worker asks the server for: for itself, or about a job that it holds."""

    REGISTER = "register"
    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    HEARTBEAT = "heartbeat"


class Decision(enum.Enum):
    """What to do after an answer."""

    DONE = enum.auto()
    """The server has accepted it on an earlier attempt, or so it seems: `is_own_ack` tells whether it was that one."""
    AGAIN = enum.auto()
    """Nothing is decided: try again, for as long as there is a lease, or for ever where there is none."""
    LOST = enum.auto()
    """The lease belongs to nobody or to somebody else: never ack this execution."""
    REFUSED = enum.auto()
    """The server will not take this request however often it is sent, and has said so twice."""


def classify(
    operation: Operation, error: SpooledError, *, replay: bool = False, before: SpooledError | None = None
) -> Decision:
    """Classify a failed attempt.

    Only what the server itself says decides anything. The page of a proxy, whatever its status, is like an outage.
    And a refusal counts when it is repeated, because what stands between may have dropped the credentials of one
    request. What the client has refused to send counts at once.

    Args:
        operation: What was asked for.
        error: What came back.
        replay: An earlier attempt of the same operation may have reached the server.
        before: What came back from the attempt before; None for the first, and after one that was accepted.
    """
    decision = _read(operation, error, replay=replay)
    if (
        decision is Decision.REFUSED
        and error.status_code
        and (before is None or _read(operation, before, replay=replay) is not Decision.REFUSED)
    ):
        return Decision.AGAIN
    return decision


def _read(operation: Operation, error: SpooledError, *, replay: bool) -> Decision:
    if error.foreign:
        return Decision.AGAIN
    if operation is Operation.REGISTER:
        return Decision.AGAIN if error.is_retryable() else Decision.REFUSED
    if operation is Operation.CLAIM:
        pointless = isinstance(error, AuthenticationError | AuthorizationError | ValidationError)
        return Decision.REFUSED if pointless else Decision.AGAIN
    match error:
        case NotFoundError():
            # A fail that landed clears the assignment, so its replay finds nothing. For the others, nothing
            # found means that the server took the job back.
            return Decision.DONE if replay and operation is Operation.FAIL else Decision.LOST
        case ConflictError() if is_lease_expired(error):
            return Decision.LOST
        case ConflictError():
            # "Job is already completed", and still assigned to this worker: by an earlier attempt, if there was one.
            completed = operation is Operation.COMPLETE and is_completed_already(error)
            return Decision.DONE if replay and completed else Decision.LOST
        case ValidationError() | PayloadTooLargeError() | AuthenticationError() | AuthorizationError():
            return Decision.REFUSED
        case RateLimitError():
            # A quota answer to an ack is in no contract; like a rate limit it is about now, not about this ack.
            return Decision.AGAIN
        case _ if decides_nothing(error) or error.status_code >= 500 or error.status_code == 0:
            return Decision.AGAIN
        case _:
            return Decision.REFUSED


def decides_nothing(error: SpooledError) -> bool:
    """Return whether the same request may succeed when it is sent again."""
    return error.foreign or error.is_retryable()


def wait_for(error: SpooledError, own: float, longest: float) -> tuple[float, str]:
    """Return the seconds to wait after a failed attempt, and how to say it.

    Args:
        error: What failed.
        own: Seconds to wait at least.
        longest: Bound in seconds for what the server asks to wait, so that a wrong `Retry-After` silences nothing.
    """
    asked = error.server_wait or 0.0
    seconds = max(own, min(asked, longest))
    if asked <= longest:
        return seconds, f"{seconds:.1f} s"
    return (
        seconds,
        f"{seconds:.1f} s (max_retry_after), and not in the {asked:.0f} s that the server asks for",
    )


def is_own_ack(operation: Operation, job: Job, *, lease_id: str, error: str | None) -> bool:
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
    """Return whether a failed attempt may all the same have been carried out by the server."""
    return error.foreign or error.status_code in (0, 408) or error.status_code >= 500
