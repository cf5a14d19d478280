"""Loggers of the worker, which go on when logging itself fails."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any


class WorkerLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs like the logger that it is given, and never raises.

    A filter, handler or message that raises must not end a thread that keeps leases or runs jobs. The record then goes
    to `sys.stderr`, in one line with the reason.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log a record, as if it were logged by the caller."""
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        try:
            super().log(level, msg, *args, **options)
        except BaseException as broken:
            _write(msg, args, broken)
            if isinstance(broken, KeyboardInterrupt) and _is_main_thread():
                raise  # Ctrl-C

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave the record as it is; an adapter's own way would replace `extra`."""
        return msg, kwargs


def _write(msg: object, args: tuple[object, ...], broken: BaseException) -> None:
    with contextlib.suppress(BaseException):
        reason = f"spooled: logging failed with {type(broken).__name__}"
        with contextlib.suppress(BaseException):
            reason = f"{reason}: {str(msg) % args}"
        sys.stderr.write(" ".join(reason.split()) + "\n")


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
