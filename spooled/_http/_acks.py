"""Read the answer to an ack: accepted, or refused because an earlier attempt landed without its answer."""

from __future__ import annotations

from spooled.errors import ConflictError, NotFoundError, SpooledError
from spooled.models import AckResponse


def accepted(answer: AckResponse, what: str) -> AckResponse:
    """Return an answer that says that it was a success.

    Raises:
        SpooledError: It does not. Nothing is decided: the same may be sent again.
    """
    if answer.success:
        return answer
    error = SpooledError(f"the answer to the {what} is no success", 200, "not_accepted")
    error.foreign = True
    raise error


def is_completed_already(error: SpooledError) -> bool:
    """Tell whether the server says that the job is completed, under the assignment that was named."""
    return isinstance(error, ConflictError) and "already completed" in error.message.lower()


def complete_landed(error: SpooledError) -> bool:
    """Tell whether an earlier attempt of this `complete` did it: the job is completed and still ours."""
    return error.attempts > 1 and is_completed_already(error)


def fail_landed(error: SpooledError) -> bool:
    """Tell whether an earlier attempt of this `fail` did it: failing takes the job from us, so it is not found."""
    return isinstance(error, NotFoundError) and error.attempts > 1
