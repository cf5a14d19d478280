"""What queues, workers and hosts may be called (contract sections 3.1 and 5)."""

from __future__ import annotations

import re

from spooled_contrib.server import _refusals as refuse

_WORKER_ID = re.compile(r"[A-Za-z0-9._-]+")
_ASCII_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def is_queue_name(name: str) -> bool:
    """1 to 100 letters or digits of any script, `-`, `_`, `.`; not starting with `.` or `-`."""
    if not 1 <= len(name) <= 100:
        return False
    if _ASCII_QUEUE.fullmatch(name):
        return True
    return name[0] not in ".-" and all(char.isalnum() or char in "-_." for char in name)


def check_queue_name(name: str, field: str = "queue_name") -> None:
    if not is_queue_name(name):
        code = "length" if not 1 <= len(name) <= 100 else "format"
        raise refuse.invalid(
            field,
            "must have 1 to 100 letters, digits, '-', '_' or '.', and not start with '.' or '-'",
            code=code,
        )


def check_hostname(name: str) -> None:
    if not (
        1 <= len(name) <= 255
        and all(char.isalnum() or char in ".-_" for char in name)
        and name[0] not in ".-"
        and name[-1] not in ".-"
    ):
        raise refuse.invalid(
            "hostname",
            "must have 1 to 255 letters, digits, '.', '-' or '_', and not start or end with '.' or '-'",
            code="format",
        )


def check_worker_id(worker_id: str) -> None:
    """For registration. A claim takes any text."""
    if not 1 <= len(worker_id) <= 128 or not _WORKER_ID.fullmatch(worker_id):
        raise refuse.invalid("worker_id", "must have 1 to 128 of A-Z a-z 0-9 . _ -", code="format")
