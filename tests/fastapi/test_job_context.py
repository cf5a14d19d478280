"""A job has one context: what a dependency sets, handler, other dependencies and clean-up see, wherever they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from spooled.worker import JobContext, Middleware
from spooled_contrib.fastapi import Spooled
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
session: ContextVar[str] = ContextVar("session")
SEEN: list[str] = []


@pytest.fixture(autouse=True)
def empty() -> None:
    SEEN.clear()


async def coroutine_dependency() -> None:
    await asyncio.sleep(0)
    tenant.set("set by a dependency")


def plain_dependency() -> None:
    tenant.set("set by a dependency")


async def coroutine_generator() -> AsyncGenerator[None, None]:
    token, inner = tenant.set("set by a dependency"), session.set("open")
    try:
        yield
    finally:
        await asyncio.sleep(0)
        SEEN.append(f"clean-up: {tenant.get()}, {session.get()}")
        session.reset(inner)
        tenant.reset(token)


def plain_generator() -> Generator[None, None, None]:
    token, inner = tenant.set("set by a dependency"), session.set("open")
    try:
        yield
    finally:
        SEEN.append(f"clean-up: {tenant.get()}, {session.get()}")
        session.reset(inner)
        tenant.reset(token)


def reader() -> str:
    return tenant.get()


async def async_reader() -> str:
    return tenant.get()


class Watching(Middleware):
    """Sees the job's context before and after everything else."""

    def run(self, ctx: JobContext[Any], call_next: Callable[[], object]) -> object:
        token = tenant.set("set by middleware")
        try:
            return call_next()
        finally:
            SEEN.append(f"middleware: {tenant.get()}, {session.get('unset')}")
            tenant.reset(token)

    async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Any]) -> object:
        token = tenant.set("set by middleware")
        try:
            return await call_next()
        finally:
            SEEN.append(f"middleware: {tenant.get()}, {session.get('unset')}")
            tenant.reset(token)


both = pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "plain function"])
of_all = pytest.mark.parametrize(
    "dependency", [coroutine_dependency, plain_dependency, coroutine_generator, plain_generator]
)
generators = pytest.mark.parametrize("dependency", [coroutine_generator, plain_generator])


def run(server: EmbeddedServer, function: Any, count: int = 1) -> list[Any]:
    spooled = Spooled(server.api_key, base_url=server.url, middleware=[Watching()])
    job = spooled.job("q", concurrency=1)(function)
    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        for _ in range(count):
            job.enqueue_sync({})
        return spooled.drain_sync()


def handler(plain: bool, action: Callable[[], Any], *dependencies: Any) -> Any:
    """A handler with these dependencies."""
    first, last = Depends(dependencies[0]), Depends(dependencies[-1])

    async def coroutine(payload: dict[str, Any], a: Any = first, b: Any = last) -> Any:
        return action()

    def function(payload: dict[str, Any], a: Any = first, b: Any = last) -> Any:
        return action()

    return function if plain else coroutine


@both
@of_all
def test_a_handler_sees_what_a_dependency_has_set(
    plain: bool, dependency: Any, server: EmbeddedServer
) -> None:
    done = run(server, handler(plain, tenant.get, dependency), 2)
    assert [job.result for job in done] == ["set by a dependency"] * 2


@both
@of_all
@pytest.mark.parametrize("later", [reader, async_reader])
def test_a_dependency_sees_what_another_has_set(
    plain: bool, dependency: Any, later: Any, server: EmbeddedServer
) -> None:
    def function(
        payload: dict[str, Any], first: None = Depends(dependency), then: str = Depends(later)
    ) -> str:
        return then

    async def coroutine(
        payload: dict[str, Any], first: None = Depends(dependency), then: str = Depends(later)
    ) -> str:
        return then

    (done,) = run(server, function if plain else coroutine)
    assert done.result == "set by a dependency"


@both
@generators
@pytest.mark.parametrize("fails", [False, True])
def test_clean_up_sees_what_the_handler_has_set_and_sets_back_what_it_had_set(
    plain: bool, dependency: Any, fails: bool, server: EmbeddedServer
) -> None:
    def action() -> None:
        tenant.set("set by the handler")
        session.set("used")
        if fails:
            raise ValueError("after all")

    (done,) = run(server, handler(plain, action, dependency))
    assert SEEN == ["clean-up: set by the handler, used", "middleware: set by middleware, unset"]
    assert done.last_error == ("ValueError: after all" if fails else None)


