"""JSON on the wire: encoding that refuses what would be lost, decoding into models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from spooled._http._messages import Response
from spooled.errors import SpooledError, ValidationError

T = TypeVar("T")

_SHOWN = 200


def _foreign(value: object) -> object:
    """Models of the user's that msgspec does not know: pydantic's, by their public method."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} objects have no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
_decoders: dict[Any, Callable[[bytes], Any]] = {}


def encode(value: object, field: str = "body") -> bytes:
    """`value` as JSON. `msgspec.Raw` inside it is passed through.

    Raises:
        ValidationError: It has no JSON form, or holds NaN or Infinity (which JSON cannot say).
    """
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _unencodable(field, str(error) or type(error).__name__) from error
    # msgspec writes NaN and Infinity as null. Only a text with a null in it can hide one.
    if b"null" in data:
        path = _not_a_number(value, field)
        if path is not None:
            raise _unencodable(path, "NaN and Infinity have no JSON form")
    return data


def json_form(value: object, field: str = "body") -> object:
    """`value` as what JSON can say: None, booleans, numbers, text, lists and dicts.

    Raises:
        ValidationError: As `encode`.
    """
    try:
        form: object = msgspec.to_builtins(value, str_keys=True, enc_hook=_foreign)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _unencodable(field, str(error) or type(error).__name__) from error
    path = _not_a_number(form, field)
    if path is not None:
        raise _unencodable(path, "NaN and Infinity have no JSON form")
    return form


def decode(response: Response, into: type[T]) -> T:
    """The response body as `into`. `type(None)` ignores the body.

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
    """The type `list[item]`, for `decode`."""
    return list[item]  # type: ignore[valid-type]


def decoder(into: type[T]) -> Callable[[bytes], T]:
    """The function that reads `into` from JSON; its own `from_json` if it has one."""
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


def _not_a_number(value: object, path: str) -> str | None:
    """Where in `value` there is a NaN or Infinity."""
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
