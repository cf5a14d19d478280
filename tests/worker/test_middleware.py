from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from spooled.worker import AsyncJobContext, JobContext
from spooled.worker.middleware import (
    AckInfo,
    ClaimInfo,
    Middleware,
    check_middlewares,
    notify,
    wants,
    wrap_async_handler,
    wrap_handler,
)

CLAIM = ClaimInfo("q", "w", asked=5, jobs=1, seconds=0.1)


def a_context(payload: Any = None) -> JobContext[Any]:
    return JobContext(
        job_id="j",
        queue_name="q",
        payload=payload,
        retry_count=0,
        max_retries=3,
        timeout_seconds=300,
        lease_id="l",
        signal=threading.Event(),
    )


class Tracer(Middleware):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        self.log.append(f"+{self.name}")
        try:
            yield
        except BaseException as error:
            self.log.append(f"!{self.name} {type(error).__name__}")
            raise
        finally:
            self.log.append(f"-{self.name}")


class Observer(Middleware):
    def __init__(self) -> None:
        self.claims: list[ClaimInfo] = []

    def claimed(self, claim: ClaimInfo) -> None:
        self.claims.append(claim)


def plainly(handler: Callable[[Any], Any], *middlewares: Middleware) -> Any:
    return wrap_handler(handler, middlewares)(a_context())


