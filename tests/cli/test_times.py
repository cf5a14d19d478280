from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from spooled.cli._times import moment, moment_or_span, since, span

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("2D", 172_800),
        ("1w", 604_800),
        ("0", 0),
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-5", "5x", "m5", "1h 30m", "tomorrow", "9999w", "nan", "inf"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a length of time|longer than ten years"):
        span(text)


def test_moments() -> None:
    assert moment("2026-12-24T18:00:00Z") == datetime(2026, 12, 24, 18, tzinfo=UTC)
    assert moment("2026-12-24T18:00+02:00") == datetime(2026, 12, 24, 16, tzinfo=UTC)
    # Without an offset it is the time on the wall.
    assert moment("2026-12-24T18:00") == datetime(2026, 12, 24, 18).astimezone()
    with pytest.raises(ValueError, match="'noon' is not a time such as"):
        moment("noon")


def test_either() -> None:
    assert moment_or_span("2026-12-24T18:00Z").day == 24
    assert moment_or_span("1h") > datetime.now(UTC)
    with pytest.raises(ValueError, match="neither a length of time"):
        moment_or_span("later")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-0.4, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_800, "2d"),
        (-30, "in 30s"),
    ],
)
def test_distances(seconds: float, text: str) -> None:
    assert since(NOW - timedelta(seconds=seconds), NOW) == text


def test_no_time_has_no_distance() -> None:
    assert since(None, NOW) is None
