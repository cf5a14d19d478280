"""The errors of Django Tasks, and their form in the one text that Spooled keeps of a failed run."""

from __future__ import annotations

import traceback as tracebacks
from typing import Any

from spooled_contrib.django._task_names import TaskError

TRACEBACK_LIMIT = 1900
"""Characters of an error text that the server keeps are 2,048 (contract lifecycle §4); the first line needs some."""

DISCARDED = "spooled.worker.control.Discard"
RETRIED = "spooled.worker.control.Retry"


def task_error(error: BaseException) -> Any:
    """Return the `TaskError` of an exception."""
    kind = type(error)
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(tracebacks.format_exception(error)),
    )


def error_text(error: BaseException, failed: Any) -> str:
    """Return what the server keeps: a line for people, and the end of the traceback, which says most."""
    try:
        said = str(error)
    except Exception as broken:
        said = f"(its message cannot be read: {type(broken).__name__})"
    line = f"{failed.exception_class_path}: {said}".partition("\n")[0][:200]
    trace = failed.traceback.strip()
    if len(line) + len(trace) > TRACEBACK_LIMIT:
        trace = "…" + trace[-(TRACEBACK_LIMIT - len(line)) :]
    return f"{line}\n\n{trace}"


def _read_error(text: str, otherwise: str = "builtins.RuntimeError") -> Any:
    """Return the `TaskError` that `error_text` has written.

    Args:
        text: The text.
        otherwise: Dotted path of the exception that any other text stands for: a lost lease, a time-out.
    """
    line, _, trace = text.partition("\n\n")
    path = line.partition(":")[0]
    if not trace or not path.replace(".", "").replace("_", "").isalnum():
        return TaskError(exception_class_path=otherwise, traceback=text)
    return TaskError(exception_class_path=path, traceback=trace)
