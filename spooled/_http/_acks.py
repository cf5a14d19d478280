"""What a refused ack means when it was sent before: the first attempt may have landed without its answer."""

from __future__ import annotations

from spooled.errors import ConflictError, NotFoundError, SpooledError


def complete_landed(error: SpooledError) -> bool:
    """Whether an earlier attempt of this `complete` did it: the job is completed and still ours."""
    return (
        isinstance(error, ConflictError)
        and error.attempts > 1
        and "already completed" in error.message.lower()
    )


def fail_landed(error: SpooledError) -> bool:
    """Whether an earlier attempt of this `fail` did it: failing takes the job from us, so it is not found."""
    return isinstance(error, NotFoundError) and error.attempts > 1
