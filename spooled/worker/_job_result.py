"""Convert what a handler did to a complete or fail request."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from spooled.worker._log import WorkerLogger
from spooled.worker._results import Success, UnserialisableResultError, prepare_result
from spooled.worker.context import JobContext, log_fields, running_as
from spooled.worker.control import Discard, Fail, JobControl, Retry, Snooze

logger = WorkerLogger("spooled.worker")

ERROR_LIMIT = 2048
"""The longest error text in characters that the server takes; a longer one is refused (contract lifecycle §4)."""

SHOWN_CAUSES = 3
"""Errors of a group that its text tells; the traceback in the log has them all."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The handler raised, was aborted, or returned what cannot be sent."""

    error: str


Control = Literal["retried", "snoozed", "released", "discarded"]
"""Why a job was completed without its work being done."""


@dataclass(frozen=True, slots=True)
class Reenqueue:
    """The handler, or the worker's shutdown, wants the job to run again as a copy of itself.

    Attributes:
        outcome: `retried`, `snoozed` or `released`; told in the original's result.
        due: Not before this time; None means at once.
        costs_attempt: Whether the copy has one retry less.
        reason: Why, in words.
        error: The error text in case that the job cannot be replaced and has to fail.
        revive: Whether failing must not leave the job dead when it has no retries left.
    """

    outcome: Control
    due: dt.datetime | None
    costs_attempt: bool
    reason: str
    error: str
    revive: bool = False


@dataclass(frozen=True, slots=True)
class Discarded:
    """The handler wants the job to end without being done."""

    reason: str
    error: str


JobResult = Success | Failure | Reenqueue | Discarded


def describe_error(error: BaseException) -> str:
    """Return `Type: message`, safe to send: never empty, never too long, whatever `str(error)` does."""
    name = "an exception without a name"
    try:
        name = str.__str__(type(error).__name__)
        text = str.__str__(str(error))  # `str` may return a subclass, with methods of its own
        if isinstance(error, BaseExceptionGroup):
            text = f"{text}: {_causes(error)}"
        return fit_error(f"{name}: {text}" if text else name)
    except BaseException as broken:
        return f"{name}: (its message cannot be read: {type(broken).__name__})"


def _causes(error: BaseExceptionGroup[BaseException]) -> str:
    """Describe the errors in a group: the first few, in the order in which the group holds them."""
    causes = list(_leaves(error))
    shown = "; ".join(describe_error(cause) for cause in causes[:SHOWN_CAUSES])
    more = len(causes) - SHOWN_CAUSES
    return f"{shown}; and {more} more" if more > 0 else shown


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _only_control(error: BaseException) -> BaseException:
    """Return the control exception that is alone in a group, as a TaskGroup raises it; else the error itself."""
    inner = error
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner if isinstance(inner, JobControl | Fail) else error


def fit_error(text: str) -> str:
    """Bring an error text into what the server and its database take."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd").strip() or "Job failed"
    return clean if len(clean) <= ERROR_LIMIT else clean[: ERROR_LIMIT - 1] + "…"


def outcome_of_error(error: BaseException, ctx: JobContext[Any]) -> JobResult:
    """Return what a handler's exception means; a failure is logged with its traceback. Never raises."""
    try:
        return _read_error(error, ctx)
    except BaseException as broken:
        # The exception, or the time that a `Retry` names, cannot be worked with.
        text = fit_error(f"{describe_error(error)} ({describe_error(broken)})")
        logger.error("job %s on %s failed: %s", ctx.job_id, ctx.queue_name, text, extra=log_fields(ctx))
        return Failure(text)


def outcome_of_value(value: object, ctx: JobContext[Any]) -> JobResult:
    """Encode a return value where the handler ran, so that the I/O thread does not have to. Never raises."""
    try:
        return prepare_result(value)
    except BaseException as error:
        return outcome_of_error(error, ctx)


def run_handler(handler: Callable[[Any], object], ctx: JobContext[Any]) -> JobResult:
    """Call a plain function and report how it ended.

    Raises nothing, but for what another thread or a signal handler raises in here.
    """
    with running_as(ctx):
        try:
            value = handler(ctx)
        except BaseException as error:  # SystemExit too: one job must not take the worker with it
            return outcome_of_error(error, ctx)
        return outcome_of_value(value, ctx)


def _read_error(error: BaseException, ctx: JobContext[Any]) -> JobResult:
    if isinstance(error, UnserialisableResultError):
        # A traceback would show no line of the handler.
        text = fit_error(str(error))
        logger.error("job %s on %s failed: %s", ctx.job_id, ctx.queue_name, text, extra=log_fields(ctx))
        return Failure(text)
    error = _only_control(error)
    told = fit_error(error.text) if isinstance(error, Fail) else describe_error(error)
    if ctx.signal.is_set():
        # Aborted; the engine says in one line how it ended.
        logger.debug("job %s raised after it was aborted", ctx.job_id, exc_info=error, extra=log_fields(ctx))
        return Failure(told)
    if isinstance(error, JobControl):
        logger.info("job %s on %s: %s", ctx.job_id, ctx.queue_name, told, extra=log_fields(ctx))
        now = dt.datetime.now(dt.UTC)
        match error:
            case Retry():
                return Reenqueue(
                    "retried", error.due(now), costs_attempt=True, reason=error.reason, error=told
                )
            case Snooze():
                return Reenqueue(
                    "snoozed", error.due(now), costs_attempt=False, reason=error.reason, error=told
                )
            case Discard():
                return Discarded(error.reason, told)
    logger.error(
        "job %s on %s failed in attempt %d of %d: %s",
        ctx.job_id,
        ctx.queue_name,
        ctx.attempt,
        ctx.max_retries + 1,
        told.partition("\n")[0],
        exc_info=(error.__cause__ or error) if isinstance(error, Fail) else error,
        extra=log_fields(ctx),
    )
    return Failure(told)
