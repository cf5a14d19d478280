"""How often a task runs: once, whatever its signals' receivers do and whatever it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.dispatch import Signal
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from shop import tasks
from shop.models import Order

from spooled_contrib.django._task_names import (
    TaskResultStatus,
    task_enqueued,
    task_finished,
    task_started,
)
from spooled_contrib.django.testing import drain_jobs
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db")

SIGNALS = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL
Connect = Callable[[Signal, Callable[..., Any]], None]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects receivers for one test, in front of the others."""
    connected: list[tuple[Signal, Callable[..., Any], list[Any]]] = []

    def now(signal: Signal, receiver: Callable[..., Any]) -> None:
        connected.append((signal, receiver, list(signal.receivers)))
        others, signal.receivers = signal.receivers, []
        signal.connect(receiver)
        signal.receivers += others

    yield now
    for signal, receiver, _ in connected:
        signal.disconnect(receiver)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the tasks have written: a line for each run."""
    path = tmp_path / "runs"
    path.touch()
    monkeypatch.setenv("TASK_LOG", str(path))
    return lambda: path.read_text().splitlines()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, Exception], ids=lambda e: e.__name__)
@pytest.mark.parametrize("name", ["started", "finished"])
def test_a_receiver_that_raises_in_the_worker(
    spooled_django: Any,
    connect: Connect,
    log: Callable[[], list[str]],
    signals: list[tuple[str, str, str]],
    caplog: pytest.LogCaptureFixture,
    name: str,
    error: type[BaseException],
) -> None:
    def fail(**_: Any) -> None:
        raise error("the receiver is broken")

    connect(SIGNALS[name], fail)
    result = tasks.give.enqueue("nothing")
    (job,) = drain_jobs()
    assert (job.status, job.retry_count, log()) == ("completed", 0, ["nothing"])
    result.refresh()
    assert (result.status, result.attempts, result.errors) == (SUCCESSFUL, 1, [])
    assert "the receiver is broken" in caplog.text
    if issubclass(error, Exception):
        # The other receivers have heard of it.
        assert [one for one, *_ in signals] == ["enqueued", "started", "finished"]


def test_a_receiver_that_raises_when_a_task_has_failed(
    spooled_django: Any, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the receiver is broken")

    connect(task_finished, fail)
    result = tasks.decline_once.enqueue(5)
    drain_jobs()
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 1)
    assert [one.exception_class for one in result.errors] == [tasks.DeclinedError]
    assert "the receiver is broken" in caplog.text


def test_a_receiver_that_raises_when_a_task_is_enqueued(
    spooled_django: Any,
    outside: Outside,
    connect: Connect,
    signals: list[tuple[str, str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the receiver is broken")

    connect(task_enqueued, fail)
    result = tasks.add.enqueue(1)
    assert outside.counts("default")["total"] == 1
    assert signals == [("enqueued", "READY", result.id)]
    assert "the receiver is broken" in caplog.text


async def test_receivers_of_an_async_enqueue(
    spooled_django: Any,
    outside: Outside,
    connect: Connect,
    signals: list[tuple[str, str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Coroutines and plain functions, which may use the ORM."""
    heard = []

    def fail(**_: Any) -> None:
        Order.objects.count()
        raise RuntimeError("the receiver is broken")

    async def fail_too(**_: Any) -> None:
        raise RuntimeError("this one too")

    async def hear(task_result: Any, **_: Any) -> None:
        heard.append(task_result.id)

    for receiver in (fail, fail_too, hear):
        connect(task_enqueued, receiver)
    result = await tasks.add.aenqueue(1)
    assert outside.counts("default")["total"] == 1
    assert signals == [("enqueued", "READY", result.id)]
    assert heard == [result.id]
    assert "the receiver is broken" in caplog.text
    assert "this one too" in caplog.text


