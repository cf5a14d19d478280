"""Waiting for something that another process or thread does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

HOPELESS = float(os.environ.get("SPOOLED_TEST_PATIENCE", "120"))
"""Seconds after which a condition will not come true any more. Never a measure of speed: less than the default is for
those who work on a test that fails."""


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Ask until the condition is true.

    Raises:
        AssertionError: It stayed false.
    """
    give_up_at = time.monotonic() + HOPELESS
    pause = threading.Event()  # never set: its wait yields the processor between two looks
    while not condition():
        assert time.monotonic() < give_up_at, f"still not true after {HOPELESS:g} s: {what or condition}"
        pause.wait(0.01)
