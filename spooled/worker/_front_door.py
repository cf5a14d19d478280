"""What both workers share: options, registration of handlers, and the state that they show."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, Unpack, overload

from spooled.client import AsyncSpooledClient, SpooledClient
from spooled.worker._engine import Engine
from spooled.worker._io_thread import IoThread
from spooled.worker._options import WorkerOptions
from spooled.worker.events import EventHandler, EventHandlers, EventName
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


class FrontDoor:
    """The part of a worker that does not depend on where its handlers run."""

    def __init__(
        self, client: SpooledClient | AsyncSpooledClient, queue_name: str, **options: Unpack[WorkerKeywords]
    ) -> None:
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
        self._client = client
        self._options = WorkerOptions(queue_name, **given)
        self._events = EventHandlers()
        self._handler: Callable[[Any], Any] | None = None
        self._engine: Engine | None = None
        self._io: IoThread | None = None

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

    def _set_handler(self, handler: Callable[[Any], Any]) -> None:
        if not callable(handler):
            raise TypeError(f"@worker.process needs a function that takes the job context, got {handler!r}")
        if self._is_active():
            raise RuntimeError("handlers must be registered before the worker is started")
        if self._handler is not None and self._handler is not handler:
            raise ValueError(
                f"this worker already has the handler {_name(self._handler)}; one worker runs one handler, "
                "so make a second worker or branch inside the handler"
            )
        self._handler = handler

    def _startable(self) -> Callable[[Any], Any]:
        """The handler, after checking that the worker may start."""
        if self._is_active():
            raise RuntimeError(f"the worker is {self.state} already; stop it before starting it again")
        if self._handler is None:
            raise RuntimeError("no handler: decorate a function with @worker.process before start()")
        return self._handler

    def __repr__(self) -> str:
        return f"<{type(self).__name__} queue_name={self.queue_name!r} state={self.state.value}>"


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
