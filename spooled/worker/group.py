"""Several workers in one process: one I/O thread, one set of connections, one shutdown."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar, overload

from spooled.worker._async_worker import AsyncSpooledWorker, Stopping
from spooled.worker._base_worker import BaseWorker
from spooled.worker._launch import launch, take_back
from spooled.worker._run_limits import RunLimits
from spooled.worker._runners import CallerThreadQueue
from spooled.worker._signals import signal_handlers
from spooled.worker._worker import SpooledWorker
from spooled.worker._worker_run import WorkerRun
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

    workers: tuple[BaseWorker, ...]
    _runs: tuple[WorkerRun, ...] = ()

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
        """Return whether every worker is; see `WorkerHealth.is_ready`."""
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

    def _begin(self, runs: tuple[WorkerRun, ...]) -> None:
        """Take all workers for a run. From here on, a request to stop reaches all of them.

        Raises:
            RuntimeError: A worker has no handler, or runs already.
        """
        before, self._runs = self._runs, runs
        try:
            for worker, run in zip(self.workers, runs, strict=True):
                worker._begin(run)
        except BaseException:
            take_back(self.workers, runs)
            self._runs = before
            raise

    def _new_runs(self) -> tuple[WorkerRun, ...]:
        return tuple(WorkerRun() for _ in self.workers)

    def _request_stop(self, timeout: float | None) -> None:
        # Also of those that the group has not taken yet, and of workers that were started by themselves.
        for run in self._runs:
            run.request_stop(timeout)
        for worker in self.workers:
            if worker._run not in self._runs:
                worker._request_stop(timeout)

    def _current_runs(self) -> list[WorkerRun]:
        return [worker._run for worker in self.workers if worker._run is not None]

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
        self._run(RunLimits(burst=burst, max_jobs=max_jobs))

    def _run(self, limits: RunLimits, runs: tuple[WorkerRun, ...] | None = None) -> None:
        self._launch(limits, runs)
        try:
            self._wait()
        except BaseException:
            self._drain()
            raise
        _raise_first(self.workers)

    def stop(self, timeout: float | None = None) -> None:
        """Drain all workers at the same time; see `SpooledWorker.stop`."""
        self._request_stop(timeout)
        runs = {*self._runs, *self._current_runs()}
        if not any(run.is_own_thread() or run.is_launching_here() for run in runs):
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

    def _run_here(self, limits: RunLimits) -> None:
        """As `_run`, with the handlers in this thread, one after the other."""
        caller_queue = CallerThreadQueue()
        runs = tuple(WorkerRun(caller_queue=caller_queue) for _ in self.workers)
        self._begin(runs)
        self._launch(limits, runs)
        for run in runs:
            run.ending.on_finished(
                lambda: caller_queue.finish() if all(one.ending.finished for one in runs) else None
            )
        try:
            caller_queue.serve()
            self._wait()
        except BaseException:
            caller_queue.close()
            self._request_stop(0.0)
            self._wait()
            raise
        _raise_first(self.workers)

    def _launch(self, limits: RunLimits | None = None, runs: tuple[WorkerRun, ...] | None = None) -> None:
        """Start in the background.

        Args:
            limits: How much there is to do.
            runs: Those of the workers, if they have begun.
        """
        if runs is None:
            runs = self._new_runs()
            self._begin(runs)
        launch(self.workers, runs, limits or RunLimits(), name="spooled-io", stop=self._drain)

    def _drain(self) -> None:
        self._request_stop(None)
        try:
            self._wait()
        except BaseException:
            self._request_stop(0.0)
            self._wait()
            raise

    def _wait(self) -> None:
        for worker in self.workers:
            if worker._run is not None:
                worker._join(worker._run)


class AsyncWorkerGroup(_Group):
    """Runs several `AsyncSpooledWorker`s together, on the loop that `start()` is awaited on; see `WorkerGroup`."""

    workers: tuple[AsyncSpooledWorker, ...]
    _announced: weakref.ref[_Announced] | None = None

    def __init__(self, *workers: AsyncSpooledWorker) -> None:
        for worker in workers:
            if not isinstance(worker, AsyncSpooledWorker):
                raise TypeError(
                    f"AsyncWorkerGroup takes AsyncSpooledWorkers, got {worker!r}; see WorkerGroup"
                )
        _check(workers)
        self.workers = workers

    def start(self, *, burst: bool = False, max_jobs: int | None = None) -> Coroutine[Any, Any, None]:
        """Work until `stop()`; see `AsyncSpooledWorker.start`. `burst` and `max_jobs` are for all workers together."""
        return self._run(RunLimits(burst=burst, max_jobs=max_jobs))

    def _run(self, limits: RunLimits) -> Coroutine[Any, Any, None]:
        announced = _Announced(self._new_runs())
        self._announced = weakref.ref(announced)  # as a worker's own
        return self._start(announced, limits)

    async def _start(self, announced: _Announced, limits: RunLimits) -> None:
        runs = announced.runs
        if any(run.stop_requested for run in runs):
            return
        self._launch(limits, runs)
        # Each follows its own worker; a cancellation reaches all of them, and each drains first.
        results = await asyncio.gather(
            *(worker._finish(run) for worker, run in zip(self.workers, runs, strict=True)),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def stop(self, timeout: float | None = None) -> Stopping:
        """Drain all workers at the same time. The call itself asks for it; see `AsyncSpooledWorker.stop`."""
        self._request_stop(timeout)
        runs = [(worker, worker._run) for worker in self.workers]
        return Stopping(lambda: _stopped(runs))

    def _request_stop(self, timeout: float | None) -> None:
        announced = None if self._announced is None else self._announced()
        if announced is not None and announced.runs is not self._runs:
            for run in announced.runs:
                run.request_stop(timeout)
        super()._request_stop(timeout)

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

    def _launch(self, limits: RunLimits | None = None, runs: tuple[WorkerRun, ...] | None = None) -> None:
        runs = runs or self._new_runs()
        for run in runs:
            run.user_loop = asyncio.get_running_loop()
        self._begin(runs)
        stop = functools.partial(self._request_stop, 0.0)
        launch(self.workers, runs, limits or RunLimits(), name="spooled-io", stop=stop)


class _Announced:
    """The runs of a group whose coroutine was made and has not begun."""

    def __init__(self, runs: tuple[WorkerRun, ...]) -> None:
        self.runs = runs


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

    runs = group._new_runs()
    group._begin(runs)  # first, for a signal may come at once
    with signal_handlers((signal.SIGTERM, signal.SIGINT), on_signal):
        group._run(RunLimits(), runs)


def _check(workers: tuple[BaseWorker, ...]) -> None:
    if not workers:
        raise ValueError("a group needs at least one worker")
    if len(set(workers)) != len(workers):
        raise ValueError("the same worker is in the group twice")


async def _stopped(runs: Sequence[tuple[AsyncSpooledWorker, WorkerRun | None]]) -> None:
    for worker, run in runs:
        await worker._stopped(run)


def _raise_first(workers: tuple[BaseWorker, ...]) -> None:
    for worker in workers:
        worker._raise_failure()
