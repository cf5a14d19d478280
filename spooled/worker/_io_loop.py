"""The event loop of the I/O thread."""

from __future__ import annotations

import asyncio
import importlib.util


def engine_loop() -> asyncio.AbstractEventLoop:
    """Return a loop for a thread of one's own, as the engines of workers have it: the fastest that is installed."""
    return new_io_loop(fast=True)


def new_io_loop(*, fast: bool) -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed and speed is wanted, else asyncio's own. The user's loop stays as it is."""
    if fast and importlib.util.find_spec("uvloop") is not None:
        from spooled.worker._fast_loop import FastLoop

        return FastLoop()
    return asyncio.new_event_loop()
