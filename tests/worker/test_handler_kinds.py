"""What a handler is: found through decorators, partials and objects; what cannot be one is refused at once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.worker import AsyncSpooledWorker, Discard, Retry, Snooze, SpooledWorker
from spooled.worker.signature import signature_of
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        return function(*args, **more)

    return call


def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **more: Any) -> Any:
        return function(*args, **more)

    return call


async def coroutine(ctx: Any) -> str:
    await asyncio.sleep(0)
    return "coroutine"


def plain(ctx: Any) -> str:
    return "plain"


def takes_two(greeting: str, ctx: Any) -> str:
    return greeting


async def takes_two_async(greeting: str, ctx: Any) -> str:
    return greeting


class Plain:
    def __call__(self, ctx: Any) -> str:
        return "object"

    def method(self, ctx: Any) -> str:
        return "method"


class Coroutine:
    async def __call__(self, ctx: Any) -> str:
        return "object"

    async def method(self, ctx: Any) -> str:
        return "method"

    @staticmethod
    async def static(ctx: Any) -> str:
        return "static"


class Wrapped:
    """A decorator that is an object."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, ctx: Any) -> Any:
        return self.__wrapped__(ctx)  # type: ignore[attr-defined]


COROUTINES: dict[str, tuple[Any, str]] = {
    "function": (coroutine, "coroutine"),
    "wraps": (logged(coroutine), "coroutine"),
    "wraps twice": (logged(logged(coroutine)), "coroutine"),
    "partial": (functools.partial(takes_two_async, "hello"), "hello"),
    "wraps of a partial": (logged(functools.partial(takes_two_async, "hello")), "hello"),
    "partial of wraps": (functools.partial(logged(takes_two_async), "hello"), "hello"),
    "object": (Coroutine(), "object"),
    "wraps of an object": (logged(Coroutine()), "object"),
    "method": (Coroutine().method, "method"),
    "wraps of a method": (logged(Coroutine().method), "method"),
    "static method": (Coroutine.static, "static"),
    "decorator that is an object": (Wrapped(coroutine), "coroutine"),
    "async around a plain function": (awaited(plain), "plain"),
}
PLAIN: dict[str, tuple[Any, str]] = {
    "function": (plain, "plain"),
    "wraps": (logged(plain), "plain"),
    "partial": (functools.partial(takes_two, "hello"), "hello"),
    "object": (Plain(), "object"),
    "method": (Plain().method, "method"),
    "decorator that is an object": (Wrapped(plain), "plain"),
}


async def rows(ctx: Any) -> AsyncIterator[int]:
    yield 1


def lines(ctx: Any) -> Iterator[int]:
    yield 1


class Generator:
    def __call__(self, ctx: Any) -> Iterator[int]:
        yield 1


NO_HANDLERS = {
    "generator": lines,
    "asynchronous generator": rows,
    "wraps of a generator": logged(lines),
    "partial of a generator": functools.partial(lines),
    "object with a generator": Generator(),
    "wraps of an asynchronous generator": logged(rows),
}


@pytest.mark.parametrize("name", COROUTINES)
def test_coroutine_functions(name: str, client: SpooledClient):
    handler, _ = COROUTINES[name]
    with pytest.raises(TypeError, match="is a coroutine function: use AsyncSpooledWorker"):
        SpooledWorker(client, "q").process(handler)
    assert signature_of(handler).coroutine


@pytest.mark.parametrize("name", PLAIN)
def test_plain_functions(name: str, client: SpooledClient):
    handler, _ = PLAIN[name]
    SpooledWorker(client, "q").process(handler)
    assert not signature_of(handler).coroutine


async def test_all_of_them_run_in_one_worker(server: Any, outside: Outside):
    from spooled import AsyncSpooledClient

    jobs: dict[str, str] = {}
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05, concurrency=10)
        for prefix, handlers in (("coroutine", COROUTINES), ("plain", PLAIN)):
            for name, (handler, answer) in handlers.items():
                worker.handler(f"{prefix} {name}")(handler)
                job = outside.enqueue(payload={"job_type": f"{prefix} {name}"}, max_retries=0)
                jobs[job] = answer
        await worker.start(burst=True)
    assert {job: outside.job(job)["result"] for job in jobs} == jobs


