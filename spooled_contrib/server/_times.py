"""Between the integers in the database and the RFC 3339 texts on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, overload

SECOND: Final = 1_000_000
"""Microseconds in a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = round((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds()) * SECOND
_LATEST = round((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()) * SECOND
_ONE = timedelta(microseconds=1)


@overload
def moment(micros: int) -> datetime: ...
@overload
def moment(micros: None) -> None: ...
@overload
def moment(micros: int | None) -> datetime | None: ...
def moment(micros: int | None) -> datetime | None:
    """Return the UTC time that the encoder writes with a `Z`."""
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def text(micros: int) -> str:
    """RFC 3339 with `Z`, for places that hold text."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def micros(time: datetime) -> int | None:
    """Microseconds since the epoch; None when an offset pushes the time out of the years 1 to 9999."""
    value = (time - _EPOCH) // _ONE
    return value if _EARLIEST <= value <= _LATEST else None
