"""What a worker tells about itself: `@worker.on("job:completed")` and the objects that handlers receive."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from spooled.worker._log import WorkerLogger

logger = WorkerLogger("spooled.worker.events")

EventName = Literal[
    "started",
    "stopped",
    "error",
    "job:claimed",
    "job:started",
    "job:completed",
    "job:failed",
    "job:lease_lost",
    "job:stuck",
]


@dataclass(frozen=True, slots=True)
class StartedEvent:
    """The worker is registered and begins to claim."""

    worker_id: str
    queue_name: str


@dataclass(frozen=True, slots=True)
class StoppedEvent:
    """The worker has stopped.

    Attributes:
        worker_id: The id that it was registered with.
        reason: `graceful`: all jobs had ended. `deadline`: jobs were cut off at the shutdown deadline, and given back.
            `forced`: jobs could not be settled, and run again when their leases have ended. `stuck`: a handler was
            stuck, and `on_stuck="exit"`. `error`: the worker could not go on; `start()` has raised why.
    """

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Something went wrong that belongs to no job's result: a claim, a heartbeat or an ack that failed."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class JobClaimedEvent:
    """The job is leased to this worker."""

    job_id: str
    queue_name: str


@dataclass(frozen=True, slots=True)
class JobStartedEvent:
    """The job's handler is about to run."""

    job_id: str
    queue_name: str


@dataclass(frozen=True, slots=True)
class JobCompletedEvent:
    """The server has accepted the job's completion. `result` is what the handler returned."""

    job_id: str
    queue_name: str
    result: Any


@dataclass(frozen=True, slots=True)
class JobFailedEvent:
    """The server has accepted the job's failure.

    `will_retry` is told from the counts that came with the claim: the REST answer does not say.
    """

    job_id: str
    queue_name: str
    error: str
    will_retry: bool


@dataclass(frozen=True, slots=True)
class JobLeaseLostEvent:
    """The job is no longer this worker's; its result was dropped and another worker may run it.

    `operation` says during what it was found out: `heartbeat`, `complete` or `fail`. `error` is the server's
    answer as text.
    """

    job_id: str
    queue_name: str
    lease_id: str
    operation: str
    error: str


@dataclass(frozen=True, slots=True)
class JobStuckEvent:
    """The job was aborted, and its handler has not ended within `timeout_grace`. It holds its slot until it does.

    Attributes:
        job_id: The job's id.
        queue_name: The queue it came from.
        seconds: How long ago it was aborted.
        on_stuck: What is done about it: `keep`, `fail` or `exit`.
    """

    job_id: str
    queue_name: str
    seconds: float
    on_stuck: str


WorkerEvent = (
    StartedEvent
    | StoppedEvent
    | ErrorEvent
    | JobClaimedEvent
    | JobStartedEvent
    | JobCompletedEvent
    | JobFailedEvent
    | JobLeaseLostEvent
    | JobStuckEvent
)

EVENT_NAMES: dict[type, EventName] = {
    StartedEvent: "started",
    StoppedEvent: "stopped",
    ErrorEvent: "error",
    JobClaimedEvent: "job:claimed",
    JobStartedEvent: "job:started",
    JobCompletedEvent: "job:completed",
    JobFailedEvent: "job:failed",
    JobLeaseLostEvent: "job:lease_lost",
    JobStuckEvent: "job:stuck",
}

EventHandler = Callable[[Any], object]
"""Takes the event object. Its return value is ignored, unless it is awaitable in an `AsyncSpooledWorker`."""


class EventHandlers:
    """The handlers of one worker, by event."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[EventHandler]] = {name: [] for name in EVENT_NAMES.values()}

    def add(self, name: str, handler: EventHandler) -> None:
        """Register a handler.

        Raises:
            ValueError: There is no such event.
            TypeError: `handler` cannot be called.
        """
        self.check(name)
        if not callable(handler):
            raise TypeError(f"the handler of {name!r} must be callable, got {type(handler).__name__}")
        self._handlers[name].append(handler)

    def check(self, name: str) -> None:
        """Raise `ValueError` when there is no event of that name."""
        if name not in self._handlers:
            near = difflib.get_close_matches(name, self._handlers, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._handlers)}"
            raise ValueError(f"unknown worker event {name!r}: {hint}")

    def of(self, event: WorkerEvent) -> list[EventHandler]:
        return self._handlers[EVENT_NAMES[type(event)]]

    def wants(self, kind: type) -> bool:
        """Return whether anyone listens, so that an event nobody wants is not even made."""
        return bool(self._handlers[EVENT_NAMES[kind]])


def log_handler_failure(event: WorkerEvent, error: BaseException) -> None:
    """A handler of the event raised; say so, for nobody else will."""
    logger.error(
        "a handler of the event %r raised; the worker goes on", EVENT_NAMES[type(event)], exc_info=error
    )


# The official SDK's names for what handlers of events get.
StartedEventData = StartedEvent
StoppedEventData = StoppedEvent
ErrorEventData = ErrorEvent
JobClaimedEventData = JobClaimedEvent
JobStartedEventData = JobStartedEvent
JobCompletedEventData = JobCompletedEvent
JobFailedEventData = JobFailedEvent
JobLeaseLostEventData = JobLeaseLostEvent
