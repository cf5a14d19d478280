"""Payloads and results of `@job`: Django's own kinds of text, pydantic's models, and what is refused at once."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models, transaction
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, ngettext_lazy
from pydantic import BaseModel, Field, SecretStr
from shop.jobs import Invoice, make_invoice, run_sql

from spooled.definition import PayloadError
from spooled_contrib.django import job
from spooled_contrib.django._jobs import registry

pytestmark = pytest.mark.usefixtures("db")


class Total(BaseModel):
    total: int = Field(serialization_alias="totalCents", validation_alias="totalIn")


class Login(BaseModel):
    token: SecretStr


class State(models.TextChoices):
    OPEN = "open", gettext_lazy("Open")


class Kind(enum.IntEnum):
    ONE = 1


@pytest.fixture
def jobs() -> Iterator[dict[str, Any]]:
    @job("texts", max_retries=0)
    def echo(payload: Any) -> Any:
        return given.pop() if given else payload

    @job("totals", max_retries=0)
    async def add(total: Total = Total(totalIn=7)) -> Total:  # type: ignore[call-arg] # noqa: B008
        return total

    @job("bare", max_retries=0)
    def bare(order):  # type: ignore[no-untyped-def]
        return order["number"]

    given: list[Any] = []
    yield {"echo": echo, "add": add, "bare": bare, "given": given}
    for one in (echo, add, bare):
        registry._registry.pop(one.path, None)


VALUES = [
    (mark_safe("<b>a</b>"), "<b>a</b>"),
    (format_html("<b>{}</b>", "&"), "<b>&amp;</b>"),
    (gettext_lazy("Yes"), "Yes"),
    (ngettext_lazy("%d day", "%d days", 2) % 2, "2 days"),
    (SimpleLazyObject(lambda: "late"), "late"),
    (SimpleLazyObject(lambda: mark_safe("late")), "late"),
    (State.OPEN, "open"),
    (Kind.ONE, 1),
    ({gettext_lazy("Yes"): [mark_safe("a"), State.OPEN]}, {"Yes": ["a", "open"]}),
    (dict(State.choices), {"open": "Open"}),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_djangos_kinds_of_text_are_text(
    spooled_django: Any, jobs: dict[str, Any], value: Any, text: Any
) -> None:
    jobs["echo"].enqueue(value)
    (sent,) = spooled_django()
    assert (sent.payload, sent.result) == (text, text)
    jobs["given"].append(value)
    jobs["echo"].enqueue()
    (answered,) = spooled_django()
    assert (answered.status, answered.result) == ("completed", text)


def test_safe_text_in_a_dataclass(spooled_django: Any) -> None:
    class SafeInt(int): ...

    assert make_invoice.definition.parameters(Invoice(SafeInt(3)))["payload"] == {
        "order": 3,
        "job_type": "make",
    }


def test_models_aliases_and_defaults(spooled_django: Any, jobs: dict[str, Any]) -> None:
    first = jobs["add"].enqueue(Total(totalIn=5))
    second = jobs["add"].enqueue()
    third = jobs["bare"].enqueue({"number": 3})
    done = {one.id: one for one in spooled_django()}
    assert (done[first.id].payload, done[first.id].result) == ({"totalIn": 5}, {"totalCents": 5})
    assert done[second.id].result == {"totalCents": 7}
    assert done[third.id].result == 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"priority": 1000},
        {"timeout_seconds": 0},
        {"scheduled_at": dt.datetime(2026, 1, 1)},
        {"expires_at": dt.datetime(2026, 1, 1)},
        {"idempotency_key": "x" * 256},
        {"completion_webhook": "no address"},
        {"tags": {"a": object()}},
    ],
)
def test_impossible_options_are_refused_before_the_commit(spooled_django: Any, options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))), transaction.atomic():
        make_invoice.enqueue_on_commit(Invoice(1), **options)
    assert spooled_django() == []
    name = next(iter(options))
    if name in ("max_retries", "priority", "timeout_seconds", "tags"):
        with pytest.raises(ValueError, match=name):

            @job("never", **options)
            def never(payload: str) -> None: ...

        assert not [one for one in registry.discover() if one.queue_name == "never"]


def test_payloads_that_would_not_arrive_are_refused_before_the_commit(spooled_django: Any) -> None:
    @job("never")
    def log_in(login: Login) -> None: ...

    try:
        for given, words in (
            (Login(token=SecretStr("hunter2")), "SecretStr"),
            ({"tokn": "x"}, "token: Field required"),
            (None, "no Login"),
        ):
            with pytest.raises(PayloadError, match=words), transaction.atomic():
                log_in.enqueue_on_commit(given)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most 1048576 bytes"), transaction.atomic():
            run_sql.enqueue_on_commit("x" * 2**20)
    finally:
        registry._registry.pop(log_in.path, None)
    assert spooled_django() == []
