"""`SpooledWorker`: handlers are plain functions and run in threads or in child processes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from spooled.worker._base_worker import BaseWorker, WorkerKeywords
from spooled.worker._engine_transport import Client, EngineTransport
from spooled.worker._io_thread import IoThread
from spooled.worker._launch import launch
from spooled.worker._routing import check_handler, is_sync, name_of
from spooled.worker._run_limits import RunLimits
from spooled.worker._runners import CallerThreadRunner
from spooled.worker._sinks import ThreadSink
from spooled.worker._worker_run import WorkerRun
from spooled.worker.context import JobContext

H = TypeVar("H", bound=Callable[[JobContext[Any]], object])


class SpooledWorker(BaseWorker):
    """Claims jobs from one queue and runs a handler for each, in threads or in child processes.

    Delivery is at least once: a job is acked after its handler returned, and runs again when its lease was lost
    before that. Handlers should therefore be safe to repeat.

    Args:
        client: Whose key, server and transport to use. The worker opens connections of its own; the client may
            be used freely meanwhile and is not closed by the worker.
        queue_name: The queue to claim from.
        concurrency: The most jobs at once, 1 to 100. Default 5.
        poll_interval: The longest pause in seconds between two looks at an empty queue. Default 1.0. While
            there is work the worker does not pause at all.
        lease_duration: Seconds that a claimed job is reserved for, 5 to 3600; renewed by heartbeats for as long
            as the handler runs. Default 30.
        heartbeat_fraction: Renew after this share of the lease, above 0 and up to 1. Default 0.5.
        shutdown_timeout: Seconds that `stop()` gives running jobs. Default 30.0.
        cleanup_grace: Seconds that handlers which were aborted get to clean up before the worker ends. Default 5.0.
        timeout_grace: Seconds that a handler gets to end after its job's `timeout_seconds`, or a lost lease, before it
            counts as stuck. Default 30.0.
        on_stuck: What to do about a stuck handler. `keep`: keep the job's lease, so that it cannot run elsewhere at the
            same time. `fail`: fail the job, which may then run a second time while the first run goes on. `exit`:
            drain and end with a `StuckWorkerError`, for a supervisor that starts the process anew. Default `keep`.
        hostname: Shown in the worker list. Default: this machine's name.
        worker_id: A fixed id, 1 to 128 of `A-Z a-z 0-9 . _ -`. Default: a new one for each start.
        worker_type: Shown in the worker list. Default `python`.
        version: Shown in the worker list. Default: the version of this library.
        metadata: JSON to keep with the worker, at most 64 KiB.
        middleware: Hooks around claim, run and ack, see `spooled.worker.middleware`; the first is the outermost.
        transport: `aiohttp`, `httpx` (extra `httpx`), or `auto`: the client's own transport if it was given one, else
            aiohttp. Default `auto`.
        wakeups: Listen to the server's events, on a connection of its own, so that new jobs are picked up at once.
            `auto` does so while the client has no transport of its own and the run is no burst, and goes on
            asking an empty queue every `poll_interval`, for what becomes due by time is not announced. True asks about
            every 20 s while it listens. False does not listen. Default `auto`.
        isolation: Where handlers run: `thread`, or `process` for child processes, which use all cores and are killed
            when an aborted handler has not ended `cleanup_grace` seconds later. They import handlers by module and
            name; docs/worker.md says what follows from that. Default `thread`.
        max_jobs_per_child: Replace a child process after so many jobs. Default: no limit.
        max_memory_per_child: Replace a child process after a job that left it with more resident memory than so many
            MiB. Default: no limit.
        auto_start: Start in the background as soon as a handler is registered. Default False.

    Raises:
        TypeError: An option is unknown or of the wrong type.
        ValueError: An option is out of range (contract api-v1 §3.7, §5).
    """

    def __init__(
        self,
        client: Client,
        queue_name: str,
        *,
        auto_start: bool = False,
        **options: Unpack[WorkerKeywords],
    ) -> None:
        super().__init__(client, queue_name, **options)
        if auto_start and self._options.isolation == "process":
            # A decorator runs before the function has its name, and child processes import the module, too.
            raise ValueError(
                "auto_start needs isolation='thread'; call start() when the handlers are registered"
            )
        self._auto_start = auto_start

    def process(self, handler: H) -> H:
        """Register the function that runs the jobs. Use it as a decorator.

        Its return value becomes the job's result; an exception fails the job, which is retried while it has
        retries left. Declared as `def send(ctx: JobContext[Email])`, it gets the payload as an `Email`: a
        dataclass, TypedDict, msgspec Struct, attrs class or pydantic model.

        Raises:
            TypeError: `handler` is a coroutine function, which needs an `AsyncSpooledWorker`.
            RuntimeError: The worker is running.
        """
        self._register(handler, None)
        return handler

    def handler(self, job_type: str, *, payload: Any = None) -> Callable[[H], H]:
        """Register the function for jobs of one type: those with `{"job_type": job_type}` in their payload.

        Jobs of other types go to the `@worker.process` handler; without one they fail, saying which types there are.

        Args:
            job_type: The type.
            payload: The payload's type. Default: what the annotation `JobContext[...]` says.
        """

        def register(function: H) -> H:
            self._register(function, job_type, payload)
            return function

        return register

    def start(self, *, burst: bool = False, max_jobs: int | None = None) -> None:
        """Work until `stop()` is called from another thread, a handler or a signal handler.

        Ctrl-C drains like `stop()` before `KeyboardInterrupt` is raised; a second one stops at once.

        Args:
            burst: Stop by itself when nothing that is due is left and nothing is running. What is scheduled for
                later, retries included, is not waited for. Default False.
            max_jobs: Stop by itself when so many executions have ended; no more are claimed. Default: no limit.

        Raises:
            RuntimeError: No handler is registered, or the worker runs already.
            SpooledError: The server refuses this worker for good, for example its API key.
        """
        run = self._launch(RunLimits(burst=burst, max_jobs=max_jobs))
        try:
            run.ending.wait()
        except BaseException:
            # Ctrl-C, or what a signal handler raised. Whatever it was, it must not cost any job.
            self._drain(run)
            raise
        self._join(run)
        if run.ending.error is not None:
            raise run.ending.error

    def stop(self, timeout: float | None = None) -> None:
        """Stop claiming, wait for the active jobs, and return when the worker has stopped.

        Safe in a signal handler, at any moment. Called from one of the worker's own handlers it returns at once,
        because the worker waits for that handler; so it does in a signal handler that interrupts the beginning of
        `start()`, which then returns. Does nothing when the worker was not started; a later `start()` works.

        Args:
            timeout: Seconds that active jobs get. Default: `shutdown_timeout`. 0 cuts them off; they are given
                back and run again elsewhere.
        """
        run = self._run
        if run is None:
            return
        run.request_stop(timeout)
        if not run.is_own_thread() and not run.is_launching_here():
            self._join(run)

    def __enter__(self) -> Self:
        """Start in the background."""
        self._launch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self._raise_failure()

    def _register(self, handler: Callable[[Any], Any], job_type: str | None, payload: Any = None) -> None:
        check_handler(handler)
        if not is_sync(handler):
            raise TypeError(
                f"{name_of(handler)} is a coroutine function: use AsyncSpooledWorker for it, or declare it with a "
                "plain def. If its decorator runs the coroutine, delete the decorator's `__wrapped__`"
            )
        self._add_handler(handler, job_type, payload)
        if self._auto_start:
            self._launch()

    def _launch(self, limits: RunLimits | None = None) -> WorkerRun:
        run = WorkerRun()
        self._begin(run)
        name = f"spooled-{self.queue_name}-io"
        launch([self], [run], limits or RunLimits(), name=name, stop=lambda: self._drain(run))
        return run

    def _prepare(self, run: WorkerRun, io: IoThread, transports: EngineTransport, limits: RunLimits) -> None:
        label = f"spooled-{self._options.queue_name}"
        caller = run.caller_queue
        runner = self._plain_runner(label) if caller is None else CallerThreadRunner(caller)
        self._enter(run, io, transports, runner, ThreadSink(self._events, f"{label}-events"), limits)

    def _drain(self, run: WorkerRun) -> None:
        run.request_stop(None)
        try:
            run.ending.wait()
        except BaseException:
            run.request_stop(0.0)
            run.ending.wait()
            raise
        self._join(run)

    def _join(self, run: WorkerRun) -> None:
        run.ending.wait()
        if run.sink is not None:
            run.sink.wait()
