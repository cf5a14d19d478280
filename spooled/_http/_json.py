"""JSON on the wire: encoding that refuses what would be lost, decoding into models."""

from __future__ import annotations

import functools
import math
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from spooled._http._messages import Response
from spooled.errors import SpooledError, ValidationError

T = TypeVar("T")

_SHOWN = 200


@functools.singledispatch
def foreign_form(value: object) -> object:
    """Return the JSON form of a value whose type msgspec does not know, one level deep.

    The forms of further types are registered here, by `register_json_form`. Models are dumped by their own public
    method, as FastAPI answers with them: by alias.

    Raises:
        TypeError: It has none.
    """
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} objects have no JSON form")


@foreign_form.register
def _text(value: str) -> str:
    # A lazy object may only say that it is text.
    return str.__str__(value) if issubclass(type(value), str) else str(value)


@foreign_form.register(bool)
@foreign_form.register(tuple)
@foreign_form.register(type(None))
def _key(value: object) -> object:
    # As a value each has a form.
    raise TypeError(f"a key of a JSON object is text or a number, got {value!r}")


@foreign_form.register
def _whole_number(value: numbers.Integral) -> int:
    return int(value)


@foreign_form.register
def _number(value: numbers.Real) -> float:
    if isinstance(value, numbers.Rational):
        raise TypeError(f"a {type(value).__name__} has no exact JSON form")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("NaN and Infinity have no JSON form")
    return number


@foreign_form.register
def _path(value: os.PathLike) -> object:  # type: ignore[type-arg] # singledispatch takes classes
    return os.fspath(value)


@foreign_form.register
def _object(value: Mapping) -> dict[object, object]:  # type: ignore[type-arg]
    return dict(value)


def register_json_form(kind: type[T], form: Callable[[T], object]) -> None:
    """Say how the values of a type are sent where msgspec does not know it, in payloads and in results.

    Args:
        kind: The type, or an abstract base class; its subclasses are meant too.
        form: Takes a value and returns what JSON can say, or anything else that can be sent.
    """
    foreign_form.register(kind, form)


_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
_encoder = msgspec.json.Encoder(enc_hook=foreign_form)
_decoders: dict[Any, Callable[[bytes], Any]] = {}


def encode(value: object, field: str = "body", encoder: msgspec.json.Encoder | None = None) -> bytes:
    """`value` as JSON. `msgspec.Raw` inside it is passed through.

    Args:
        value: What is wanted as JSON.
        field: What it is called in messages.
        encoder: One with another idea of what values that msgspec does not know are in JSON.

    Raises:
        ValidationError: It has no JSON form, or holds NaN or Infinity (which JSON cannot say).
    """
    try:
        data = (encoder or _encoder).encode(value)
    except _UNENCODABLE as error:
        raise _unencodable(field, str(error) or type(error).__name__) from error
    # msgspec writes NaN and Infinity as null. Only a text with a null in it can hide one.
    if b"null" in data:
        path = _not_a_number(value, field)
        if path is not None:
            raise _unencodable(path, "NaN and Infinity have no JSON form")
    return data


def encoder_with(foreign: Callable[[object], object]) -> msgspec.json.Encoder:
    """Return an encoder that asks `foreign` for the JSON form of what msgspec does not know."""
    return msgspec.json.Encoder(enc_hook=foreign)


def decode(response: Response, into: type[T]) -> T:
    """Return the response body as `into`. `type(None)` ignores the body.

    Raises:
        SpooledError: The body is not what the contract promises.
    """
    if into is type(None):
        return None
    try:
        return decoder(into)(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        shown = response.body[:_SHOWN].decode("utf-8", "replace")
        kind = response.headers.get("content-type", "no content type")
        invalid = SpooledError(
            f"the answer ({kind}) is not a valid {getattr(into, '__name__', into)}: {error}; it starts with {shown!r}",
            response.status,
            "invalid_response",
            None,
            response.headers.get("x-request-id"),
            hint="Check that base_url names a Spooled server and not a proxy or login page in front of it.",
        )
        invalid.foreign = True
        raise invalid from error


def list_of(item: type[T]) -> type[list[T]]:
    """Return the type `list[item]`, for `decode`."""
    return list[item]  # type: ignore[valid-type]


def decoder(into: type[T]) -> Callable[[bytes], T]:
    """Return the function that reads `into` from JSON; its own `from_json` if it has one."""
    known = _decoders.get(into)
    if known is None:
        known = getattr(into, "from_json", None) or msgspec.json.Decoder(into).decode
        _decoders[into] = known
    return known


def _unencodable(field: str, problem: str) -> ValidationError:
    message = f"{field} cannot be sent as JSON: {problem}"
    return ValidationError(
        message,
        details=[{"field": field, "message": message, "code": "not_json"}],
        hint="Send None, booleans, finite numbers, text, lists, mappings, dates, dataclasses or models.",
    )


_NO_NUMBERS = frozenset({type(None), bool, int, str, bytes, msgspec.Raw})
"""Types in whose values there is neither NaN nor Infinity."""


def _not_a_number(value: object, path: str) -> str | None:
    """Return where in `value` there is a NaN or Infinity."""
    if type(value) in _NO_NUMBERS:
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, Mapping):
        for key, item in value.items():
            found = _not_a_number(item, f"{path}.{key}")
            if found is not None:
                return found
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            found = _not_a_number(item, f"{path}[{index}]")
            if found is not None:
                return found
    elif (
        hasattr(value, "__dataclass_fields__")
        or hasattr(value, "__struct_fields__")
        or hasattr(value, "model_dump")
    ):
        return _not_a_number(_fields_of(value), path)
    return None


def _fields_of(value: Any) -> Mapping[str, object]:
    if hasattr(value, "model_dump"):
        dumped = value.model_dump()
        return dumped if isinstance(dumped, Mapping) else {}
    names = getattr(value, "__struct_fields__", None) or value.__dataclass_fields__
    return {name: getattr(value, name, None) for name in names}
