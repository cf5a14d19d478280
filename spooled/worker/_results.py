"""A handler's return value as JSON, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooled._http._json import encode
from spooled.codec import Codec, ResultError
from spooled.errors import SpooledError


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


@dataclass(frozen=True)
class FallbackResult:
    """A handler's result, and another one in case that the server refuses it, e.g. because it is too large.

    Without a fallback, a job whose result is refused has failed, and runs again while it has retries left.

    Attributes:
        value: The job's result: anything with a JSON form.
        fallback: Called with the server's error; returns the result to complete the job with instead.
    """

    value: Any
    fallback: Callable[[SpooledError], object] | None = None


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
