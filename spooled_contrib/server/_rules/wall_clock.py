"""When a cron expression is due in a time zone (lifecycle section 12).

Clocks that are set forward skip what they would have shown: such an occurrence is left out. Clocks that are set back
show an hour twice: it counts the first time. So the instants that belong to the wall-clock times which exist keep their
order, and the search can walk wall-clock times and ask of each which instant it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spooled_contrib.server._rules.cron import Cron, CronError, parse
from spooled_contrib.server._times import micros, moment

_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
# In the directory of zones, but not names of zones: another scale of time, and whatever this machine is set to.
_NO_ZONES = ("posix/", "right/", "posixrules", "localtime", "Factory")
_ONE = timedelta(seconds=1)


class TimeZoneError(ValueError):
    """The text names no time zone. The message is one sentence."""


def parse_zone(name: str) -> tzinfo:
    """Return an IANA zone, or a fixed offset such as `+05:30`.

    Raises:
        TimeZoneError: it is neither.
    """
    if offset := _OFFSET.fullmatch(name):
        hours, minutes = int(offset[2]), int(offset[3])
        if hours <= 23 and minutes <= 59:
            sign = -1 if offset[1] == "-" else 1
            return timezone(sign * timedelta(hours=hours, minutes=minutes))
    elif _ZONE_NAME.fullmatch(name) and not name.startswith(_NO_ZONES):
        try:
            return ZoneInfo(name)
        # A directory of zones, and a file among them that holds none, are told as OSError and ValueError.
        except (ZoneInfoNotFoundError, OSError, ValueError):
            pass
    raise TimeZoneError(f"{name!r} is neither an IANA time zone nor an offset like +05:30")


@lru_cache(maxsize=1024)
def _parse(expression: str) -> Cron:
    return parse(expression)


def next_run(expression: str, zone_name: str, after: int) -> int | None:
    """Return the first due time strictly after `after`, both in microseconds since the epoch; None when there is none.

    A stored zone that is no longer known counts as UTC, and an expression that cannot be read is never due: neither may
    stop the sweep that asks.
    """
    try:
        cron = _parse(expression)
    except CronError:
        return None
    try:
        zone = parse_zone(zone_name)
    except TimeZoneError:
        zone = UTC
    found = next_instant(cron, zone, moment(after))
    return None if found is None else micros(found)


def next_instant(cron: Cron, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first instant strictly after `after` at which a clock in `zone` shows a matching time; in UTC."""
    after = after.astimezone(UTC)
    try:
        wall = after.astimezone(zone).replace(tzinfo=None, microsecond=0) + _ONE
        while (found := cron.first_from(wall)) is not None:
            shift, instant = _shift(found, zone), _instant(found, zone)
            if shift < 0:
                # Never shown. The gap is no longer than the shift; go on where the clock shows times again.
                wall = _first(found, -shift, lambda time: _exists(time, zone))
            elif instant <= after:
                # `after` lies in the second showing of this hour, and the first one is over.
                wall = _first(found, shift, lambda time: _instant(time, zone) > after)
            else:
                return instant
    except OverflowError:
        # The search ran out of the calendar.
        return None
    return None


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return what a wall-clock time means the first time it is shown."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _exists(wall: datetime, zone: tzinfo) -> bool:
    return _instant(wall, zone).astimezone(zone).replace(tzinfo=None, fold=0) == wall


def _shift(wall: datetime, zone: tzinfo) -> int:
    """Seconds by which clocks are set back at a time shown twice; negative, forward, at one never shown; else 0."""
    before = wall.replace(tzinfo=zone, fold=0).utcoffset()
    behind = wall.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None
    assert behind is not None
    return round((before - behind).total_seconds())


def _first(wall: datetime, seconds: int, condition: Callable[[datetime], bool]) -> datetime:
    """Return the first time after `wall` that meets a condition which, once met within `seconds`, stays so."""
    return wall + _ONE * (
        1 + bisect_left(range(1, seconds + 1), True, key=lambda n: condition(wall + _ONE * n))
    )
