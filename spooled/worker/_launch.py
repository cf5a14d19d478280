"""Launch workers: one I/O thread for all that start together, and a worker by itself is a group of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spooled.worker._base_worker import BaseWorker
from spooled.worker._engine_transport import Client, EngineTransport, wants_fast
from spooled.worker._io_thread import IoThread, new_io_loop
from spooled.worker._run_limits import RunLimits
from spooled.worker._worker_run import WorkerRun


def launch(
    workers: Sequence[BaseWorker],
    runs: Sequence[WorkerRun],
    limits: RunLimits,
    *,
    name: str,
    stop: Callable[[], object],
) -> None:
    """Start the workers' engines on a thread of their own. Workers of the same client share its connections.

    Args:
        workers: Each has begun its run.
        runs: One for each worker, in their order.
        limits: How much there is to do.
        name: The thread's name.
        stop: Called when what a signal handler raised comes when the thread runs already; then that is raised.

    Raises:
        RuntimeError: A worker cannot be put together; no run has come about.
    """
    io: IoThread | None = None
    try:
        shared = _by_connections(workers)
        user_loop = runs[0].user_loop
        transports = {
            (client, transport): EngineTransport(client, concurrencies, transport, user_loop)
            for (client, transport), concurrencies in shared.items()
        }
        io = IoThread(name, new_io_loop(fast=any(wants_fast(client, kind) for client, kind in shared)))
        for worker, run in zip(workers, runs, strict=True):
            worker._prepare(run, io, transports[_connections(worker)], limits)
        _stop_together(runs)
        io.start()
        _launched(runs)
    except BaseException:
        if io is None or io.close():
            take_back(workers, runs)
        else:
            _launched(runs)
            stop()
        raise


def take_back(workers: Sequence[BaseWorker], runs: Sequence[WorkerRun]) -> None:
    """Forget runs that have not come about."""
    for worker, run in zip(workers, runs, strict=True):
        worker._take_back(run)


def _by_connections(workers: Sequence[BaseWorker]) -> dict[tuple[Client, str], list[int]]:
    """Return the slots of the workers that share connections."""
    shared: dict[tuple[Client, str], list[int]] = {}
    for worker in workers:
        shared.setdefault(_connections(worker), []).append(worker._options.concurrency)
    return shared


def _connections(worker: BaseWorker) -> tuple[Client, str]:
    return worker._client, worker._options.transport


def _stop_together(runs: Sequence[WorkerRun]) -> None:
    """When one ends with an error, so do the others."""

    def ended(run: WorkerRun) -> None:
        if run.ending.error is not None:
            for other in runs:
                other.request_stop(None)

    if len(runs) > 1:
        for run in runs:
            run.ending.on_finished(lambda run=run: ended(run))  # type: ignore[misc]


def _launched(runs: Sequence[WorkerRun]) -> None:
    for run in runs:
        run.launched()
