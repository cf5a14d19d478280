"""Log lines of `spooled worker`, on stderr."""

from __future__ import annotations

import logging
import sys

from spooled.cli._text import safe_block

LEVELS = ("debug", "info", "warning", "error")


def set_up(level: str | None) -> None:
    """Show log records, unless the user's module has set up logging: then its choice stands.

    Args:
        level: The least severe level to show; None for `info`, or, with the module's own set-up, for its level.
    """
    root = logging.getLogger()
    number = logging.getLevelNamesMapping()[(level or "info").upper()]
    if root.handlers:
        if level is not None:
            logging.getLogger("spooled").setLevel(number)
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(number)
    if number > logging.DEBUG:
        # They say a line for each request, and for each change.
        for noisy in ("httpx", "httpcore", "watchfiles"):
            logging.getLogger(noisy).setLevel(max(number, logging.WARNING))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe_block(super().format(record))
