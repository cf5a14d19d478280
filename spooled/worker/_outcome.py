"""How a handler ended, in the words of the wire."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooled.worker._results import UnserialisableResultError, encode_result
from spooled.worker.context import JobContext

logger = logging.getLogger("spooled.worker")

ERROR_LIMIT = 2048
"""The longest error text in characters that the server takes; a longer one is refused (contract lifecycle §4)."""


@dataclass(frozen=True, slots=True)
class Success:
    """The handler returned `result`; `encoded` is the same as JSON."""

    result: Any
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The handler raised, was aborted, or returned what cannot be sent."""

    error: str


Outcome = Success | Failure


def describe_error(error: BaseException) -> str:
    """`Type: message`, safe to send: never empty, never too long, whatever `str(error)` does."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"(its message cannot be read: {type(broken).__name__})"
    name = type(error).__name__
    return fit_error(f"{name}: {text}" if text else name)


def fit_error(text: str) -> str:
    """Bring an error text into what the server and its database take."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd").strip() or "Job failed"
    return clean if len(clean) <= ERROR_LIMIT else clean[: ERROR_LIMIT - 1] + "…"


def failure_of(error: BaseException, ctx: JobContext[Any]) -> Failure:
    """Log a handler's exception with its traceback and turn it into an outcome."""
    failure = Failure(describe_error(error))
    logger.error(
        "job %s on %s failed in attempt %d of %d: %s",
        ctx.job_id,
        ctx.queue_name,
        ctx.attempt,
        ctx.max_retries + 1,
        failure.error,
        exc_info=error,
        extra={"job_id": ctx.job_id, "queue_name": ctx.queue_name, "attempt": ctx.attempt},
    )
    return failure


def success_of(value: object, ctx: JobContext[Any]) -> Outcome:
    """Encode a return value where the handler ran, so that the I/O thread does not have to."""
    try:
        return Success(value, encode_result(value))
    except UnserialisableResultError as error:
        logger.error("job %s on %s failed: %s", ctx.job_id, ctx.queue_name, error)
        return Failure(fit_error(str(error)))


def run_handler(handler: Callable[[Any], object], ctx: JobContext[Any]) -> Outcome:
    """Call a plain function and report how it ended. Never raises."""
    try:
        value = handler(ctx)
    except BaseException as error:  # SystemExit too: one job must not take the worker with it
        return failure_of(error, ctx)
    return success_of(value, ctx)
