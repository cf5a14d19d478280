"""Times as people type and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_LONGEST = timedelta(days=3660)


def span(text: str) -> timedelta:
    """Return the length of `90`, `90s`, `15m`, `1h30m`, `2d` or `1w`; a bare number is seconds.

    Raises:
        ValueError: It is none of these, or longer than ten years. The message is one line.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", plain):
        plain += "s"
    if not _SPAN.fullmatch(plain):
        raise ValueError(f"{text!r} is not a length of time such as 30s, 15m, 1h30m or 2d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(plain))
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than ten years")
    return timedelta(seconds=seconds)


def moment(text: str) -> datetime:
    """Return the instant of an ISO 8601 time such as `2026-12-24T18:00:00Z`. Without an offset it is local time.

    Raises:
        ValueError: It is no such time. The message is one line.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2026-12-24T18:00:00Z or 2026-12-24T18:00") from None
    return when.astimezone(UTC)


def moment_or_span(text: str) -> datetime:
    """Return an instant: a time, or a length of time from now.

    Raises:
        ValueError: It is neither. The message is one line.
    """
    try:
        return datetime.now(UTC) + span(text)
    except ValueError:
        pass
    try:
        return moment(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a length of time such as 1h nor a time such as 2026-12-24T18:00Z"
        ) from None


def clock(when: datetime | None) -> str | None:
    """Return an instant in local time, to the second."""
    return None if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(when: datetime | None, now: datetime) -> str | None:
    """Return how long ago that was, or how long until then, in one unit: `5s`, `12m`, `3h`, `4d`, `in 8s`."""
    if when is None:
        return None
    seconds = (now - when).total_seconds()
    ahead = "in " if seconds < -1 else ""
    whole = int(abs(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        # Two of the smaller unit say more than one of the larger.
        if whole >= 2 * size:
            return f"{ahead}{whole // size}{unit}"
    return f"{ahead}{whole}s"
