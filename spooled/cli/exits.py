"""Ends this process when it does not end by itself."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

logger = logging.getLogger("spooled.cli")

EXIT_GRACE = 5.0
"""Seconds that a process has for its own end, after its worker was stopped by a signal."""


def exit_within(seconds: float, code: int) -> None:
    """End this process with the exit code when it still runs after so many seconds.

    Python waits at its end for threads that are not daemons, for executors and pools, and for functions registered
    with `atexit`, without a limit. One that never ends would keep a worker that has done its work.
    """
    threading.Thread(target=_exit_after, args=(seconds, code), name="spooled-exit", daemon=True).start()


def exit_now(code: int) -> NoReturn:
    """End this process at once, and those that it has started with `multiprocessing`."""
    try:
        # Processes of pools and executors wait for a parent that is gone, and for ever.
        if "multiprocessing" in sys.modules:
            import multiprocessing

            for child in multiprocessing.active_children():
                child.kill()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    finally:
        os._exit(code)


def _exit_after(seconds: float, code: int) -> None:
    threading.Event().wait(seconds)
    ours = threading.current_thread(), threading.main_thread()
    names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread not in ours]
    waits = (
        f"threads that are not daemons: {', '.join(names)}" if names else "a pool, or a function of atexit"
    )
    logger.warning(
        "the worker has stopped, but the process has not ended after %g s, for it waits for %s; ending it",
        seconds,
        waits,
    )
    exit_now(code)
