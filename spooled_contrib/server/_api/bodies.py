"""From a request's bytes to a checked structure, or to the contract's complaint about it (section 1.2)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._times import micros

T = TypeVar("T")

MAX_BODY = 2 * 1024 * 1024
"""Bytes in one request body."""

MAX_JSON_MEMBER = 64 * 1024
"""Bytes of `tags`, `metadata` and `settings`."""

MAX_PAYLOAD = 1024 * 1024
"""Bytes of one payload, whatever the plan says."""

NULL = Raw(b"null")
"""Default of a JSON member that may be absent."""

Time = Annotated[datetime, Meta(tz=True)]

QueueName = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 100,
            "pattern": r"^[\p{L}\p{N}_][\p{L}\p{N}_.\-]*$",
        }
    ),
]
"""A queue's name. Only described here: `check_queue_name` complains in better words than the decoder would."""

NO_NUL: dict[str, Any] = {"pattern": r"^[^\u0000]*$"}
"""Describes what `check_text` sees to."""

Line = Annotated[str, Meta(extra_json_schema=NO_NUL)]

ObjectMember = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
"""A JSON member that is an object. Only described here: the handler that decodes it sees to it."""

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_WRONG_TYPE = re.compile(r"Expected `.*`, got `.*`")
_NOT_JSON = ("Invalid RFC3339", "Expected `datetime` with", "Invalid enum value")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode and check, with every failure turned into a `RefusalError`."""
    if not body or body.isspace():
        raise refuse.invalid_json("the request has no body; send a JSON object", code="empty_body")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse.invalid_json(f"not valid JSON: {error}") from None
    except RecursionError:
        raise refuse.invalid_json("nested too deeply") from None


def explain(complaint: str) -> refuse.RefusalError:
    """The contract's error for what the decoder says."""
    match = _WHERE.match(complaint)
    assert match is not None
    what = match["what"]
    field = _field(match["path"])
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        name = missing[1] if field == "body" else f"{field}.{missing[1]}"
        return refuse.invalid(name, "is required", code="missing_field", status=422)
    if what.startswith(_NOT_JSON):
        return refuse.invalid_json(what.replace("`", ""), field=field)
    what = what.replace("`", "")
    if _WRONG_TYPE.fullmatch(match["what"]):
        return refuse.invalid(field, what, code="invalid_type", status=422)
    return refuse.invalid(field, what, code="length" if " of length " in what else "range")


def _field(path: str | None) -> str:
    if path is None:
        return "body"
    return path.removeprefix("$").removeprefix(".") or "body"


def optional_micros(time: datetime | None, field: str) -> int | None:
    """Microseconds since the epoch of a decoded time."""
    if time is None:
        return None
    value = micros(time)
    if value is None:
        raise refuse.invalid_json("is not in the years 1 to 9999", field=field)
    return value


def check_text(text: str | None, field: str) -> None:
    """Not every database can hold a NUL character in a text, so none is taken."""
    if text is not None and "\0" in text:
        raise refuse.invalid(field, "must not contain a NUL character", code="format")


def json_text(raw: Raw, field: str, limit: int) -> tuple[str, Any] | None:
    """A JSON member as the text that was sent and as a value; None when absent or null.

    Decoding it is the only way to be sure that it is JSON all the way down: the outer decoder only skips over it.
    """
    text, value = required_json_text(raw, field, limit)
    return None if value is None else (text, value)


def required_json_text(raw: Raw, field: str, limit: int) -> tuple[str, Any]:
    """Like `json_text`, where null is a value like any other."""
    data = bytes(raw)
    if len(data) > limit:
        raise refuse.invalid(
            field, f"has {len(data)} bytes as JSON; at most {limit} are allowed", code="length"
        )
    try:
        value = msgspec.json.decode(data)
        return data.decode(), value
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refuse.invalid_json(f"not valid JSON: {error}", field=field) from None
    except RecursionError:
        raise refuse.invalid_json("nested too deeply", field=field) from None
