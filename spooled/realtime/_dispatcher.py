"""Calls handlers on a thread of its own, so that they may block and may use the client that calls them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("spooled.realtime")

WAITING = 10_000
"""Calls that may wait for handlers that are slow; further ones are left out."""

_PATIENCE = 5.0
"""Seconds that `stop` waits for handlers."""


class Dispatcher:
    """Makes calls one after the other."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[Any], object], object] | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="spooled-realtime-handlers", daemon=True)
        self._thread.start()

    def put(self, handler: Callable[[Any], object], argument: object) -> None:
        """Call it when the earlier calls are over."""
        if self._calls.qsize() >= WAITING:
            if self._lost == 0:
                _log.warning("realtime: the handlers are too slow, and events are lost to them")
            self._lost += 1
            return
        self._calls.put((handler, argument))

    def stop(self) -> None:
        """End after the calls that wait, and wait some seconds for that unless a handler asks."""
        self._calls.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            handler, argument = call
            try:
                handler(argument)
            except Exception:
                _log.exception("realtime: a handler raised")
