"""A handler's return value as JSON, or the reason why it cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooled._http._json import encode
from spooled.codec import Codec, ResultError
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


@dataclass(frozen=True, slots=True)
class Success:
    """The handler returned `result`; `encoded` is the same as JSON, `fallback` makes another one if it is refused."""

    result: Any
    encoded: bytes
    fallback: Callable[[SpooledError], object] | None = None


def prepare_result(value: object, codec: Codec | None = None) -> Success:
    """Encode what a handler returned, while what it is made from, such as a database session, is still open.

    For adapters that close such things after the handler: they return this in place of the value, and middleware sees
    the value.

    Args:
        value: What it returned, or a `FallbackResult`. One that is prepared already stays as it is.
        codec: The rules of its return annotation, see `spooled.codec.result_codec`.

    Raises:
        UnserialisableResultError: JSON cannot hold the value, with the reason.
    """
    if isinstance(value, Success):
        return value
    given = value if isinstance(value, FallbackResult) else FallbackResult(value)
    if inspect.iscoroutine(given.value):
        given.value.close()
        raise UnserialisableResultError(
            "the handler returned a coroutine, which nothing has awaited: declare the handler with async def"
        )
    return Success(given.value, encode_result(given.value, codec), given.fallback)


def plain_result(value: object) -> object:
    """Return the value of a prepared result; any other value as it is."""
    if isinstance(value, Success):
        return value.result if value.fallback is None else FallbackResult(value.result, value.fallback)
    return value
