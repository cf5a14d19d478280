"""What runs inside one application's lifespan: the client, and the workers when they are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal
from starlette.applications import Starlette

from spooled import AsyncSpooledClient
from spooled.codec import result_codec
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, JobContext, WorkerState
from spooled.worker.signature import prepare_result
from spooled_contrib.fastapi._context import Carrier, Changes, changes_since
from spooled_contrib.fastapi._jobs import Job, concurrencies

logger = logging.getLogger("spooled.fastapi")

T = TypeVar("T")

CLEAN_UP = 1.0
"""Seconds that dependencies get to clean up when the workers have ended; their own `cleanup_grace` comes before."""


class Runtime:
    """One run of an application, on one event loop.

    Attributes:
        app: The application.
        client: Open as long as the lifespan lasts.
        state: What the application's lifespan has yielded; None when that is not known.
        group: The workers that run here, or None.
        draining: Whether the workers are being stopped.
        failure: Why the workers ended by themselves, or None.
    """

    def __init__(self, app: Starlette, client: AsyncSpooledClient, state: Mapping[str, Any] | None) -> None:
        self.app = app
        self.client = client
        self.state = state
        self.group: AsyncWorkerGroup | None = None
        self.draining = False
        self.failure: BaseException | None = None
        self._portal: BlockingPortal | None = None
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Runtime, None]:
        """Serve threads, and close everything at the end."""
        async with self.client:
            started: asyncio.Future[BlockingPortal] = asyncio.get_running_loop().create_future()
            # In a task of its own, because it must be left in the task that has entered it, and test frameworks
            # run the two ends of a fixture in different ones.
            serving = asyncio.create_task(_serve_threads(started), name="spooled portal")
            self._portal = portal = await started
            try:
                yield self
            finally:
                # A handler's thread that hangs must not hold up the end of the application.
                await portal.stop(cancel_remaining=True)
                # Nor must a clean-up, which FastAPI shields. What is left is cancelled together with the loop.
                await asyncio.wait([serving], timeout=CLEAN_UP)
                if not serving.done():
                    logger.error(
                        "a dependency's clean-up has not ended %g s after its job; leaving it", CLEAN_UP
                    )

    def run_sync(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function on the application's loop, from a thread.

        Raises:
            RuntimeError: This is the loop's own thread, or the application has ended.
        """
        assert self._portal is not None
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._portal.call(function)
        raise RuntimeError("this would block the event loop: use the variant that is awaited, without _sync")

    @contextlib.contextmanager
    def _in_thread(self, job: Job[Any, ..., Any]) -> Iterator[dict[str, Any]]:
        """Solve a job's dependencies on the application's loop, for a handler in a thread, in the same context."""
        assert self._portal is not None
        solving = _Solving(job.dependencies.solve(self.app, self.state))
        carrier = Carrier()
        try:
            with self._portal.wrap_async_context_manager(solving.on_loop()) as values:
                carrier.apply(solving.set_on_loop)
                before = copy_context()
                try:
                    yield values
                finally:
                    solving.set_in_thread = changes_since(before)
        finally:
            carrier.apply(solving.set_at_end)
            if solving.failure is not None:
                raise solving.failure

    # --- workers ----------------------------------------------------------------------------------------------

    async def start_workers(self, workers: Sequence[AsyncSpooledWorker]) -> None:
        """Work in the background until `stop_workers`. What ends a worker before that is kept in `failure`."""
        self.group = AsyncWorkerGroup(*workers)
        self._task = asyncio.create_task(self._work(self.group), name="spooled workers")
        # The task's first step launches them. Before that, they would not hear a stop.
        await asyncio.sleep(0)

    async def _work(self, group: AsyncWorkerGroup) -> None:
        try:
            await group.start()
        except Exception as error:
            self.failure = error
            logger.error("the workers have ended; the application goes on, and is not ready: %s", error)
        else:
            if not self.draining:
                self.failure = RuntimeError("the workers were stopped")
                logger.error("the workers have stopped; the application goes on, and is not ready")

    async def stop_workers(self) -> None:
        """Drain. Jobs that do not end within the workers' shutdown_timeout are given back."""
        if self.group is None or self._task is None:
            return
        self.draining = True
        active = self.group.active_job_count
        if active:
            # A warning, because web servers' own logging shows nothing less, and the wait would look like a hang.
            logger.warning("finishing %d running jobs before the application ends", active)
        await self.group.stop()
        await self._task

    def is_ready(self, within: float) -> bool:
        """Return whether the workers that belong here work, or none do."""
        if self.draining or self.failure is not None:
            return False
        return self.group is None or all(one.health.is_ready(within=within) for one in self.group.workers)

    def worker_states(self) -> dict[str, WorkerState]:
        """Return the workers' states by queue."""
        return {} if self.group is None else {one.queue_name: one.state for one in self.group.workers}


