"""Tell what happens in an engine: events for the user's handlers, infos for middleware, log lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from spooled.errors import SpooledError
from spooled.worker._job_result import Control
from spooled.worker._log import WorkerLogger
from spooled.worker._routing import job_type_of
from spooled.worker._run_limits import RunLimits
from spooled.worker._running_job import RunningJob
from spooled.worker._sinks import EventSink
from spooled.worker.events import ErrorEvent, EventHandlers, WorkerEvent
from spooled.worker.middleware import AckInfo, ClaimInfo, Middleware, notify, wants

logger = WorkerLogger("spooled.worker")


class EventDispatcher:
    """Pass on what happens, at no cost when there is no listener. Used on the I/O loop only.

    Args:
        handlers: The user's event handlers.
        sink: Where they run.
        middlewares: Told about claims and acks.
        limits: Told about trouble.
    """

    def __init__(
        self,
        handlers: EventHandlers,
        sink: EventSink,
        middlewares: Sequence[Middleware],
        limits: RunLimits,
    ) -> None:
        self._handlers = handlers
        self._sink = sink
        self._middlewares = middlewares
        self._run_limits = limits
        self._troubles: dict[str, tuple[type, int, str]] = {}
        self._acks_wanted = wants(middlewares, "acked")
        self.claims_wanted = wants(middlewares, "claimed")

    def wants(self, kind: type) -> bool:
        """Return whether any handler listens to this kind of event."""
        return self._handlers.wants(kind)

    def emit(self, event: WorkerEvent) -> None:
        self._sink.emit(event)

    def trouble(self, error: SpooledError, what: str, *, of: str | None = None) -> None:
        """Tell that something failed that is tried again, or that no job can report.

        Args:
            error: Why.
            what: What failed.
            of: The kind of request. While requests of a kind fail in the same way, only the first is a warning.
        """
        same = (type(error), error.status_code, error.code)
        if of is not None and self._troubles.get(of) == same:
            logger.debug("%s: %s", what, error)
        else:
            logger.warning("%s: %s%s", what, error, " (told once)" if of else "")
        if of is not None:
            self._troubles[of] = same
        self._sink.emit(ErrorEvent(error))
        self._run_limits.troubled(error)

    def recovered(self, of: str) -> None:
        """Tell that requests of this kind succeed again, if they had failed."""
        if self._troubles and self._troubles.pop(of, None) is not None:
            logger.info("%s: the server answers again", of)

    def claimed(self, claim: ClaimInfo) -> None:
        notify(self._middlewares, "claimed", claim)

    def acked(
        self,
        running_job: RunningJob,
        now: float,
        operation: Literal["complete", "fail", "heartbeat"],
        outcome: Literal["accepted", "lost", "refused", "unsettled"],
        *,
        attempts: int = 0,
        error: str | None = None,
        answer: str | None = None,
        control: Control | None = None,
    ) -> None:
        """It is decided how the execution ended for the server; told once for each."""
        if not self._acks_wanted or running_job.told:
            return
        running_job.told = True
        ran = None if running_job.ended_at is None else running_job.ended_at - running_job.started_at
        info = AckInfo(
            context=running_job.context,
            operation=operation,
            outcome=outcome,
            attempts=attempts,
            seconds=now - running_job.claimed_at,
            run_seconds=ran,
            error=error,
            answer=answer,
            control=control,
            job_type=job_type_of(running_job.job.payload),
        )
        notify(self._middlewares, "acked", info)

    def finish(self) -> None:
        """Nothing more will be told."""
        self._sink.finish()
