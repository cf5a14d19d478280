"""Lifecycle section 12: the cron dialect, checked against a slow model that tries every second or day."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_contrib.server._rules.cron import CronError, parse

RANGES = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def values(text, least, most):
    """The contract's sentence, word for word: what one field allows."""
    if text == "*":
        return set(range(least, most + 1))
    if text.startswith("*/"):
        return {value for value in range(least, most + 1) if (value - least) % int(text[2:]) == 0}
    if "-" in text:
        first, last = text.split("-")
        return set(range(int(first), int(last) + 1))
    return {int(item) for item in text.split(",")}


def shows(expression, moment):
    """Whether a wall-clock time matches, straight from the contract."""
    texts = expression.split()
    texts = texts if len(texts) == 6 else ["0", *texts]
    allowed = [values(text, *bounds) for text, bounds in zip(texts, RANGES, strict=True)]
    sunday_is_7 = 7 if calendar.weekday(*moment.timetuple()[:3]) == 6 else None
    weekday = (calendar.weekday(*moment.timetuple()[:3]) + 1) % 7
    by_day = moment.day in allowed[3]
    by_weekday = weekday in allowed[5] or sunday_is_7 in allowed[5]
    day = by_day or by_weekday if texts[3] != "*" and texts[5] != "*" else by_day and by_weekday
    return (
        moment.second in allowed[0]
        and moment.minute in allowed[1]
        and moment.hour in allowed[2]
        and moment.month in allowed[4]
        and day
    )


@st.composite
def fields(draw, least, most):
    number = st.integers(least, most)
    kind = draw(st.sampled_from(["star", "step", "range", "list", "number"]))
    if kind == "star":
        return "*"
    if kind == "step":
        return f"*/{draw(st.integers(1, most))}"
    if kind == "range":
        first, last = sorted([draw(number), draw(number)])
        return f"{first}-{last}"
    if kind == "list":
        return ",".join(str(item) for item in draw(st.lists(number, min_size=2, max_size=5)))
    return str(draw(number))


expressions = st.tuples(*(fields(*bounds) for bounds in RANGES)).map(" ".join)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31)).map(lambda at: at.replace(microsecond=0))


@given(expressions, moments)
def test_the_first_match_is_the_first_that_matches(expression, start):
    found = parse(expression).first_from(start)
    texts = expression.split()
    seconds, minutes, hours = (sorted(values(texts[i], *RANGES[i])) for i in range(3))
    midnight = start.replace(hour=0, minute=0, second=0)
    earliest = datetime(1, 1, 1, hours[0], minutes[0], seconds[0]).time()
    # Days one by one; within the first day every second of an allowed hour.
    for number in range(366 * 9 + 1):
        day = midnight + timedelta(days=number)
        if not shows(f"* * * {texts[3]} {texts[4]} {texts[5]}", day):
            continue
        if number > 0:
            assert found == datetime.combine(day, earliest)
            return
        for hour in hours:
            for minute in minutes:
                for second in seconds:
                    at = day.replace(hour=hour, minute=minute, second=second)
                    if at >= start:
                        assert found == at
                        return
    assert found is None


@given(expressions, moments)
def test_what_is_found_matches(expression, start):
    found = parse(expression).first_from(start)
    assert found is None or (found >= start and shows(expression, found))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["01-01 00:00:00", "01-01 00:01:00", "01-01 00:02:00"]),
        ("* * * * * *", ["01-01 00:00:00", "01-01 00:00:01", "01-01 00:00:02"]),
        ("*/20 * * * * *", ["01-01 00:00:00", "01-01 00:00:20", "01-01 00:00:40"]),
        # Steps count from the field's own minimum.
        ("0 0 */2 * *", ["01-01 00:00:00", "01-03 00:00:00", "01-05 00:00:00"]),
        ("0 0 1 */5 *", ["01-01 00:00:00", "06-01 00:00:00", "11-01 00:00:00"]),
        ("0 9-10 * * *", ["01-01 09:00:00", "01-01 10:00:00", "01-02 09:00:00"]),
        ("5,1,3 0 * * *", ["01-01 00:01:00", "01-01 00:03:00", "01-01 00:05:00"]),
        # 1 January 2026 is a Thursday; 0 and 7 are Sunday.
        ("0 0 * * 0", ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"]),
        ("0 0 * * 7", ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"]),
        ("0 0 * * 6-7", ["01-03 00:00:00", "01-04 00:00:00", "01-10 00:00:00"]),
        # Day of month and day of week: either, when both are restricted, and a step restricts.
        ("0 0 13 * 5", ["01-02 00:00:00", "01-09 00:00:00", "01-13 00:00:00"]),
        ("0 0 */15 * 5", ["01-01 00:00:00", "01-02 00:00:00", "01-09 00:00:00"]),
        ("0 0 5 * */1", ["01-01 00:00:00", "01-02 00:00:00", "01-03 00:00:00"]),
        ("0 0 31 * *", ["01-31 00:00:00", "03-31 00:00:00", "05-31 00:00:00"]),
    ],
)
def test_the_dialect_by_example(expression, expected):
    cron, at, found = parse(expression), datetime(2026, 1, 1), []
    for _ in expected:
        at = cron.first_from(at)
        found.append(at.strftime("%m-%d %H:%M:%S"))
        at += timedelta(seconds=1)
    assert found == expected


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_comes_is_never_found(expression):
    assert parse(expression).first_from(datetime(2026, 1, 1)) is None


def test_a_leap_day_is_found_over_eight_years():
    assert parse("0 0 29 2 *").first_from(datetime(2096, 3, 1)) == datetime(2104, 2, 29)


def test_the_search_ends_with_the_calendar():
    assert parse("0 0 29 2 *").first_from(datetime(9999, 3, 1)) is None
    assert parse("0 0 1 1 *").first_from(datetime(9999, 12, 31, 23, 59, 59)) is None


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "@daily",
        "0 0 * * MON",
        "0 0 1 JAN *",
        "0-30/5 * * * *",
        "5/10 * * * *",
        "1-5,10 * * * *",
        "0 0 ? * 1",
        "0 0 L * *",
        "0 0 15W * *",
        "0 0 * * 1#2",
        "*,* * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "60 * * * * *",
        "*/0 * * * *",
        "*/60 * * * *",
        "* * */32 * *",
        "10-5 * * * *",
        "-5 * * * *",
        "1, * * * *",
        ",1 * * * *",
        "+1 * * * *",
        "١ * * * *",
        "1.5 * * * *",
    ],
)
def test_anything_else_is_refused(expression):
    with pytest.raises(CronError):
        parse(expression)


@given(st.text("0123456789*/-,LW#?@ \t", max_size=30) | st.text(max_size=30))
def test_any_text_is_understood_or_refused(text):
    try:
        cron = parse(text)
    except CronError:
        return
    cron.first_from(datetime(2026, 1, 1))
