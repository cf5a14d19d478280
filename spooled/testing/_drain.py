"""Run what is due, on the spot, and look at what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack

from spooled import errors
from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.errors import NotFoundError, SpooledError
from spooled.models import Job
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup
from spooled.worker._run_limits import RunLimits

Client = SpooledClient | AsyncSpooledClient


def drain(*workers: SpooledWorker | WorkerGroup) -> list[Job]:
    """Let the workers run the jobs that are due, until none is left.

    Handlers run in the calling thread, one after the other, so that they see what belongs to it: a database
    transaction, context variables, what the test has replaced. Ctrl-C, and what a test framework raises to end a
    test, end the drain: the job has failed, the others are given back.

    Jobs that these jobs enqueue for one of the workers are run too. What is scheduled for later, retries included,
    is not waited for: move the server's `ManualClock` and drain again.

    Args:
        workers: Workers, and groups in place of the workers that they consist of. None of them runs.

    Returns:
        The jobs in the order in which they ended, each once and in its last state. A retried one is `pending` or
        `scheduled` again. A job that was deleted meanwhile is left out.

    Raises:
        SpooledError: The server refuses a worker, or cannot be reached.
        RuntimeError: A worker has no handler, or runs already.
        TypeError: A worker is asynchronous; or a group has a `start` of its own, which would be left out.
        ValueError: There are no workers, or one is given twice.
    """
    group = WorkerGroup(*(one for given in workers for one in _plain(given)))
    watch = _Watch(lambda: group._request_stop(0.0))
    group._run_here(watch.limits)
    watch.check()
    jobs = []
    with ExitStack() as opened:
        readers = [_reader(client, opened) for client in _clients(group.workers)]
        for job_id in watch.ended:
            for reader in readers:
                try:
                    jobs.append(reader.jobs.get(job_id))
                except NotFoundError:
                    continue  # another client's; or deleted: by its handler, or because it has expired
                break
    return jobs


async def drain_async(*workers: AsyncSpooledWorker | AsyncWorkerGroup) -> list[Job]:
    """As `drain`, for asynchronous workers. Handlers run on this loop, and at once as far as `concurrency` allows.

    Raises:
        SpooledError: The server refuses a worker, or cannot be reached.
        RuntimeError: A worker has no handler, or runs already.
        TypeError: A worker is not asynchronous; or a group has a `start` of its own, which would be left out.
        ValueError: There are no workers, or one is given twice.
    """
    group = AsyncWorkerGroup(*(one for given in workers for one in _asynchronous(given)))
    watch = _Watch(lambda: group.stop(0.0))
    await group._run(watch.limits)
    watch.check()
    jobs = []
    async with AsyncExitStack() as opened:
        readers = [await _async_reader(client, opened) for client in _clients(group.workers)]
        for job_id in watch.ended:
            for reader in readers:
                try:
                    if isinstance(reader, SpooledClient):
                        jobs.append(await asyncio.to_thread(reader.jobs.get, job_id))
                    else:
                        jobs.append(await reader.jobs.get(job_id))
                except NotFoundError:
                    continue  # as in `drain`
                break
    return jobs


def _plain(given: SpooledWorker | WorkerGroup) -> tuple[SpooledWorker, ...]:
    if isinstance(given, WorkerGroup):
        _check_start(given, type(given).start is WorkerGroup.start)
        return given.workers
    if not isinstance(given, SpooledWorker):
        raise TypeError(f"drain takes SpooledWorkers and WorkerGroups, got {given!r}; see drain_async")
    return (given,)


def _asynchronous(given: AsyncSpooledWorker | AsyncWorkerGroup) -> tuple[AsyncSpooledWorker, ...]:
    if isinstance(given, AsyncWorkerGroup):
        _check_start(given, type(given).start is AsyncWorkerGroup.start)
        return given.workers
    if not isinstance(given, AsyncSpooledWorker):
        raise TypeError(
            f"drain_async takes AsyncSpooledWorkers and AsyncWorkerGroups, got {given!r}; see drain"
        )
    return (given,)


def _check_start(group: object, ordinary: bool) -> None:
    if not ordinary:
        name = type(group).__name__
        raise TypeError(
            f"{name} has a start() of its own, which a drain would leave out: use what {name} offers for tests, "
            "or start(burst=True)"
        )


def _clients(workers: Iterable[SpooledWorker | AsyncSpooledWorker]) -> list[Client]:
    """Each client once."""
    return list({id(worker._client): worker._client for worker in workers}.values())


def _reader(client: Client, opened: ExitStack) -> SpooledClient:
    """Whom to ask for the jobs. A fresh client, because the worker's may belong to a loop or be closed already."""
    if isinstance(client, SpooledClient) and client._user_transport is not None:
        return client  # nothing else may reach the server
    return opened.enter_context(SpooledClient(config=client.config))


async def _async_reader(client: Client, opened: AsyncExitStack) -> Client:
    if client._user_transport is not None:
        return client
    return await opened.enter_async_context(AsyncSpooledClient(config=client.config))


class _Watch:
    """Remembers what has ended, and stops at the first sign that the server is away: a test must not wait for it."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._ids: list[str] = []
        self._stop = stop
        self._away: SpooledError | None = None
        self.limits = RunLimits(burst=True, on_ended=self._ids.append, on_trouble=self._troubled)

    @property
    def ended(self) -> list[str]:
        return list(dict.fromkeys(self._ids))

    def check(self) -> None:
        if self._away is not None:
            raise self._away

    def _troubled(self, error: SpooledError) -> None:
        if self._away is None and (
            error.foreign or isinstance(error, errors.NetworkError | errors.TimeoutError)
        ):
            self._away = error
            self._stop()
