"""The workers of this project: one for each queue that has handlers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from asgiref.sync import async_to_sync

from spooled import AsyncSpooledClient, SpooledClient
from spooled.codec import result_codec
from spooled.worker import AsyncSpooledWorker, Middleware, SpooledWorker
from spooled.worker.signature import prepare_result
from spooled_contrib.django import conf
from spooled_contrib.django._database import DatabaseCleanup
from spooled_contrib.django._jobs import Job, describe_duplicate, registry
from spooled_contrib.django._task_queues import takes_any_queue, task_queues

W = TypeVar("W", SpooledWorker, AsyncSpooledWorker)


class NothingToDoError(ValueError):
    """The queues that were asked for have no handlers, or handlers that exclude each other."""


def find_queues(
    only: Collection[str] = (), exclude: Collection[str] = ()
) -> dict[str, list[Job[Any, ..., Any]]]:
    """Return the queues to work on, with their jobs; a queue of Django Tasks may have none.

    Args:
        only: These queues; all if empty.
        exclude: None of these.

    Raises:
        NothingToDoError: A queue that was named has no handlers, nothing is left, or two jobs want the same.
        Exception: What a broken module raises.
    """
    jobs = registry.discover()
    for first, second in registry.duplicates():
        raise NothingToDoError(describe_duplicate(first, second))
    tasks = task_queues()
    found: dict[str, list[Job[Any, ..., Any]]] = {name: [] for name in tasks}
    for one in jobs:
        found.setdefault(one.queue_name, []).append(one)
        if one.job_type is None and one.queue_name in tasks:
            raise NothingToDoError(
                f"{one.path} takes all jobs of queue {one.queue_name!r}, which Django Tasks use too; "
                "give it a job type, or a queue of its own"
            )
    if takes_any_queue():
        # A task may be sent to a queue that nothing declares, with `using(queue_name=...)`.
        for name in conf.current().queues or ():
            found.setdefault(name, [])
    known = ", ".join(sorted(found)) or "none"
    for name in [*only, *exclude]:
        if name not in found:
            raise NothingToDoError(f"no job is declared for queue {name!r}; queues with jobs: {known}")
    kept = {name: found[name] for name in sorted(found) if (not only or name in only) and name not in exclude}
    if not kept:
        modules = ", ".join(f"{name}.py" for name in conf.current().job_modules)
        raise NothingToDoError(
            "every queue is excluded"
            if found
            else f"no jobs were found: put functions with @job into the {modules} of an installed app"
        )
    return kept


def make_async_workers(
    client: AsyncSpooledClient, queues: dict[str, list[Job[Any, ..., Any]]], concurrency: int | None = None
) -> list[AsyncSpooledWorker]:
    """Workers whose plain handlers run in threads and whose coroutines run on the loop."""
    return [
        _with_handlers(
            AsyncSpooledWorker(client, name, **_options(name, jobs, concurrency)),
            jobs,
            lambda job: _as_is(job),
        )
        for name, jobs in queues.items()
    ]


def make_plain_workers(
    client: SpooledClient, queues: dict[str, list[Job[Any, ..., Any]]]
) -> list[SpooledWorker]:
    """Workers that run everything as a plain function; coroutines by asgiref's `async_to_sync`."""
    return [
        _with_handlers(SpooledWorker(client, name, **_options(name, jobs, None)), jobs, _as_plain)
        for name, jobs in queues.items()
    ]


def concurrency_of(name: str, jobs: Sequence[Job[Any, ..., Any]]) -> int:
    """Return how many jobs of a queue run at the same time in one process."""
    settings = conf.current()
    said = [one.concurrency for one in jobs if one.concurrency is not None]
    return settings.concurrency_of(name) or (max(said) if said else settings.concurrency)


def _options(name: str, jobs: Sequence[Job[Any, ..., Any]], concurrency: int | None) -> dict[str, Any]:
    settings = conf.current()
    middleware: list[Middleware] = [DatabaseCleanup(), *settings.make_middleware()]
    return {
        **settings.worker,
        "concurrency": concurrency or concurrency_of(name, jobs),
        "shutdown_timeout": settings.shutdown_timeout,
        "middleware": middleware,
        "worker_type": "django",
    }


def _with_handlers(
    worker: W, jobs: Sequence[Job[Any, ..., Any]], adapt: Callable[[Job[Any, ..., Any]], Callable[[Any], Any]]
) -> W:
    register: Any = worker
    for one in jobs:
        handler = adapt(one)
        if one.job_type is None:
            register.process(handler)
        else:
            register.handler(one.job_type)(handler)
    if not jobs or worker.queue_name in task_queues():
        from spooled_contrib.django.tasks import TaskRunner

        register.process(TaskRunner(worker).run)
    return worker


def _as_is(job: Job[Any, ..., Any]) -> Callable[[Any], Any]:
    codec = result_codec(job.signature.result_type)

    async def run(ctx: Any) -> Any:
        return prepare_result(await job.run(ctx), codec)

    def run_plain(ctx: Any) -> Any:
        return prepare_result(job.run(ctx), codec)

    return run if job.signature.coroutine else run_plain


def _as_plain(job: Job[Any, ..., Any]) -> Callable[[Any], Any]:
    handler = _as_is(job)
    if not job.signature.coroutine:
        return handler

    def run(ctx: Any) -> Any:
        return async_to_sync(handler)(ctx)

    return run
