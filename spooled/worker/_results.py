"""A handler's return value as JSON, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooled._http._json import encode
from spooled.errors import SpooledError


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


def encode_result(value: object) -> bytes:
    """Encode a handler's return value.

    Raises:
        UnserialisableResultError: JSON cannot hold the value, with the reason.
    """
    if value is None:
        return b"null"
    try:
        return encode(value, "result")
    except Exception as error:  # whatever a user's object does while it is read is the result's fault
        reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise UnserialisableResultError(f"the job ran, but its result cannot be sent: {reason}") from error