async def test_an_enqueue_without_await_on_a_loop_with_a_coroutine_as_receiver(
    spooled_django: Any, outside: Outside, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Django cannot call it there; the job is there all the same."""

    async def hear(**_: Any) -> None:
        """Never called."""

    connect(task_enqueued, hear)
    result = tasks.add.enqueue(1)
    assert outside.status(result.id) == "pending"
    assert "task_enqueued could not be sent" in caplog.text


def test_a_coroutine_as_receiver_in_the_worker(spooled_django: Any, connect: Connect) -> None:
    heard = []

    async def hear(task_result: Any, **_: Any) -> None:
        heard.append(task_result.return_value)

    connect(task_finished, hear)
    tasks.add.enqueue(1, 2)
    drain_jobs()
    assert heard == [3]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("object", TypeError, "the return value is of type object and has no JSON form"),
        (
            "deep down",
            TypeError,
            "the return value['rows'][1]['who'] is of type set and has no JSON form: {1, 2}",
        ),
        ("a set", TypeError, "type set"),
        ("a moment", TypeError, "type datetime.datetime and has no JSON form: datetime.datetime(2030"),
        (
            "a model",
            TypeError,
            "the return value is the shop.models.Order instance None; pass its primary key",
        ),
        ("a query", TypeError, "the return value['orders'] is a QuerySet of shop.models.Order; pass a list"),
        ("not a number", ValueError, "type float and has no JSON form: nan"),
        ("infinity", ValueError, "the return value[0] is of type float and has no JSON form: -inf"),
        ("a large number", ValueError, "type int and has more than 64 bits: 18446744073709551616"),
        ("a huge number", ValueError, "type int and has more than 64 bits"),
        ("bytes", ValueError, r"type bytes and is no UTF-8 text: b'\xff'"),
        ("half a character", ValueError, "type str"),
        ("a broken list", TypeError, "type shop.tasks.Broken and cannot be read: RuntimeError"),
        ("a broken lazy text", TypeError, "cannot be read: RuntimeError"),
        ("a circle", ValueError, "holds itself"),
        ("a deep list", ValueError, "nested too deeply"),
        ("a strange key", TypeError, "type tuple and cannot be a key"),
        ("two keys in one", ValueError, "same text"),
        ("too much", ValueError, "type str and has 2,097,154 bytes as JSON"),
    ],
)
@pytest.mark.parametrize("task", ["give", "give_async"])
def test_what_cannot_be_kept_fails_once(
    spooled_django: Any,
    outside: Outside,
    log: Callable[[], list[str]],
    signals: list[tuple[str, str, str]],
    caplog: pytest.LogCaptureFixture,
    task: str,
    name: str,
    error: type[Exception],
    said: str,
) -> None:
    result = getattr(tasks, task).enqueue(name)
    drain_jobs()
    assert log() == [name]
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 1)
    assert result.finished_at is not None
    (kept,) = result.errors
    assert kept.exception_class is error
    assert said in kept.traceback
    assert signals[1:] == [("started", "RUNNING", result.id), ("finished", "FAILED", result.id)]
    ours = [one for one in caplog.records if one.name == "spooled.django"]
    assert [one.levelno for one in ours] == [logging.ERROR]
    assert said in ours[0].getMessage()
    assert result.id in ours[0].getMessage()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a translation", "Hello"),
        ("safe text", "<b>&lt;</b>"),
        ("a hidden text", "still text"),
        ("a choice", ["S", 0]),
        ("utf-8", "é"),
        ("keys", {"1": "a", "null": "b", "false": "c", "1.5": "d", "Hello": "e"}),
        ("a tuple", [1, [2, [0, 1]]]),
        ("nothing", None),
        ("much", "x" * (2 * 1024 * 1024 - 2048)),
    ],
)
@pytest.mark.parametrize("task", ["give", "give_async"])
def test_what_can_be_kept(
    spooled_django: Any,
    log: Callable[[], list[str]],
    connect: Connect,
    task: str,
    name: str,
    value: object,
) -> None:
    told = []

    def hear(task_result: Any, **_: Any) -> None:
        told.append(task_result.return_value)

    connect(task_finished, hear)
    result = getattr(tasks, task).enqueue(name)
    drain_jobs()
    result.refresh()
    assert (result.status, result.return_value, log()) == (SUCCESSFUL, value, [name])
    # In the worker it is what it is afterwards, of the plain types.
    assert told == [value]
    assert type(told[0]) is type(value)


def test_texts_as_arguments(spooled_django: Any) -> None:
    result = tasks.echo.enqueue([gettext_lazy("Hello"), mark_safe("<b>"), lazystr("there"), tasks.Size.SMALL])
    assert result.args == [["Hello", "<b>", "there", "S"]]
    drain_jobs()
    result.refresh()
    assert result.return_value == ["Hello", "<b>", "there", "S"]


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (float("nan"), ValueError, r"args\[0\] is of type float"),
        ({"a": [{1}]}, TypeError, r"args\[0\]\['a'\]\[0\] is of type set"),
        (10**5000, ValueError, r"args\[0\] is of type int"),
        (tasks.Broken(), TypeError, r"args\[0\] is of type shop\.tasks\.Broken and cannot be read"),
    ],
    ids=["nan", "a set", "a huge number", "a broken list"],
)
async def test_arguments_without_a_json_form(
    spooled_django: Any, outside: Outside, value: object, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        tasks.echo.enqueue(value)
    with pytest.raises(error, match=said.replace(r"args\[0\]", r"kwargs\['value'\]")):
        await tasks.echo.aenqueue(value=value)
    assert await sync_to_async(outside.counts)("default") == dict.fromkeys(outside.counts("default"), 0)


def test_an_error_without_words(spooled_django: Any) -> None:
    result = tasks.speechless.using(backend="other").enqueue()
    drain_jobs()
    result.refresh()
    (error,) = result.errors
    assert error.exception_class is tasks.Unspeakable
    assert "raise Unspeakable" in error.traceback
