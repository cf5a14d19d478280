"""A handler's return value as JSON, or the reason why it cannot be."""

from __future__ import annotations

from spooled._http._json import encode


class UnserialisableResultError(ValueError):
    """The value cannot be sent as a job's result; the text says which part and why."""


def encode_result(value: object) -> bytes:
    """Encode a handler's return value.

    Raises:
        UnserialisableResultError: JSON cannot hold the value, with the reason.
    """
    if value is None:
        return b"null"
    try:
        return encode(value, "result")
    except BaseException as error:  # whatever a user's object does while it is read is the result's fault
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise UnserialisableResultError(f"the job ran, but its result cannot be sent: {reason}") from error
