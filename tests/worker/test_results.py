import dataclasses
import datetime as dt
import decimal
import enum
import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from spooled.worker._job_result import ERROR_LIMIT, describe_error, fit_error
from spooled.worker._results import UnserialisableResultError, encode_result

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_values_arrive_as_they_were_returned(value: Any):
    assert json.loads(encode_result(value)) == value


@dataclasses.dataclass
class Point:
    x: int
    y: int | None


class Model(BaseModel):
    when: dt.datetime
    note: str | None = None


class Colour(enum.Enum):
    RED = "red"


class Record(msgspec.Struct):
    id: uuid.UUID


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, None), {"x": 1, "y": None}),
        (Model(when=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), {"when": "2026-01-01T00:00:00Z", "note": None}),
        (Record(uuid.UUID(int=1)), {"id": "00000000-0000-0000-0000-000000000001"}),
        ({"amount": decimal.Decimal("1.10")}, {"amount": "1.10"}),
        ([Colour.RED, (1, 2), {3}], ["red", [1, 2], [3]]),
        ({1: "one"}, {"1": "one"}),
    ],
)
def test_the_usual_objects_become_json(value: Any, expected: Any):
    assert json.loads(encode_result(value)) == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "wrap", [lambda n: n, lambda n: [n], lambda n: {"a": [{"b": n}]}, lambda n: Point(1, n)]
)
def test_numbers_that_json_does_not_have_are_refused_not_nulled(number: float, wrap: Any):
    with pytest.raises(UnserialisableResultError, match="NaN and Infinity"):
        encode_result(wrap(number))


class Hostile:
    @property
    def model_dump(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "object"),
        (lambda: None, "function"),
        ({"a": {"b": object()}}, "object"),
        ("\ud800", "JSON"),
        (Hostile(), "RuntimeError"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_reason(value: Any, reason: str):
    with pytest.raises(UnserialisableResultError, match=reason):
        encode_result(value)


def test_a_value_that_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnserialisableResultError, match="recursion"):
        encode_result(loop)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError"),
        (SystemExit(3), "SystemExit: 3"),
        (Unprintable(), "Unprintable: (its message cannot be read: ZeroDivisionError)"),
    ],
)
def test_errors_are_reported_with_their_type(error: BaseException, text: str):
    assert describe_error(error) == text


@given(st.text(alphabet=st.characters(), max_size=5000))
def test_every_error_text_fits_what_the_server_takes(text: str):
    fitted = fit_error(text)
    assert 1 <= len(fitted) <= ERROR_LIMIT
    assert "\x00" not in fitted
    fitted.encode("utf-8")
