"""Keep event loops in daemon threads from running while the interpreter is taken down.

A daemon thread that is in the C code of a loop then (uvloop's, aiohttp's) now and then takes the process down with a
segmentation fault, or keeps it from ending. So before that, each of these threads is held in a wait without an end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Iterator

HOLD_TIMEOUT = 1.0
"""Seconds to wait at the end of the process for a loop that is busy."""

_running: dict[int, asyncio.AbstractEventLoop] = {}


@contextlib.contextmanager
def held_at_exit(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Hold the calling thread at the end of the process, if it still runs `loop` in this block then."""
    ident = threading.get_ident()
    _running[ident] = loop
    try:
        yield
    finally:
        _running.pop(ident, None)


@atexit.register
def _hold_all() -> None:
    for loop in list(_running.values()):
        held = threading.Event()
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            loop.call_soon_threadsafe(_hold, held)
            held.wait(HOLD_TIMEOUT)


def _hold(held: threading.Event) -> None:
    held.set()
    threading.Event().wait()


os.register_at_fork(after_in_child=_running.clear)