@pytest.mark.parametrize("name", NO_HANDLERS)
def test_generators_are_refused_at_the_decorator(name: str, client: SpooledClient):
    handler: Any = NO_HANDLERS[name]
    for worker in (SpooledWorker(client, "q"), AsyncSpooledWorker(client, "q")):
        with pytest.raises(TypeError, match="generator"):
            worker.process(handler)
        with pytest.raises(TypeError, match="generator"):
            worker.handler("x")(handler)
    with pytest.raises(TypeError, match="generator"):
        signature_of(handler)


@pytest.mark.parametrize("value", [None, 5, "handler", Plain.__init__.__class__, Plain])
def test_what_is_no_function_is_refused(value: Any, client: SpooledClient):
    with pytest.raises(TypeError, match="a handler must be a function"):
        SpooledWorker(client, "q").process(value)


def test_a_plain_function_that_returns_a_coroutine_says_so(client: SpooledClient, outside: Outside):
    job_id = outside.enqueue(max_retries=0)
    with Running("threads", client, lambda ctx: coroutine(ctx)):
        wait_until(lambda: outside.status(job_id) == "deadletter")
    assert "returned a coroutine" in outside.job(job_id)["last_error"]
    assert "async def" in outside.job(job_id)["last_error"]


# --- exception groups -------------------------------------------------------------------------------------------------


def group(*errors: Exception, message: str = "unhandled errors in a TaskGroup") -> ExceptionGroup[Exception]:
    return ExceptionGroup(message, list(errors))


@both
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (group(ValueError("no rows")), ["TaskGroup", "ValueError: no rows"]),
        (group(group(ValueError("deep"))), ["ValueError: deep"]),
        (
            group(ValueError("one"), group(KeyError("two"), OSError("three"))),
            ["ValueError: one", "KeyError: 'two'", "OSError: three"],
        ),
        (group(*(ValueError(f"n{n}") for n in range(50))), ["ValueError: n0", "ValueError: n2", "47 more"]),
        (group(Retry(1), ValueError("and this")), ["ValueError: and this"]),
    ],
    ids=["one", "nested", "several", "many", "a control among others"],
)
def test_a_group_tells_its_causes(
    kind: str, error: Exception, words: list[str], client: SpooledClient, outside: Outside
):
    def handler(ctx: Any) -> None:
        raise error

    job_id = outside.enqueue(max_retries=0)
    with Running(kind, client, handler):
        wait_until(lambda: outside.status(job_id) == "deadletter")
    told = outside.job(job_id)["last_error"]
    assert all(word in told for word in words), told
    assert len(told) < 400


@both
@pytest.mark.parametrize(
    ("control", "outcome"),
    [(Retry(3600), "retried"), (Snooze(3600), "snoozed"), (Discard("useless"), "discarded")],
    ids=["retry", "snooze", "discard"],
)
def test_a_group_of_one_control_exception_counts_as_that(
    kind: str, control: Exception, outcome: str, client: SpooledClient, outside: Outside
):
    def handler(ctx: Any) -> None:
        raise group(group(control))

    job_id = outside.enqueue()
    with Running(kind, client, handler):
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == outcome


async def test_a_task_group_of_asyncio(server: Any, outside: Outside):
    from spooled import AsyncSpooledClient

    async def fails() -> None:
        raise LookupError("row 7")

    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", poll_interval=0.05)

        @worker.process
        async def handle(ctx: Any) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())
                tasks.create_task(asyncio.sleep(60))

        job_id = outside.enqueue(max_retries=0)
        await worker.start(burst=True)
    assert "LookupError: row 7" in outside.job(job_id)["last_error"]
