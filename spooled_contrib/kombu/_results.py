"""Whether a message's job waits for the result of its task."""

from __future__ import annotations

import sys
from typing import Any

HELD = "spooled"
"""The message property that says which job it is and who holds it."""


def wants_result(payload: object) -> bool:
    """Whether this process' Celery app keeps results in Spooled, and those of this task."""
    state: Any = sys.modules.get("celery._state")
    if state is None or not isinstance(payload, dict):
        return False
    message = payload.get("kombu")
    headers = message.get("headers") if isinstance(message, dict) else None
    if not isinstance(headers, dict) or not headers.get("task") or headers.get("ignore_result"):
        return False
    backend = state.get_current_app().conf.result_backend
    return isinstance(backend, str) and backend.startswith("spooled")