@both
def test_dependencies_see_what_middleware_has_set(plain: bool, server: EmbeddedServer) -> None:
    (done,) = run(server, handler(plain, tenant.get, async_reader, reader))
    assert done.result == "set by middleware"


@both
@generators
def test_two_dependencies_are_left_in_the_reverse_order(
    plain: bool, dependency: Any, server: EmbeddedServer
) -> None:
    other = plain_generator if dependency is coroutine_generator else coroutine_generator
    (done,) = run(server, handler(plain, tenant.get, dependency, other))
    assert done.result == "set by a dependency"
    assert SEEN == [
        "clean-up: set by a dependency, open",
        "clean-up: set by a dependency, open",
        "middleware: set by middleware, unset",
    ]


@both
@of_all
def test_the_next_job_of_a_worker_begins_as_the_lifespan_did(
    plain: bool, dependency: Any, server: EmbeddedServer, outside: Outside
) -> None:
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True)
    seen: list[str] = []

    def before() -> None:
        seen.append(tenant.get())

    function = handler(plain, lambda: tenant.set("left behind") and None, before, dependency)
    spooled.job("q", concurrency=1)(function)
    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        ids = outside.enqueue_many(3)
        wait_until(lambda: all(outside.status(job_id) == "completed" for job_id in ids))
    assert seen == ["nobody"] * 3


async def leaves() -> None:
    raise SystemExit(3)


async def leaves_at_the_end() -> AsyncGenerator[None, None]:
    yield
    raise SystemExit(3)


def leaves_in_a_thread() -> None:
    raise SystemExit(3)


@both
@pytest.mark.parametrize("dependency", [leaves, leaves_at_the_end, leaves_in_a_thread])
def test_a_dependency_that_ends_the_program_fails_its_job_only(
    plain: bool, dependency: Any, server: EmbeddedServer, outside: Outside
) -> None:
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True)
    bad = handler(plain, lambda: None, dependency)
    good = handler(plain, tenant.get, coroutine_dependency)
    spooled.job("bad")(bad)
    spooled.job("good")(good)
    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        failing = [outside.enqueue("bad", {}, max_retries=0) for _ in range(3)]
        wait_until(lambda: all(outside.status(job_id) == "deadletter" for job_id in failing))
        job_id = outside.enqueue("good", {})
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == "set by a dependency"
    assert "SystemExit" in outside.job(failing[0])["last_error"]


async def rolls_back() -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        SEEN.append("begin")
        await asyncio.sleep(0.2)
        SEEN.append("end")


def rolls_back_plainly() -> Generator[None, None, None]:
    try:
        yield
    finally:
        SEEN.append("begin")
        threading.Event().wait(0.2)
        SEEN.append("end")


@both
@pytest.mark.parametrize("dependency", [rolls_back, rolls_back_plainly])
def test_clean_up_of_a_job_that_is_cut_off_ends_before_the_lifespan(
    plain: bool,
    dependency: Any,
    server: EmbeddedServer,
    outside: Outside,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True, shutdown_timeout=0.1)
    begun = threading.Event()

    async def coroutine(ctx: JobContext[Any], rolling: None = Depends(dependency)) -> None:
        begun.set()
        await asyncio.Event().wait()

    def function(ctx: JobContext[Any], rolling: None = Depends(dependency)) -> None:
        begun.set()
        ctx.signal.wait(HOPELESS)

    async def lifespan_of_the_app(app: FastAPI) -> AsyncGenerator[None, None]:
        SEEN.append("pool opened")
        yield
        SEEN.append("pool closed")

    spooled.job("q")(function if plain else coroutine)
    app = FastAPI(lifespan=spooled.wrap(lifespan_of_the_app))
    with TestClient(app):
        job_id = outside.enqueue("q", {})
        assert begun.wait(HOPELESS)
    assert SEEN == ["pool opened", "begin", "end", "pool closed"]
    assert outside.job(job_id)["result"]["spooled"]["outcome"] == "released"
    assert not [one for one in caplog.records if one.exc_info]
    ended = [one.getMessage() for one in caplog.records if f"{job_id} ended" in one.getMessage()]
    assert len(ended) <= 1
