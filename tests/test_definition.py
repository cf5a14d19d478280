"""What a kind of job is: the parameters it is enqueued with, and its payload on the other side."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from spooled.definition import JobDefinition, PayloadError
from spooled.errors import ValidationError


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: str
    at: dt.datetime | None = None


@dataclass
class Data:
    number: int


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Typed(TypedDict):
    number: int


class Named(BaseModel):
    job_type: Literal["kind"] = "kind"
    to: str


AT = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "payload", "form"),
    [
        (Model, Model(to="ada", at=AT), {"to": "ada", "at": "2026-01-02T03:04:00Z"}),
        (Data, Data(3), {"number": 3}),
        (Struct, Struct(3), {"number": 3}),
        (Typed, Typed(number=3), {"number": 3}),
        (list[Data], [Data(1), Data(2)], [{"number": 1}, {"number": 2}]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (int, 3, 3),
        (str | None, None, None),
        (None, {"any": ["thing"]}, {"any": ["thing"]}),
    ],
)
def test_a_payload_comes_back_as_it_was(kind: Any, payload: Any, form: Any) -> None:
    definition = JobDefinition[Any]("q", payload_type=kind)
    assert definition.parameters(payload) == {"queue_name": "q", "payload": form}
    assert definition.read(form) == payload


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(Model, Model(to="ada")), (Data, Data(3)), (Struct, Struct(3)), (None, {"number": 3})],
)
def test_a_job_type_travels_in_the_payload_and_does_not_disturb_its_type(kind: Any, payload: Any) -> None:
    definition = JobDefinition[Any]("q", "kind", kind)
    sent = definition.parameters(payload)["payload"]
    assert sent["job_type"] == "kind"
    read = definition.read(sent)
    assert read == (payload if kind is not None else {**payload, "job_type": "kind"})


def test_a_type_that_declares_the_job_type_gets_it() -> None:
    definition = JobDefinition[Any]("q", "kind", Named)
    sent = definition.parameters(Named(to="ada"))["payload"]
    assert sent == {"job_type": "kind", "to": "ada"}
    assert definition.read(sent) == Named(job_type="kind", to="ada")


def test_a_typed_job_needs_an_object() -> None:
    definition = JobDefinition[Any]("q", "kind")
    assert definition.parameters(None)["payload"] == {"job_type": "kind"}
    with pytest.raises(TypeError, match="needs a payload that is a JSON object"):
        definition.parameters([1])


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Model, {"too": "ada"}),
        (Data, {"number": "x"}),
        (list[Data], [{"number": "x"}]),
        (int, "3"),
        (Typed, {}),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_on_both_sides(kind: Any, payload: Any) -> None:
    definition = JobDefinition[Any]("q", payload_type=kind)
    with pytest.raises(PayloadError):
        definition.parameters(payload)
    with pytest.raises(PayloadError):
        definition.read(payload)


@pytest.mark.parametrize("payload", [object(), float("nan"), [1, {"a": float("inf")}], {"a": object()}])
def test_what_json_cannot_say_is_refused(payload: Any) -> None:
    with pytest.raises(ValidationError, match="payload"):
        JobDefinition[Any]("q").parameters(payload)


def test_options_and_defaults() -> None:
    definition = JobDefinition[Any]("q", defaults={"priority": 5, "max_retries": 1, "tags": ["a"]})
    assert definition.parameters(1, priority=9, max_retries=None, delay=1.5, idempotency_key="k") == {
        "queue_name": "q",
        "payload": 1,
        "priority": 9,
        "max_retries": 1,
        "tags": ["a"],
        "scheduled_at": dt.timedelta(seconds=1.5),
        "idempotency_key": "k",
    }
    assert definition.parameters(1, delay=dt.timedelta(1))["scheduled_at"] == dt.timedelta(1)
    assert definition.parameters(1, scheduled_at=AT)["scheduled_at"] == AT


def test_mistakes_in_options() -> None:
    definition = JobDefinition[Any]("q")
    with pytest.raises(TypeError, match=r"no option 'prio'.*priority"):
        definition.parameters(1, prio=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="either delay or scheduled_at"):
        definition.parameters(1, delay=1, scheduled_at=AT)
    with pytest.raises(TypeError, match="delay must be a number of seconds"):
        definition.parameters(1, delay="1s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no default 'delay'"):
        JobDefinition[Any]("q", defaults={"delay": 3})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="queue_name"):
        JobDefinition[Any](".q")
