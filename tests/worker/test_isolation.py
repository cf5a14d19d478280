"""Each job has context variables of its own, which begin as they were where the worker was started."""

from __future__ import annotations

import asyncio
import decimal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from spooled import AsyncSpooledClient, SpooledClient
from spooled.testing import drain, drain_async
from spooled.worker import (
    AsyncSpooledWorker,
    AsyncWorkerGroup,
    JobContext,
    Middleware,
    SpooledWorker,
    WorkerGroup,
    current_job,
)
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS
from tests.worker.conftest import Outside

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

Handler = Callable[[JobContext[Any]], Any]
Run = Callable[..., None]
"""Runs all jobs of queue `q` with a handler, one at a time."""

OPTIONS: dict[str, Any] = {"concurrency": 1, "poll_interval": 0.05}


def as_coroutine(handler: Handler) -> Handler:
    async def coroutine(ctx: JobContext[Any]) -> Any:
        return handler(ctx)

    return coroutine


def in_threads(server: EmbeddedServer, handler: Handler, **options: Any) -> None:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = SpooledWorker(client, "q", **OPTIONS, **options)
        worker.process(handler)
        worker.start(burst=True)


def in_a_group(server: EmbeddedServer, handler: Handler, **options: Any) -> None:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = SpooledWorker(client, "q", **OPTIONS, **options)
        worker.process(handler)
        WorkerGroup(worker).start(burst=True)


def in_the_callers_thread(server: EmbeddedServer, handler: Handler, **options: Any) -> None:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = SpooledWorker(client, "q", **OPTIONS, **options)
        worker.process(handler)
        drain(worker)


def asynchronous(
    make: Callable[[Handler], Handler], start: Callable[[AsyncSpooledWorker], Awaitable[Any]]
) -> Run:
    def run(server: EmbeddedServer, handler: Handler, **options: Any) -> None:
        async def main() -> None:
            async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
                worker = AsyncSpooledWorker(client, "q", **OPTIONS, **options)
                worker.process(make(handler))
                await start(worker)

        asyncio.run(main())

    return run


RUNNERS = [
    pytest.param(in_threads, id="threads"),
    pytest.param(in_a_group, id="group"),
    pytest.param(in_the_callers_thread, id="the caller's thread"),
    pytest.param(asynchronous(as_coroutine, lambda worker: worker.start(burst=True)), id="coroutines"),
    pytest.param(
        asynchronous(as_coroutine, lambda worker: AsyncWorkerGroup(worker).start(burst=True)),
        id="coroutines of a group",
    ),
    pytest.param(
        asynchronous(lambda handler: handler, lambda worker: worker.start(burst=True)),
        id="plain functions of an asynchronous worker",
    ),
    pytest.param(asynchronous(as_coroutine, drain_async), id="drained coroutines"),
]
everywhere = pytest.mark.parametrize("run", RUNNERS)


@everywhere
def test_what_a_job_sets_is_gone_in_the_next(run: Run, server: EmbeddedServer, outside: Outside):
    outside.enqueue_many(3)
    seen: list[str] = []

    def handler(ctx: JobContext[Any]) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.job_id)

    run(server, handler)
    assert seen == ["nobody"] * 3


@everywhere
def test_a_job_begins_with_what_was_set_where_the_worker_was_started(
    run: Run, server: EmbeddedServer, outside: Outside
):
    outside.enqueue_many(2)
    seen: list[str] = []

    def handler(ctx: JobContext[Any]) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.job_id)

    token = tenant.set("the one who started it")
    try:
        run(server, handler)
        assert tenant.get() == "the one who started it"
    finally:
        tenant.reset(token)
    assert seen == ["the one who started it"] * 2


