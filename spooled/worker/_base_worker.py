"""What both workers share: options, registration of handlers, and the state that they show."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from spooled._async._session import AsyncSession
from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.worker._engine import Engine, OpenWakeups
from spooled.worker._engine_transport import Client, EngineTransport
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._forks import end_forks, end_forks_async
from spooled.worker._io_thread import IoThread
from spooled.worker._log import WorkerLogger
from spooled.worker._options import WorkerOptions
from spooled.worker._process_pool import ProcessRunner
from spooled.worker._process_references import check_not_loading, dump_handlers
from spooled.worker._routing import Prepare, Routes, is_sync
from spooled.worker._run_limits import RunLimits
from spooled.worker._runners import Runner
from spooled.worker._sinks import EventSink
from spooled.worker._thread_runner import ThreadRunner
from spooled.worker._wakeups import Wakeups, can_listen
from spooled.worker._worker_run import WorkerRun
from spooled.worker.events import EventHandler, EventHandlers, EventName
from spooled.worker.health import WorkerHealth
from spooled.worker.middleware import Middleware, check_middlewares, wrap_async_handler, wrap_handler
from spooled.worker.state import WorkerState

E = TypeVar("E", bound=EventHandler)

logger = WorkerLogger("spooled.worker")


class WorkerKeywords(TypedDict, total=False):
    """The keyword arguments that `SpooledWorker` and `AsyncSpooledWorker` have in common."""

    concurrency: int
    poll_interval: float
    lease_duration: int
    heartbeat_fraction: float
    shutdown_timeout: float
    cleanup_grace: float
    timeout_grace: float
    on_stuck: Literal["keep", "fail", "exit"]
    hostname: str | None
    worker_id: str | None
    worker_type: str
    version: str
    metadata: Mapping[str, Any] | None
    middleware: Sequence[Middleware]
    transport: Literal["auto", "httpx", "aiohttp"]
    wakeups: bool | Literal["auto"]
    isolation: Literal["thread", "process"]
    max_jobs_per_child: int | None
    max_memory_per_child: int | None


class BaseWorker:
    """The part of a worker that does not depend on where its handlers run."""

    def __init__(self, client: Client, queue_name: str, **options: Unpack[WorkerKeywords]) -> None:
        if not isinstance(client, SpooledClient | AsyncSpooledClient):
            raise TypeError(
                f"{type(self).__name__} needs a SpooledClient or AsyncSpooledClient as its first argument, "
                f"got {type(client).__name__}"
            )
        for name in options:
            if name not in WorkerKeywords.__annotations__:
                near = difflib.get_close_matches(name, WorkerKeywords.__annotations__, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{type(self).__name__} has no option {name!r}{hint}")
        given: dict[str, Any] = dict(options)
        given["metadata"] = given.get("metadata") or {}
        given["middleware"] = check_middlewares(given.get("middleware") or ())
        self._client = client
        self._options = WorkerOptions(queue_name, **given)
        self._events = EventHandlers()
        self._routes = Routes()
        self._run: WorkerRun | None = None
        self._beginning = threading.Lock()
        self._process_setup: Callable[[], object] | None = None

    @property
    def queue_name(self) -> str:
        """The queue that this worker claims from."""
        return self._options.queue_name

    @property
    def state(self) -> WorkerState:
        """What the worker is doing; compares equal to the plain text, as in `worker.state == "running"`."""
        run = self._run
        if run is None:
            return WorkerState.IDLE
        return WorkerState.STARTING if run.engine is None else run.engine.state

    @property
    def worker_id(self) -> str | None:
        """The id that the worker is registered with; None before it starts and after it stopped."""
        engine = self._engine
        return engine.worker_id if engine is not None and self._is_active() else None

    @property
    def active_job_count(self) -> int:
        """Jobs that are claimed and not settled yet."""
        engine = self._engine
        return engine.active_job_count if engine is not None else 0

    @property
    def health(self) -> WorkerHealth:
        """Whether the worker does its work, for probes: `worker.health.is_ready()`."""
        engine = self._engine
        if engine is None or not self._is_active():
            return WorkerHealth(self.state, None, 0, None, None, 0, None)
        return engine.health()

    @overload
    def on(self, event: EventName, handler: None = None) -> Callable[[E], E]: ...
    @overload
    def on(self, event: EventName, handler: E) -> E: ...
    def on(self, event: EventName, handler: E | None = None) -> E | Callable[[E], E]:
        """Register a handler for an event, as a decorator or directly. An event may have several.

        Handlers run outside the I/O loop, one event after the other, in the order in which things happened. An
        exception in one is logged and changes nothing else.

        Args:
            event: `started`, `stopped`, `error`, `job:claimed`, `job:started`, `job:completed`, `job:failed`,
                `job:lease_lost` or `job:stuck`.
            handler: Takes the event object, see `spooled.worker.events`.

        Raises:
            ValueError: There is no such event.
        """
        if handler is not None:
            self._events.add(event, handler)
            return handler

        def register(function: E) -> E:
            self._events.add(event, function)
            return function

        self._events.check(event)
        return register

    @property
    def _engine(self) -> Engine | None:
        run = self._run
        return None if run is None else run.engine

    def _is_active(self) -> bool:
        return self.state in (WorkerState.STARTING, WorkerState.RUNNING, WorkerState.STOPPING)

    def _add_handler(self, handler: Callable[[Any], Any], job_type: str | None, payload: Any = None) -> None:
        if self._is_active():
            raise RuntimeError("handlers must be registered before the worker is started")
        self._routes.add(handler, job_type, payload)

    def _begin(self, run: WorkerRun) -> None:
        """Make `run` the worker's. From here on, a request to stop reaches it.

        Raises:
            RuntimeError: No handler is registered, or the worker runs already.
        """
        check_not_loading()
        if not self._beginning.acquire(blocking=False):
            raise RuntimeError("the worker is being started already, by another thread")
        try:
            if self._is_active():
                raise RuntimeError(f"the worker is {self.state} already; stop it before starting it again")
            if not self._routes:
                raise RuntimeError("no handler: decorate a function with @worker.process before start()")
            run.begin(self._run)
            self._run = run
        finally:
            self._beginning.release()

    def _override(self, set_up_child: Callable[[], object], **changes: Any) -> None:
        """Change options from outside, before the start.

        Args:
            set_up_child: Called in each child process when it has imported the handlers; a function at the top of a
                module, or a partial of one.
            changes: New values of options.
        """
        self._process_setup = set_up_child
        self._options = dataclasses.replace(self._options, **changes)

    def _plain_runner(self, label: str) -> Runner:
        """Return what runs the plain handlers.

        Raises:
            RuntimeError: They are to run in child processes, which could not find them.
        """
        options = self._options
        plain = any(is_sync(handler) for handler in self._routes)
        if options.isolation == "process" and not plain:
            logger.warning(
                "worker of queue %s: isolation='process' is for plain functions; its coroutines run on the event loop",
                options.queue_name,
            )
        if options.isolation == "thread" or not plain:
            return ThreadRunner(options.concurrency, label)
        return ProcessRunner(
            options.concurrency,
            label,
            dump_handlers(self),
            grace=options.cleanup_grace,
            max_jobs=options.max_jobs_per_child,
            max_memory=options.max_memory_per_child,
        )

    def _prepare(self, run: WorkerRun, io: IoThread, transports: EngineTransport, limits: RunLimits) -> None:
        """Put the parts of a run together, and have its engine run on `io`, once that starts."""
        raise NotImplementedError

    def _take_back(self, run: WorkerRun) -> None:
        """Forget a run that has not come about."""
        if self._run is run:
            self._run = run.before
        if run.sink is not None:
            run.sink.finish()
        run.launched()
        if not run.ending.finished:
            run.ending.finish()

    def _enter(
        self,
        run: WorkerRun,
        io: IoThread,
        transports: EngineTransport,
        runner: Runner,
        sink: EventSink,
        limits: RunLimits,
    ) -> None:
        """Have an engine run on `io`, once that starts."""
        options = self._options
        middlewares = options.middleware

        def wrap(handler: Callable[[Any], Any], plain: bool, prepare: Prepare) -> Callable[[Any], Any]:
            if plain:
                return wrap_handler(end_forks(handler), middlewares, prepare)
            return wrap_async_handler(end_forks_async(handler), middlewares, prepare)

        dispatcher = EventDispatcher(self._events, sink, middlewares, limits)
        engine = Engine(
            options,
            self._routes.bind(wrap),
            runner,
            dispatcher,
            limits,
            open_session=transports.open,
            longest_wait=self._client.config.max_retry_after,
            open_wakeups=self._wakeups_opener(run.user_loop, limits),
        )
        run.runner, run.sink = runner, sink
        io.add(engine.run, run.ending)
        run.bind(engine, io)

    def _request_stop(self, timeout: float | None) -> None:
        run = self._run
        if run is not None:
            run.request_stop(timeout)

    def _raise_failure(self) -> None:
        """Raise what has ended the last run, if it was an error."""
        if self._run is not None and self._run.ending.error is not None:
            raise self._run.ending.error

    def _wakeups_opener(
        self, user_loop: asyncio.AbstractEventLoop | None, limits: RunLimits
    ) -> OpenWakeups | None:
        transport: Any = self._client._user_transport
        wanted = self._options.wakeups
        if wanted == "auto":
            # A transport of the user's may have no connection to spare for a stream, and a burst ends before one helps.
            wanted = transport is None and not limits.burst
        if not wanted or not can_listen(transport, user_loop):
            return None

        def open_wakeups(
            session: AsyncSession, wake: Callable[[str | None], None], healthy: Callable[[bool], None]
        ) -> Wakeups:
            return Wakeups(
                session.config,
                self._options.queue_name,
                wake=wake,
                healthy=healthy,
                transport=transport,
                credentials=session.credentials,
            )

        return open_wakeups

    def __repr__(self) -> str:
        return f"<{type(self).__name__} queue_name={self.queue_name!r} state={self.state.value}>"