class _Solving:
    """The dependencies of one job, in a task of the loop, whose handler runs in a thread.

    Args:
        dependencies: What is entered before the handler and left after it.

    Attributes:
        set_on_loop: The context variables that dependencies have set.
        set_in_thread: Those that the handler has set.
        set_at_end: Those that dependencies have set, or set back, after the handler.
        failure: An exception of a dependency that would end the loop.
    """

    def __init__(self, dependencies: AbstractAsyncContextManager[dict[str, Any]]) -> None:
        self._dependencies = dependencies
        self.set_on_loop: Changes = {}
        self.set_in_thread: Changes = {}
        self.set_at_end: Changes = {}
        self.failure: BaseException | None = None

    @contextlib.asynccontextmanager
    async def on_loop(self) -> AsyncGenerator[dict[str, Any], None]:
        try:
            before = copy_context()
            try:
                async with self._dependencies as values:
                    self.set_on_loop = changes_since(before)
                    try:
                        yield values
                    finally:
                        Carrier().apply(self.set_in_thread)
                        before = copy_context()
            finally:
                self.set_at_end = changes_since(before)
        except (KeyboardInterrupt, SystemExit) as error:
            # Raised in a task, it would end the application and the portal with it. It is raised in the thread.
            self.failure = error
            raise _EndOfProgram from error


class _EndOfProgram(Exception):  # noqa: N818 - stands for another exception
    """Takes the place of what must not be raised in a task."""


async def _serve_threads(started: asyncio.Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        started.set_result(portal)
        await portal.sleep_until_stopped()


def make_workers(
    jobs: Sequence[Job[Any, ..., Any]],
    client: AsyncSpooledClient,
    options: Mapping[str, Any],
    find_runtime: Callable[[], Runtime],
) -> list[AsyncSpooledWorker]:
    """Return a worker for each queue, with its handlers."""
    workers = {
        queue: AsyncSpooledWorker(client, queue, concurrency=number, **options)
        for queue, number in concurrencies(jobs).items()
    }
    for job in jobs:
        worker, handler = workers[job.queue_name], _handler(job, find_runtime)
        if job.job_type is None:
            worker.process(handler)
        else:
            worker.handler(job.job_type)(handler)
    return list(workers.values())


def _handler(job: Job[Any, ..., Any], find_runtime: Callable[[], Runtime]) -> Callable[[Any], Any]:
    """Return the function as a worker calls it: with the context only."""
    function, signature, dependencies = job.function, job.signature, job.dependencies
    codec = result_codec(signature.result_type)

    def arguments(ctx: JobContext[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ctx.payload = job.definition.read(ctx.payload)
        first = {"context": (ctx,), "payload": (ctx.payload,), "nothing": ()}[signature.first]
        return first, dict.fromkeys(signature.contexts, ctx)

    async def run(ctx: JobContext[Any]) -> object:
        first, named = arguments(ctx)
        if not dependencies:
            return prepare_result(await function(*first, **named), codec)
        runtime = find_runtime()
        async with dependencies.solve(runtime.app, runtime.state) as values:
            return prepare_result(await function(*first, **named, **values), codec)

    def run_plain(ctx: JobContext[Any]) -> object:
        first, named = arguments(ctx)
        if not dependencies:
            return prepare_result(function(*first, **named), codec)
        with find_runtime()._in_thread(job) as values:
            # A dependency may close what the result is read from, and undo what a failed job has done.
            return prepare_result(function(*first, **named, **values), codec)

    handler: Callable[[Any], Any] = run if signature.coroutine else run_plain
    handler.__name__, handler.__qualname__ = signature.name.rpartition(".")[2], signature.name
    handler.__module__, handler.__doc__ = getattr(function, "__module__", __name__), function.__doc__
    return handler
