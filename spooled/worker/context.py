"""What a handler is given: the job, the abort signal, and where to log to."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic

import msgspec

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # `JobContext` alone means a payload that is a JSON object, as in the guide.
    T = TypeVar("T", default=dict[str, Any])
else:
    from typing import TypeVar

    T = TypeVar("T")

job_logger = logging.getLogger("spooled.worker.job")

_current: ContextVar[JobContext[Any] | None] = ContextVar("spooled_current_job", default=None)


def current_job() -> JobContext[Any] | None:
    """The context of the job that is being run here, or None outside of a handler.

    It follows the code: into functions that the handler calls, and into the tasks and `asyncio.to_thread` calls
    that a coroutine handler starts. Threads that a handler starts by itself do not see it.
    """
    return _current.get()


@contextmanager
def running_as(ctx: JobContext[Any]) -> Iterator[None]:
    """Make `ctx` the current job of the block."""
    token = _current.set(ctx)
    try:
        yield
    finally:
        _current.reset(token)


class JobLogFilter(logging.Filter):
    """Adds `job_id`, `queue_name` and `attempt` to every record that is logged while a job runs.

    Records outside of a job get empty values, so that one format serves for all:

        handler.addFilter(JobLogFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s [%(queue_name)s %(job_id)s] %(message)s"))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        ctx = _current.get()
        fields = {"job_id": "", "queue_name": "", "attempt": 0} if ctx is None else log_fields(ctx)
        for name, value in fields.items():
            # The worker's own records about a job name it themselves.
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def log_fields(ctx: JobContext[Any]) -> dict[str, Any]:
    """Return what a log record about a job carries."""
    return {"job_id": ctx.job_id, "queue_name": ctx.queue_name, "attempt": ctx.attempt}


class AsyncSignal(asyncio.Event):
    """An `asyncio.Event` that is set from the worker's own thread.

    `is_set()` tells the truth at once, also to a handler that blocks its loop; `wait()` wakes as soon as the
    loop gets to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._aborted = False

    def is_set(self) -> bool:
        return self._aborted or super().is_set()

    async def wait(self) -> Any:
        return True if self._aborted else await super().wait()

    def abort(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the signal from any thread; `loop` is the one that handlers run on."""
        self._aborted = True
        try:
            loop.call_soon_threadsafe(self.set)
        except RuntimeError:
            # The loop is closed, and with it everyone who could have waited.
            return


class JobContext(Generic[T]):
    """One execution of one job.

    Attributes:
        job_id: The job's id.
        queue_name: The queue it came from.
        payload: What the producer sent; any JSON value, usually a dict.
        retry_count: Failures and lost leases so far; 0 on the first run.
        max_retries: Retries allowed; a job runs at most `max_retries + 1` times.
        timeout_seconds: How long the handler may run before it is aborted and the job fails.
        lease_id: The token of this execution's lease; differs between two runs of the same job.
        signal: Set when the job was aborted: time-out, lost lease, or the worker's shutdown deadline. Long
            handlers look at `signal.is_set()` and return; what they return is then ignored.
        reenqueue_payload: The payload of the copy that goes on when `Retry`, `Snooze` or the worker's shutdown
            replaces the job by one. Set it to remember how far the work has come. Default: the job's own payload.
    """

    __slots__ = (
        "job_id",
        "lease_id",
        "max_retries",
        "payload",
        "queue_name",
        "reenqueue_payload",
        "retry_count",
        "signal",
        "timeout_seconds",
    )

    signal: threading.Event

    def __init__(
        self,
        *,
        job_id: str,
        queue_name: str,
        payload: T,
        retry_count: int,
        max_retries: int,
        timeout_seconds: int,
        lease_id: str,
        signal: threading.Event,
    ) -> None:
        self.job_id = job_id
        self.queue_name = queue_name
        self.payload = payload
        self.retry_count = retry_count
        self.max_retries = max_retries
        self.timeout_seconds = timeout_seconds
        self.lease_id = lease_id
        self.signal = signal
        self.reenqueue_payload: object = msgspec.UNSET

    @property
    def attempt(self) -> int:
        """Which run this is, counted from 1."""
        return self.retry_count + 1

    def log(self, level: str, message: str, meta: Mapping[str, object] | None = None) -> None:
        """Log to the logger `spooled.worker.job`, with the job's id and queue on the record.

        Args:
            level: `debug`, `info`, `warning`, `error` or `critical`, in any case.
            message: The text.
            meta: Values to add to the text.

        Raises:
            ValueError: There is no such level.
        """
        _log(self, level, message, meta)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Say how far the job is. It is logged only: the API has no place for it yet (contract api-v1 §3.7).

        Args:
            percent: 0 to 100.
            message: What has been done.
        """
        _log(self, "info", _progress_text(percent, message), None)

    def __repr__(self) -> str:
        # The payload is left out: it may hold personal data and reprs end up in logs.
        return f"<{type(self).__name__} job_id={self.job_id!r} queue_name={self.queue_name!r} attempt={self.attempt}>"


class _Done:
    """Awaiting this does nothing: the work was done by the call."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class AsyncJobContext(JobContext[T]):
    """`JobContext` for coroutine handlers: `signal` is an `asyncio.Event`.

    `log` and `progress` act at once and may be awaited or not.
    """

    __slots__ = ()

    signal: AsyncSignal  # type: ignore[assignment] # same use, other waiting; both are what the official SDK has

    def log(self, level: str, message: str, meta: Mapping[str, object] | None = None) -> _Done:  # type: ignore[override]
        _log(self, level, message, meta)
        return _Done()

    def progress(self, percent: float, message: str | None = None) -> _Done:  # type: ignore[override]
        _log(self, "info", _progress_text(percent, message), None)
        return _Done()


def _progress_text(percent: float, message: str | None) -> str:
    return f"{percent:g}%" if message is None else f"{percent:g}% {message}"


def _log(ctx: JobContext[Any], level: str, message: str, meta: Mapping[str, object] | None) -> None:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: use debug, info, warning, error or critical")
    if not job_logger.isEnabledFor(number):
        return
    # One logger for all jobs: loggers are never freed, so one for each job would be a leak.
    extra = log_fields(ctx)
    if meta:
        job_logger.log(number, "[%s] %s %s", ctx.job_id, message, dict(meta), extra=extra)
    else:
        job_logger.log(number, "[%s] %s", ctx.job_id, message, extra=extra)
