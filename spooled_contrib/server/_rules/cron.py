"""Cron expressions in the contract's own dialect (lifecycle section 12).

Five fields (`minute hour day-of-month month day-of-week`), or six with seconds in front. A field is exactly one of `*`,
`*/N`, `a-b`, `a,b,c` or a number: no names, no steps in ranges, no ranges in lists.

Everything here is arithmetic on wall-clock times. What a wall clock shows when it is set forward or back is the
business of `wall_clock`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from msgspec import Struct

DAYS_AHEAD = 366 * 9
"""How far a next time is looked for. The rarest day that exists, 29 February, is at most eight years away."""

_STAR_STEP = re.compile(r"\*/([0-9]{1,9})")
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_LIST = re.compile(r"[0-9]{1,9}(?:,[0-9]{1,9})*")


def _field_pattern(number: str, step: str) -> str:
    number = f"0{{0,7}}({number})"
    return rf"(\*|\*/0{{0,7}}({step})|{number}-{number}|{number}(,{number})*)"


_SIXTY = _field_pattern("[1-5]?[0-9]", "[1-9]|[1-5][0-9]")
PATTERN = r"^\s*({0}\s+)?{0}\s+{1}\s+{2}\s+{3}\s+{4}\s*$".format(
    _SIXTY,
    _field_pattern("1?[0-9]|2[0-3]", "[1-9]|1[0-9]|2[0-3]"),
    _field_pattern("[1-9]|[12][0-9]|3[01]", "[1-9]|[12][0-9]|3[01]"),
    _field_pattern("[1-9]|1[0-2]", "[1-9]|1[0-2]"),
    _field_pattern("[0-7]", "[1-7]"),
)
"""The dialect as a regular expression, for descriptions. It takes ranges that fall for ranges, and `parse` does not."""


class CronError(ValueError):
    """The text is no cron expression. The message is one sentence that says which field and why."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int


_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12)
_WEEKDAY = _Field("day of week", 0, 7)
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


class Cron(Struct, frozen=True):
    """A parsed expression: the allowed values of each field, ascending. Weekdays are 0 (Sunday) to 6.

    `either_day` says that day of month and day of week are both restricted, and then one of them is enough.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: tuple[int, ...]
    weekdays: frozenset[int]
    either_day: bool

    def matches_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either_day else by_day and by_weekday

    def first_from(self, wall: datetime) -> datetime | None:
        """The first matching wall-clock time that is not before `wall`; None within `DAYS_AHEAD` days.

        Args:
            wall: A naive time in whole seconds.
        """
        day, earliest = wall.date(), wall.time()
        # The calendar ends with the year 9999.
        last = day + timedelta(days=min(DAYS_AHEAD, (date.max - day).days))
        while True:
            if self.matches_day(day):
                found = self._first_in_day(earliest)
                if found is not None:
                    return datetime.combine(day, found)
            following = self._following_day(day)
            if following is None or following > last:
                return None
            day, earliest = following, time.min

    def _first_in_day(self, earliest: time) -> time | None:
        first = time(self.hours[0], self.minutes[0], self.seconds[0])
        if first >= earliest:
            return first
        for hour in self.hours[bisect_left(self.hours, earliest.hour) :]:
            if hour > earliest.hour:
                return time(hour, self.minutes[0], self.seconds[0])
            for minute in self.minutes[bisect_left(self.minutes, earliest.minute) :]:
                if minute > earliest.minute:
                    return time(hour, minute, self.seconds[0])
                at = bisect_left(self.seconds, earliest.second)
                if at < len(self.seconds):
                    return time(hour, minute, self.seconds[at])
        return None

    def _following_day(self, day: date) -> date | None:
        # Months without a match are passed over as a whole.
        if day.month not in self.months:
            year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
            return date(year, month, 1) if year <= date.max.year else None
        return day + timedelta(days=1) if day < date.max else None


def parse(expression: str) -> Cron:
    """Return the expression's meaning.

    Raises:
        CronError: it is not of the dialect.
    """
    texts = expression.split()
    if len(texts) == 5:
        texts = ["0", *texts]
    if len(texts) != 6:
        raise CronError(
            f"a cron expression has 5 fields, or 6 with seconds in front; {expression!r} has {len(texts)}"
        )
    seconds, minutes, hours, days, months, weekdays = map(_values, _FIELDS, texts)
    return Cron(
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=frozenset(days),
        months=months,
        weekdays=frozenset(weekday % 7 for weekday in weekdays),
        # A step restricts, even `*/1`.
        either_day=texts[3] != "*" and texts[5] != "*",
    )


def _values(field: _Field, text: str) -> tuple[int, ...]:
    name, least, most = field
    if text == "*":
        return tuple(range(least, most + 1))
    if step := _STAR_STEP.fullmatch(text):
        width = int(step[1])
        if not 1 <= width <= most:
            raise CronError(f"{name}: the step of {text!r} is not between 1 and {most}")
        return tuple(range(least, most + 1, width))
    if bounds := _RANGE.fullmatch(text):
        first, last = int(bounds[1]), int(bounds[2])
        if not least <= first <= last <= most:
            raise CronError(f"{name}: {text!r} is not a rising range between {least} and {most}")
        return tuple(range(first, last + 1))
    if _LIST.fullmatch(text):
        values = sorted({int(item) for item in text.split(",")})
        if values[0] < least or values[-1] > most:
            raise CronError(f"{name}: {text!r} is not between {least} and {most}")
        return tuple(values)
    raise CronError(f"{name}: {text!r} is none of *, */N, a-b, a,b,c or a number")
