"""Several workers in one process: one I/O thread, one set of connections, one shutdown."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar, overload

from spooled.worker._assignment import Assignment
from spooled.worker._async_worker import AsyncSpooledWorker, Stopping
from spooled.worker._bridge import Bridge, Client, wants_fast
from spooled.worker._front_door import FrontDoor
from spooled.worker._io_loop import new_io_loop
from spooled.worker._io_thread import IoThread
from spooled.worker._runners import CallerRunner, Desk, serve
from spooled.worker._signals import signal_handlers
from spooled.worker._worker import SpooledWorker
from spooled.worker.events import EventHandler, EventName
from spooled.worker.health import WorkerHealth
from spooled.worker.state import WorkerState

E = TypeVar("E", bound=EventHandler)

_TELLING = (
    WorkerState.ERROR,
    WorkerState.STOPPING,
    WorkerState.STARTING,
    WorkerState.RUNNING,
    WorkerState.STOPPED,
    WorkerState.IDLE,
)
"""The group is in the first of these that any of its workers is in."""


class _Group:
    """What both groups show of their workers."""

    workers: tuple[FrontDoor, ...]

    @property
    def state(self) -> WorkerState:
        """The most telling of the workers' states: error, stopping, starting, running, stopped or idle."""
        states = {worker.state for worker in self.workers}
        return next(state for state in _TELLING if state in states)

    @property
    def active_job_count(self) -> int:
        """Jobs of all workers that are claimed and not settled yet."""
        return sum(worker.active_job_count for worker in self.workers)

    @property
    def health(self) -> tuple[WorkerHealth, ...]:
        """The health of each worker, in their order."""
        return tuple(worker.health for worker in self.workers)

    def is_ready(self, *, within: float = 60.0) -> bool:
        """Whether every worker is; see `WorkerHealth.is_ready`."""
        return all(health.is_ready(within=within) for health in self.health)

    @overload
    def on(self, event: EventName, handler: None = None) -> Callable[[E], E]: ...
    @overload
    def on(self, event: EventName, handler: E) -> E: ...
    def on(self, event: EventName, handler: E | None = None) -> E | Callable[[E], E]:
        """Register a handler with every worker, as a decorator or directly; see `SpooledWorker.on`.

        Events of different workers may come at the same time.

        Raises:
            ValueError: There is no such event.
        """
        if handler is not None:
            for worker in self.workers:
                worker.on(event, handler)
            return handler

        def register(function: E) -> E:
            self.on(event, function)
            return function

        self.workers[0]._events.check(event)
        return register

    def __repr__(self) -> str:
        queues = [worker.queue_name for worker in self.workers]
        return f"<{type(self).__name__} queue_names={queues} state={self.state.value}>"


class WorkerGroup(_Group):
    """Runs several `SpooledWorker`s together, for example one for each queue.

        group = WorkerGroup(emails, invoices)
        group.start()

    Workers of the same client share its connections. When the server refuses one of them for good, the others are
    drained and the error is raised: half a group would look alive.

    Args:
        workers: Not started yet; each has its own queue, options and handlers.

    Raises:
        TypeError: A worker is an `AsyncSpooledWorker`: use `AsyncWorkerGroup`.
        ValueError: There are no workers, or one is given twice.
    """

    workers: tuple[SpooledWorker, ...]

    def __init__(self, *workers: SpooledWorker) -> None:
        for worker in workers:
            if not isinstance(worker, SpooledWorker):
                raise TypeError(f"WorkerGroup takes SpooledWorkers, got {worker!r}; see AsyncWorkerGroup")
        _check(workers)
        self.workers = workers

    def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
        """Work until `stop()`; see `SpooledWorker.start`. `burst` and `max_jobs` are for all workers together."""
        self._run(Assignment(burst=burst, max_jobs=max_jobs))

    def _run(self, assignment: Assignment) -> None:
        self._launch(assignment)
        try:
            self._wait()
        except BaseException:
            self._request_stop(None)
            try:
                self._wait()
            except BaseException:
                self._request_stop(0.0)
                self._wait()
                raise
            raise
        _raise_first(self.workers)

    def stop(self, timeout: float | None = None) -> None:
        """Drain all workers at the same time; see `SpooledWorker.stop`."""
        self._request_stop(timeout)
        if not any(worker._is_own_thread() for worker in self.workers):
            self._wait()

    def __enter__(self) -> Self:
        """Start in the background."""
        self._launch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            _raise_first(self.workers)

    def _run_here(self, assignment: Assignment) -> None:
        """As `_run`, with the handlers in this thread, one after the other."""
        desk: Desk = queue.SimpleQueue()
        self._launch(assignment, desk)
        for worker in self.workers:
            assert worker._ending is not None
            worker._ending.on_finished(
                lambda: desk.put(None) if all(_has_ended(one) for one in self.workers) else None
            )
        try:
            serve(desk)
            self._wait()
        except BaseException:
            # Nobody is left to run what was claimed.
            self._request_stop(0.0)
            self._wait()
            raise
        _raise_first(self.workers)

    def _launch(self, assignment: Assignment | None = None, desk: Desk | None = None) -> None:
        io, bridges = _shared_io(self.workers, None)
        assignment = assignment or Assignment()
        for worker in self.workers:
            runner = None if desk is None else CallerRunner(desk)
            worker._prepare(io, bridges[_sharing(worker)], assignment, runner)
        _stop_together(self.workers)
        io.start()

    def _request_stop(self, timeout: float | None) -> None:
        for worker in self.workers:
            worker._request_stop(timeout)

    def _wait(self) -> None:
        for worker in self.workers:
            if worker._ending is not None:
                worker._join(worker._ending)


