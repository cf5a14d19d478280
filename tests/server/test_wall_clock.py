"""Lifecycle section 12: time zones, clocks set forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_contrib.server._rules.cron import parse
from spooled_contrib.server._rules.wall_clock import TimeZoneError, next_instant, next_run, parse_zone
from spooled_contrib.server._times import micros, moment


def runs(expression, zone, start, count):
    """The next due times as local texts with their offset."""
    zone = ZoneInfo(zone)
    at, found = datetime.fromisoformat(start).replace(tzinfo=zone), []
    for _ in range(count):
        at = next_instant(parse(expression), zone, at)
        found.append(at.astimezone(zone).strftime("%m-%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        ("Europe/Berlin", "2026-03-28T12:00", ["03-30 02:30 +0200", "03-31 02:30 +0200"]),
        ("America/New_York", "2026-03-07T12:00", ["03-09 02:30 -0400", "03-10 02:30 -0400"]),
        # The whole of 30 December 2011 was left out.
        ("Pacific/Apia", "2011-12-29T12:00", ["12-31 02:30 +1400", "01-01 02:30 +1400"]),
    ],
)
def test_an_occurrence_in_a_gap_is_left_out(zone, start, expected):
    assert runs("30 2 * * *", zone, start, 2) == expected


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        ("Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        # Half an hour is repeated on Lord Howe Island.
        ("Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 02:30 +1030", "04-06 02:30 +1030"]),
    ],
)
def test_a_repeated_hour_counts_once_the_first_time(zone, start, expected):
    assert runs("30 2 * * *", zone, start, 2) == expected


def test_new_yorks_repeated_hour_counts_once_the_first_time():
    expected = ["11-01 01:30 -0400", "11-02 01:30 -0500"]
    assert runs("30 1 * * *", "America/New_York", "2026-10-31T12:00", 2) == expected


def test_a_dense_schedule_pauses_for_the_repeated_hour_and_goes_on_over_a_gap():
    assert runs("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:15", 3) == [
        "10-25 02:30 +0200",
        "10-25 03:00 +0100",
        "10-25 03:30 +0100",
    ]
    assert runs("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:15", 3) == [
        "03-29 01:30 +0100",
        "03-29 03:00 +0200",
        "03-29 03:30 +0200",
    ]


def test_asked_within_the_second_showing_the_next_time_is_after_it():
    zone = ZoneInfo("Europe/Berlin")
    second_time = datetime(2026, 10, 25, 2, 10, 30, tzinfo=zone, fold=1)
    found = next_instant(parse("* * * * * *"), zone, second_time)
    assert found == datetime(2026, 10, 25, 2, 0, tzinfo=UTC)


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
TURNS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2026, 2, 15, 2, tzinfo=UTC),
    datetime(2026, 3, 22, 2, tzinfo=UTC),
]


@given(
    zone=st.sampled_from(ZONES),
    turn=st.sampled_from(TURNS),
    minutes=st.integers(-180, 180),
    fields=st.tuples(
        st.sampled_from(["*", "*/7", "*/30", "0", "30", "15-20", "0,59"]),
        st.sampled_from(["*", "*/2", "0", "1", "2", "3", "1-2", "0,3"]),
    ),
)
def test_no_minute_is_skipped_or_repeated(zone, turn, minutes, fields):
    """A model that walks real minutes: due is a matching wall-clock minute that was not shown before."""
    zone, expression = ZoneInfo(zone), " ".join([*fields, "* * *"])
    cron, start = parse(expression), turn + timedelta(minutes=minutes)
    expected = None
    for later in range(1, 3 * 24 * 60):
        local = (start + timedelta(minutes=later)).astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        if local.fold == 0 and cron.first_from(wall) == wall:
            expected = local.astimezone(UTC)
            break
    found = next_instant(cron, zone, start)
    if expected is not None:
        assert found == expected
    assert found > start


@pytest.mark.parametrize(
    ("name", "hours"), [("UTC", 0), ("+05:30", 5.5), ("-23:59", -(23 + 59 / 60)), ("Asia/Kathmandu", 5.75)]
)
def test_zones_have_names_or_offsets(name, hours):
    assert datetime(2026, 1, 1, tzinfo=parse_zone(name)).utcoffset() == timedelta(hours=hours)


# Neither paths, nor other files in the directory of zones, nor digits of other scripts.
NO_ZONES = [
    *("", "UTC\0", "Mars/Olympus", "Europe", "Europe/", "+24:00", "+05:60", "05:30", "+5:30", "+٠١:٠٠"),
    *("../etc/passwd", "/etc/localtime", "zone.tab", "tzdata.zi", "posixrules", "localtime", "right/UTC"),
]


@pytest.mark.parametrize("name", NO_ZONES)
def test_anything_else_is_no_zone(name):
    with pytest.raises(TimeZoneError):
        parse_zone(name)


def at(text):
    return micros(datetime.fromisoformat(text))


def test_the_next_run_is_strictly_later():
    assert next_run("0 12 * * *", "UTC", at("2026-01-01T12:00:00Z")) == at("2026-01-02T12:00:00Z")
    assert next_run("0 12 * * *", "UTC", at("2026-01-01T11:59:59.999999Z")) == at("2026-01-01T12:00:00Z")


def test_an_unknown_stored_zone_counts_as_utc_and_an_unreadable_expression_is_never_due():
    now = at("2026-01-01T00:00:00Z")
    assert moment(next_run("0 12 * * *", "Atlantis/Capital", now)) == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert next_run("noon", "UTC", now) is None
    assert next_run("0 0 30 2 *", "UTC", now) is None


@given(st.integers(at("0001-01-01T00:00:00Z"), at("9999-12-31T23:59:59Z")), st.sampled_from(ZONES))
def test_no_time_breaks_the_search(now, zone):
    found = next_run("*/7 3 * * *", zone, now)
    assert found is None or found > now
