"""What both workers share: options, registration of handlers, and the state that they show."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from spooled._async._session import AsyncSession
from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.worker._assignment import Assignment
from spooled.worker._bridge import Bridge, Client
from spooled.worker._ending import Ending
from spooled.worker._engine import Engine, OpenWakeups
from spooled.worker._forks import end_forks, end_forks_async
from spooled.worker._io_thread import IoThread
from spooled.worker._options import WorkerOptions
from spooled.worker._routing import Routes
from spooled.worker._runners import Runner
from spooled.worker._sinks import EventSink
from spooled.worker._telling import Telling
from spooled.worker._wakeups import Wakeups, can_listen
from spooled.worker.events import EventHandler, EventHandlers, EventName
from spooled.worker.health import WorkerHealth
from spooled.worker.middleware import Middleware, check_middlewares, wrap_async_handler, wrap_handler
from spooled.worker.state import WorkerState

E = TypeVar("E", bound=EventHandler)


class WorkerKeywords(TypedDict, total=False):
    """The keyword arguments that `SpooledWorker` and `AsyncSpooledWorker` have in common."""

    concurrency: int
    poll_interval: float
    lease_duration: int
    heartbeat_fraction: float
    shutdown_timeout: float
    hostname: str | None
    worker_id: str | None
    worker_type: str
    version: str
    metadata: Mapping[str, Any] | None
    middleware: Sequence[Middleware]
    transport: Literal["auto", "httpx", "aiohttp"]
    wakeups: bool


class FrontDoor:
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
        self._engine: Engine | None = None
        self._io: IoThread | None = None
        self._ending: Ending | None = None

    @property
    def queue_name(self) -> str:
        """The queue that this worker claims from."""
        return self._options.queue_name

    @property
    def state(self) -> WorkerState:
        """What the worker is doing; compares equal to the plain text, as in `worker.state == "running"`."""
        return WorkerState.IDLE if self._engine is None else self._engine.state

    @property
    def worker_id(self) -> str | None:
        """The id that the worker is registered with; None before it starts and after it stopped."""
        return self._engine.worker_id if self._engine is not None and self._is_active() else None

    @property
    def active_job_count(self) -> int:
        """Jobs that are claimed and not settled yet."""
        return self._engine.active_job_count if self._engine is not None else 0

    @property
    def health(self) -> WorkerHealth:
        """Whether the worker does its work, for probes: `worker.health.is_ready()`."""
        if self._engine is None or not self._is_active():
            return WorkerHealth(self.state, None, 0, None, None, 0, None)
        return self._engine.health()

    @overload
    def on(self, event: EventName, handler: None = None) -> Callable[[E], E]: ...
    @overload
    def on(self, event: EventName, handler: E) -> E: ...
    def on(self, event: EventName, handler: E | None = None) -> E | Callable[[E], E]:
        """Register a handler for an event, as a decorator or directly. An event may have several.

        Handlers run outside the I/O loop, one event after the other, in the order in which things happened. An
        exception in one is logged and changes nothing else.

        Args:
            event: `started`, `stopped`, `error`, `job:claimed`, `job:started`, `job:completed`, `job:failed` or
                `job:lease_lost`.
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

    def _is_active(self) -> bool:
        return self.state in (WorkerState.STARTING, WorkerState.RUNNING, WorkerState.STOPPING)

    def _add_handler(self, handler: Callable[[Any], Any], job_type: str | None, payload: Any = None) -> None:
        if self._is_active():
            raise RuntimeError("handlers must be registered before the worker is started")
        self._routes.add(handler, job_type, payload)

    def _check_startable(self) -> None:
        if self._is_active():
            raise RuntimeError(f"the worker is {self.state} already; stop it before starting it again")
        if not self._routes:
            raise RuntimeError("no handler: decorate a function with @worker.process before start()")

    def _enter(
        self,
        io: IoThread,
        bridge: Bridge,
        runner: Runner,
        sink: EventSink,
        user_loop: asyncio.AbstractEventLoop | None,
        assignment: Assignment,
    ) -> None:
        """Have an engine run on `io`, once that starts."""
        options = self._options
        middlewares = options.middleware

        def wrap(handler: Callable[[Any], Any], plain: bool) -> Callable[[Any], Any]:
            if plain:
                return wrap_handler(end_forks(handler), middlewares)
            return wrap_async_handler(end_forks_async(handler), middlewares)

        telling = Telling(self._events, sink, middlewares, assignment)
        engine = Engine(
            options,
            self._routes.bind(wrap),
            runner,
            telling,
            assignment,
            open_session=bridge.open,
            open_wakeups=self._wakeups_opener(user_loop),
        )
        self._engine, self._io, self._ending = engine, io, io.add(engine.run)

    def _request_stop(self, timeout: float | None) -> None:
        if self._io is not None and self._engine is not None:
            self._io.call(self._engine.request_stop, timeout)

    def _wakeups_opener(self, user_loop: asyncio.AbstractEventLoop | None) -> OpenWakeups | None:
        transport: Any = self._client._user_transport
        if not self._options.wakeups or not can_listen(transport, user_loop):
            return None

        def open_wakeups(
            session: AsyncSession, hint: Callable[[], None], healthy: Callable[[bool], None]
        ) -> Wakeups:
            return Wakeups(
                session.config,
                self._options.queue_name,
                hint=hint,
                healthy=healthy,
                transport=transport,
                credentials=session.credentials,
            )

        return open_wakeups

    def __repr__(self) -> str:
        return f"<{type(self).__name__} queue_name={self.queue_name!r} state={self.state.value}>"