class AsyncWorkerGroup(_Group):
    """Runs several `AsyncSpooledWorker`s together, on the loop that `start()` is awaited on; see `WorkerGroup`."""

    workers: tuple[AsyncSpooledWorker, ...]

    def __init__(self, *workers: AsyncSpooledWorker) -> None:
        for worker in workers:
            if not isinstance(worker, AsyncSpooledWorker):
                raise TypeError(
                    f"AsyncWorkerGroup takes AsyncSpooledWorkers, got {worker!r}; see WorkerGroup"
                )
        _check(workers)
        self.workers = workers

    async def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
        """Work until `stop()`; see `AsyncSpooledWorker.start`. `burst` and `max_jobs` are for all workers together."""
        await self._run(Assignment(burst=burst, max_jobs=max_jobs))

    async def _run(self, assignment: Assignment) -> None:
        self._launch(assignment)
        # Each follows its own worker; a cancellation reaches all of them, and each drains first.
        results = await asyncio.gather(*(worker._finish() for worker in self.workers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def stop(self, timeout: float | None = None) -> Stopping:
        """Drain all workers at the same time. The call itself asks for it; see `AsyncSpooledWorker.stop`."""
        for worker in self.workers:
            worker.stop(timeout)
        return Stopping(self._stopped)

    async def _stopped(self) -> None:
        for worker in self.workers:
            await worker._stopped()

    async def __aenter__(self) -> Self:
        """Start in the background."""
        self._launch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None:
            _raise_first(self.workers)

    def _launch(self, assignment: Assignment | None = None) -> None:
        loop = asyncio.get_running_loop()
        io, bridges = _shared_io(self.workers, loop)
        assignment = assignment or Assignment()
        for worker in self.workers:
            worker._prepare(io, bridges[_sharing(worker)], loop, assignment)
        _stop_together(self.workers)
        io.start()


def run_workers(*workers: SpooledWorker) -> None:
    """Run workers until SIGTERM or SIGINT: the first drains, the second stops at once.

    For a program that does nothing else. It installs signal handlers for as long as it runs when it is called in
    the main thread; elsewhere, stop it with `WorkerGroup.stop`.

    Raises:
        SpooledError: The server refuses a worker for good; the others were drained.
    """
    group = WorkerGroup(*workers)
    if threading.current_thread() is not threading.main_thread():
        group.start()
        return
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        nonlocal asked
        asked += 1
        group._request_stop(None if asked == 1 else 0.0)

    with signal_handlers((signal.SIGTERM, signal.SIGINT), on_signal):
        group.start()


def _check(workers: tuple[FrontDoor, ...]) -> None:
    if not workers:
        raise ValueError("a group needs at least one worker")
    if len(set(workers)) != len(workers):
        raise ValueError("the same worker is in the group twice")


def _shared_io(
    workers: tuple[Any, ...], loop: asyncio.AbstractEventLoop | None
) -> tuple[IoThread, dict[tuple[Client, str], Bridge]]:
    together: dict[tuple[Client, str], list[int]] = {}
    for worker in workers:
        worker._check_startable()
        together.setdefault(_sharing(worker), []).append(worker._options.concurrency)
    fast = any(wants_fast(client, transport) for client, transport in together)
    bridges = {
        (client, transport): Bridge(client, concurrencies, transport, loop)
        for (client, transport), concurrencies in together.items()
    }
    return IoThread("spooled-io", new_io_loop(fast=fast)), bridges


def _sharing(worker: FrontDoor) -> tuple[Client, str]:
    return worker._client, worker._options.transport


def _stop_together(workers: tuple[Any, ...]) -> None:
    """When one ends with an error, so do the others."""

    def ended(worker: Any) -> None:
        if worker._ending.error is not None:
            for other in workers:
                other._request_stop(None)

    for worker in workers:
        worker._ending.on_finished(lambda worker=worker: ended(worker))


def _has_ended(worker: FrontDoor) -> bool:
    return worker._ending is not None and worker._ending.finished


def _raise_first(workers: tuple[Any, ...]) -> None:
    for worker in workers:
        if worker._ending is not None and worker._ending.error is not None:
            raise worker._ending.error
