"""Run what is due, on the spot, and look at what became of it."""

from __future__ import annotations

from collections.abc import Callable

from spooled import errors
from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.errors import NotFoundError, SpooledError
from spooled.models import Job
from spooled.worker import AsyncSpooledWorker, AsyncWorkerGroup, SpooledWorker, WorkerGroup
from spooled.worker._assignment import Assignment


def drain(*workers: SpooledWorker) -> list[Job]:
    """Let the workers run the jobs that are due, until none is left.

    Handlers run in the calling thread, one after the other, so that they see what belongs to it: a database
    transaction, context variables, what the test has replaced.

    Jobs that these jobs enqueue for one of the workers are run too. What is scheduled for later, retries included,
    is not waited for: move the server's `ManualClock` and drain again.

    Returns:
        The jobs in the order in which they ended, each once and in its last state. A retried one is `pending` or
        `scheduled` again.

    Raises:
        SpooledError: The server refuses a worker, or cannot be reached.
        RuntimeError: A worker has no handler, or runs already.
        ValueError: There are no workers.
    """
    group = WorkerGroup(*workers)
    watch = _Watch(lambda: group._request_stop(0.0))
    group._run_here(watch.assignment)
    watch.check()
    jobs = []
    with SpooledClient(config=workers[0]._client.config) as client:
        for job_id in watch.ended:
            try:
                jobs.append(client.jobs.get(job_id))
            except NotFoundError:
                continue  # deleted: by its handler, or because it has expired
    return jobs


async def drain_async(*workers: AsyncSpooledWorker) -> list[Job]:
    """As `drain`, for asynchronous workers.

    Raises:
        SpooledError: The server refuses a worker, or cannot be reached.
        RuntimeError: A worker has no handler, or runs already.
        ValueError: There are no workers.
    """
    group = AsyncWorkerGroup(*workers)
    watch = _Watch(lambda: group.stop(0.0))
    await group._run(watch.assignment)
    watch.check()
    jobs = []
    async with AsyncSpooledClient(config=workers[0]._client.config) as client:
        for job_id in watch.ended:
            try:
                jobs.append(await client.jobs.get(job_id))
            except NotFoundError:
                continue  # deleted: by its handler, or because it has expired
    return jobs


class _Watch:
    """Remembers what has ended, and stops at the first sign that the server is away: a test must not wait for it."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._ids: list[str] = []
        self._stop = stop
        self._away: SpooledError | None = None
        self.assignment = Assignment(burst=True, on_ended=self._ids.append, on_trouble=self._troubled)

    @property
    def ended(self) -> list[str]:
        return list(dict.fromkeys(self._ids))

    def check(self) -> None:
        if self._away is not None:
            raise self._away

    def _troubled(self, error: SpooledError) -> None:
        if self._away is None and isinstance(error, errors.NetworkError | errors.TimeoutError):
            self._away = error
            self._stop()