@everywhere
@pytest.mark.parametrize("used_before", [False, True])
def test_the_decimal_context_of_a_job_is_its_own(
    used_before: bool, run: Run, server: EmbeddedServer, outside: Outside
):
    outside.enqueue_many(3)
    seen: list[int] = []

    def handler(ctx: JobContext[Any]) -> None:
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3

    def start() -> None:
        if used_before:
            decimal.getcontext().prec = 17
        run(server, handler)
        seen.append(decimal.getcontext().prec)

    # A thread of its own, because what the other tests have set is not the subject.
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert seen == [17 if used_before else decimal.DefaultContext.prec] * 4


@everywhere
def test_the_current_job_is_each_jobs_own(run: Run, server: EmbeddedServer, outside: Outside):
    ids = outside.enqueue_many(3)
    seen: list[tuple[str, bool]] = []

    def handler(ctx: JobContext[Any]) -> None:
        seen.append((ctx.job_id, current_job() is ctx))

    run(server, handler)
    assert sorted(seen) == sorted((job_id, True) for job_id in ids)
    assert current_job() is None


class Tenants(Middleware):
    """Sets a variable for the job, in whatever hook serves its handler, and sets it back."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        if self.hook != "around":
            yield
            return
        token = tenant.set(f"of {ctx.job_id}")
        try:
            yield
        finally:
            assert tenant.get() == "changed by the handler"
            tenant.reset(token)

    def run(self, ctx: JobContext[Any], call_next: Callable[[], object]) -> object:
        if self.hook == "around":
            return super().run(ctx, call_next)
        token = tenant.set(f"of {ctx.job_id}")
        try:
            return call_next()
        finally:
            assert tenant.get() == "changed by the handler"
            tenant.reset(token)

    async def run_async(self, ctx: JobContext[Any], call_next: Callable[[], Awaitable[object]]) -> object:
        if self.hook == "around":
            return await super().run_async(ctx, call_next)
        token = tenant.set(f"of {ctx.job_id}")
        try:
            await asyncio.sleep(0)
            return await call_next()
        finally:
            assert tenant.get() == "changed by the handler"
            await asyncio.sleep(0)
            tenant.reset(token)


@everywhere
@pytest.mark.parametrize("hook", ["around", "run"])
def test_middleware_and_handler_share_the_jobs_context(
    hook: str, run: Run, server: EmbeddedServer, outside: Outside
):
    ids = outside.enqueue_many(3)
    seen: list[str] = []

    def handler(ctx: JobContext[Any]) -> None:
        seen.append(tenant.get())
        tenant.set("changed by the handler")

    run(server, handler, middleware=[Tenants(hook)])
    assert sorted(seen) == sorted(f"of {job_id}" for job_id in ids)
    assert [outside.status(job_id) for job_id in ids] == ["completed"] * 3


def test_jobs_that_run_at_the_same_time_do_not_see_each_other(server: EmbeddedServer, outside: Outside):
    ids = outside.enqueue_many(4)
    together = threading.Barrier(4, timeout=HOPELESS)
    seen: dict[str, str] = {}

    def handler(ctx: JobContext[Any]) -> None:
        tenant.set(ctx.job_id)
        decimal.getcontext().prec = 5 + ids.index(ctx.job_id)
        together.wait()
        seen[ctx.job_id] = f"{tenant.get()} {decimal.getcontext().prec}"

    decimal.getcontext()
    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = SpooledWorker(client, "q", concurrency=4, poll_interval=0.05)
        worker.process(handler)
        worker.start(burst=True)
    assert seen == {job_id: f"{job_id} {5 + number}" for number, job_id in enumerate(ids)}


async def test_a_task_factory_that_knows_nothing_of_contexts_will_do(
    server: EmbeddedServer, outside: Outside
):
    outside.enqueue_many(2)
    seen: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
        return asyncio.Task(coroutine, loop=loop)

    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(client, "q", **OPTIONS)

        @worker.process
        async def handle(ctx: JobContext[Any]) -> None:
            seen.append(tenant.get())
            tenant.set(ctx.job_id)

        loop.set_task_factory(factory)
        try:
            await worker.start(burst=True)
        finally:
            loop.set_task_factory(None)
    assert seen == ["nobody", "nobody"]
