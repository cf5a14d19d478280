"""A handler's return value as JSON, or the reason why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from spooled._http._json import encode
from spooled.codec import Codec, ResultError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returned, with the rules of its return annotation.

    Attributes:
        value: The value itself.
        codec: Says how it is sent.
    """

    value: object
    codec: Codec


class UnserialisableResultError(ValueError):
    """The value cannot be sent as a job's result; the text says which part and why."""


def encode_result(value: object, codec: Codec | None = None) -> bytes:
    """Encode a handler's return value.

    Args:
        value: What it returned.
        codec: The rules of its return annotation, if it has any of its own.

    Raises:
        UnserialisableResultError: JSON cannot hold the value, with the reason.
    """
    if value is None:
        return b"null"
    try:
        return encode(value if codec is None else codec.dump_result(value), "result")
    except BaseException as error:  # whatever a user's object does while it is read is the result's fault
        reason = getattr(error, "message", None) or (
            str(error) if isinstance(error, ResultError) else f"{type(error).__name__}: {error}"
        )
        raise UnserialisableResultError(f"the job ran, but its result cannot be sent: {reason}") from error