def on_a_loop(handler: Callable[[Any], Any], *middlewares: Middleware) -> Any:
    async def coroutine(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return handler(ctx)

    async def main() -> Any:
        return await wrap_async_handler(coroutine, middlewares)(a_context())

    return asyncio.run(main())


both = pytest.mark.parametrize("run", [plainly, on_a_loop])


def test_a_handler_without_middleware_stays_itself():
    def handler(ctx: Any) -> None: ...

    async def coroutine(ctx: Any) -> None: ...

    assert wrap_handler(handler, ()) is handler
    assert wrap_async_handler(coroutine, ()) is coroutine


def test_middlewares_that_only_observe_leave_the_handler_alone():
    def handler(ctx: Any) -> None: ...

    async def coroutine(ctx: Any) -> None: ...

    assert wrap_handler(handler, [Observer(), Middleware()]) is handler
    assert wrap_async_handler(coroutine, [Observer(), Middleware()]) is coroutine


@both
def test_the_first_middleware_is_the_outermost(run: Callable[..., Any]):
    log: list[str] = []
    result = run(
        lambda ctx: log.append("handler") or ctx.job_id, Tracer("a", log), Observer(), Tracer("b", log)
    )
    assert result == "j"
    assert log == ["+a", "+b", "handler", "-b", "-a"]


@both
def test_middlewares_see_the_handlers_exception(run: Callable[..., Any]):
    log: list[str] = []
    boom = ZeroDivisionError("boom")

    def handler(ctx: Any) -> None:
        raise boom

    with pytest.raises(ZeroDivisionError) as caught:
        run(handler, Tracer("a", log), Tracer("b", log))
    assert caught.value is boom
    assert log == ["+a", "+b", "!b ZeroDivisionError", "-b", "!a ZeroDivisionError", "-a"]


@both
def test_around_cannot_turn_a_failure_into_a_success(run: Callable[..., Any]):
    class Swallowing(Middleware):
        @contextmanager
        def around(self, ctx: JobContext[Any]) -> Iterator[None]:
            with suppress(Exception):
                yield

    with pytest.raises(ZeroDivisionError):
        run(lambda ctx: 1 / 0, Swallowing())


@both
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_middleware_that_raises_fails_the_job(run: Callable[..., Any], when: str):
    class Broken(Middleware):
        @contextmanager
        def around(self, ctx: JobContext[Any]) -> Iterator[None]:
            if when == "before":
                raise RuntimeError("before")
            yield
            raise RuntimeError("after")

    log: list[str] = []
    with pytest.raises(RuntimeError, match=when):
        run(lambda ctx: log.append("handler"), Tracer("a", log), Broken())
    assert log == ["+a", *(["handler"] if when == "after" else []), "!a RuntimeError", "-a"]


class Doubling(Middleware):
    """Has its own say about results, for both kinds of handler."""

    def run(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
        return 2 * call_next()

    async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
        return 2 * await call_next()


@both
def test_run_may_change_the_result(run: Callable[..., Any]):
    assert run(lambda ctx: 21, Doubling()) == 42


@both
def test_run_may_leave_the_handler_out(run: Callable[..., Any]):
    class Cached(Middleware):
        def run(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
            return "cached"

        async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
            return "cached"

    assert run(lambda ctx: pytest.fail("called"), Cached()) == "cached"


def test_a_middleware_for_one_kind_of_handler_is_refused_with_the_other():
    class Plain(Middleware):
        def run(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
            return call_next()

    class Coroutines(Middleware):
        async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> Any:
            return await call_next()

    async def coroutine(ctx: Any) -> None: ...

    with pytest.raises(TypeError, match=r"Plain overrides run\(\) and this handler needs run_async\(\)"):
        wrap_async_handler(coroutine, [Plain()])
    with pytest.raises(TypeError, match=r"Coroutines overrides run_async\(\)"):
        wrap_handler(print, [Coroutines()])


async def test_cancelling_a_coroutine_handler_passes_through_its_middlewares():
    log: list[str] = []
    started = asyncio.Event()

    async def coroutine(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async def job() -> object:
        return await wrap_async_handler(coroutine, [Tracer("a", log)])(a_context())

    task = asyncio.create_task(job())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["+a", "!a CancelledError", "-a"]


async def test_coroutines_that_interleave_keep_their_own_surroundings():
    log: list[str] = []
    turn = asyncio.Event()

    async def coroutine(ctx: Any) -> None:
        await turn.wait()

    wrapped = wrap_async_handler(coroutine, [Tracer("a", log)])
    first, second = asyncio.ensure_future(wrapped(a_context())), asyncio.ensure_future(wrapped(a_context()))
    await asyncio.sleep(0)
    turn.set()
    await asyncio.gather(first, second)
    assert log == ["+a", "+a", "-a", "-a"]


def test_what_a_middleware_puts_into_the_context_is_what_the_handler_sees():
    class Unwrap(Middleware):
        @contextmanager
        def around(self, ctx: JobContext[Any]) -> Iterator[None]:
            ctx.payload = ctx.payload["inner"]
            yield

    assert wrap_handler(lambda ctx: ctx.payload, [Unwrap()])(a_context({"inner": 7})) == 7


def test_observers_are_told_in_order_and_a_broken_one_stops_nobody(caplog: pytest.LogCaptureFixture):
    class Broken(Middleware):
        def claimed(self, claim: ClaimInfo) -> None:
            raise RuntimeError("boom")

    observer = Observer()
    with caplog.at_level(logging.ERROR, "spooled.worker.middleware"):
        notify([Broken(), observer, Middleware()], "claimed", CLAIM)
    assert observer.claims == [CLAIM]
    assert caplog.messages == ["Broken.claimed raised; the worker goes on"]
    assert caplog.records[0].exc_info


def test_nobody_wants_a_hook_that_nobody_has():
    assert wants([Middleware(), Observer()], "claimed")
    assert not wants([Middleware(), Observer()], "acked")
    assert not wants([], "claimed")


def test_an_ack_names_its_job():
    ack = AckInfo(a_context(), "complete", "accepted", attempts=1, seconds=0.2, run_seconds=0.1)
    assert (ack.job_id, ack.queue_name) == ("j", "q")


def test_a_worker_takes_instances_of_middleware_only():
    observer = Observer()
    assert check_middlewares([observer]) == (observer,)
    assert check_middlewares(()) == ()
    with pytest.raises(TypeError, match=r"write Observer\(\), not Observer"):
        check_middlewares([Observer])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a list of middlewares, got a Observer"):
        check_middlewares(observer)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"instance of spooled\.worker.*got a str"):
        check_middlewares(["otel"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "hook"), [("acknowledged", None), ("ack", "acked"), ("arround", "around"), ("claim", "claimed")]
)
def test_a_hook_that_is_misspelled_is_refused_when_it_is_defined(name: str, hook: str | None):
    def define() -> None:
        type("Mine", (Middleware,), {name: lambda self, info: None})

    if hook is None:
        define()  # not near any hook: a method of its own
    else:
        with pytest.raises(TypeError, match=f"Mine.{name} is no hook of a middleware; did you mean '{hook}'"):
            define()


def test_hooks_of_the_wrong_kind_are_refused_when_they_are_defined():
    with pytest.raises(TypeError, match="decorate it with @contextmanager"):

        class Bare(Middleware):
            def around(self, ctx: JobContext[Any]) -> Any:
                yield

    with pytest.raises(TypeError, match="around must not be async"):

        class Awaiting(Middleware):
            async def around(self, ctx: JobContext[Any]) -> Any:  # type: ignore[override]
                return None

    with pytest.raises(TypeError, match="acked must be a plain def"):

        class AsyncObserver(Middleware):
            async def acked(self, ack: AckInfo) -> None:  # type: ignore[override]
                return None

    with pytest.raises(TypeError, match="run_async must be async def"):

        class Sync(Middleware):
            def run_async(self, ctx: JobContext[Any], call_next: Any) -> Any:
                return None


def test_an_async_context_serves_as_well():
    assert issubclass(AsyncJobContext, JobContext)  # what `around` is declared to take
