import datetime
import enum
import os
import time
from pathlib import Path

from django.db import models
from django.utils.functional import lazystr
from django.utils.html import format_html
from django.utils.translation import gettext_lazy

from shop.models import Order
from spooled.worker import Discard, Retry, Snooze
from tests.waiting import wait_until

try:
    from django.tasks import task
except ModuleNotFoundError:
    from django_tasks import task


class DeclinedError(Exception):
    pass


@task
def add(one: int, two: int = 0) -> int:
    return one + two


@task(queue_name="slow", priority=7)
async def greet(name: str) -> str:
    order = await Order.objects.acreate(customer=name)
    return f"hello {order.customer}"


@task(takes_context=True)
def attempt(context) -> list:
    return [context.attempt, context.task_result.id, len(context.task_result.worker_ids)]


@task
def decline(amount: int) -> None:
    raise DeclinedError(f"{amount} is too much")


@task(backend="other")
def decline_once(amount: int) -> None:
    raise DeclinedError(f"{amount} is too much")


@task(backend="immediate")
def immediate(n: int) -> int:
    return n


def no_task(n: int) -> int:
    raise AssertionError("nothing but tasks may be called")


try:

    @task(max_retries=5, timeout=7)
    def limited(n: int) -> int:
        return n

except TypeError:  # Django 6.0 passes nothing on to the backend's class
    limited = None


def count_run(folder: str) -> int:
    """Returns how many runs there were in this folder, with this one."""
    Path(folder, str(time.monotonic_ns())).touch()
    return len(list(Path(folder).iterdir()))


@task
def gate(folder: str) -> str:
    """Waits until the test lets it go, or its worker is stopped."""
    place = Path(folder)
    (place / f"begun-{os.getpid()}").touch()
    wait_until((place / "open").exists, "the test lets it go")
    return "done"


@task(takes_context=True)
def later(context, folder: str, times: int, how: str) -> list:
    """Asks so many times to be run again, and then says which run this is."""
    if count_run(folder) <= times:
        raise {"snooze": Snooze, "retry": Retry}[how](0, "not yet")
    return [context.attempt, context.task_result.id]


@task(takes_context=True)
async def later_async(context, folder: str, times: int) -> list:
    if count_run(folder) <= times:
        raise Snooze(0, "not yet")
    return [context.attempt, context.task_result.id]


@task
def later_then_fail(folder: str) -> None:
    if count_run(folder) == 1:
        raise Snooze(0)
    raise DeclinedError("no")


@task
def wait_a_day(folder: str) -> None:
    raise Snooze(86_400, "tomorrow")


@task
def give_up() -> None:
    raise Discard("the order is gone")


@task
def retry_for_ever() -> None:
    raise Retry(0, "the mail server is down")


@task
def interrupt() -> None:
    raise KeyboardInterrupt


@task
def echo(value):
    return value


class Hidden(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("this text cannot be read")


class Broken(list):
    def __iter__(self):
        raise RuntimeError("this list cannot be read")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this error has no words")


class Size(models.TextChoices):
    SMALL = "S", "small"


class Floor(enum.IntEnum):
    GROUND = 0


def _circle() -> list:
    made: list = []
    made.append(made)
    return made


def _deep() -> list:
    made: list = []
    for _ in range(100_000):
        made = [made]
    return made


RETURNED = {
    "object": object,
    "deep down": lambda: {"rows": [1, {"who": {1, 2}}]},
    "a set": lambda: {1, 2},
    "a moment": lambda: datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
    "a model": lambda: Order(customer="Ada"),
    "a query": lambda: {"orders": Order.objects.all()},
    "not a number": lambda: float("nan"),
    "infinity": lambda: [float("-inf")],
    "a large number": lambda: 2**64,
    "a huge number": lambda: 10**5000,
    "bytes": lambda: b"\xff",
    "half a character": lambda: "\ud800",
    "a broken list": lambda: Broken([1]),
    "a broken lazy text": lambda: lazystr(Unspeakable()),
    "a circle": _circle,
    "a deep list": _deep,
    "a strange key": lambda: {(1, 2): 3},
    "two keys in one": lambda: {1: "a", "1": "b"},
    "too much": lambda: "x" * (2 * 1024 * 1024),
    # And what has a JSON form.
    "a translation": lambda: gettext_lazy("Hello"),
    "safe text": lambda: format_html("<b>{}</b>", "<"),
    "a hidden text": lambda: Hidden("still text"),
    "a choice": lambda: [Size.SMALL, Floor.GROUND],
    "utf-8": lambda: "é".encode(),
    "keys": lambda: {1: "a", None: "b", False: "c", 1.5: "d", gettext_lazy("Hello"): "e"},
    "a tuple": lambda: (1, (2, range(2))),
    "nothing": lambda: None,
    "much": lambda: "x" * (2 * 1024 * 1024 - 2048),
}


@task
def give(name: str):
    with Path(os.environ["TASK_LOG"]).open("a") as log:
        log.write(f"{name}\n")
    return RETURNED[name]()


@task
async def give_async(name: str):
    with Path(os.environ["TASK_LOG"]).open("a") as log:
        log.write(f"{name}\n")
    return RETURNED[name]()


@task
def speechless() -> None:
    raise Unspeakable


@task(backend="other", queue_name="parcels")
def ship(n: int) -> int:
    """On a queue that only this line names: its backend takes any."""
    return n
