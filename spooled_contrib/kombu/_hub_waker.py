"""Wakes an event loop of kombu's from another thread.

With one, Celery's worker waits for messages, children of its pool, timers and remote control in one place, so that
it answers also while all of its children are busy.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any


class HubWaker:
    """A pair of sockets: ringing makes one of them readable.

    Args:
        loop: kombu's hub.
        heard: Called on the loop, once for any number of rings.
    """

    def __init__(self, loop: Any, heard: Callable[[], None]) -> None:
        self._loop = loop
        self._heard = heard
        self._rung = False
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._fd = self._reading.fileno()
        loop.add_reader(self._fd, self._read)

    def wake(self) -> None:
        """From any thread; never waits."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):  # full, so it is readable already; or closed
                self._writing.send(b"\0")

    def close(self) -> None:
        """Take it off the loop."""
        self._loop.remove_reader(self._fd)
        self._reading.close()
        self._writing.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._reading.recv(4096)
        # In this order: a ring in between is heard below, or makes the socket readable again.
        self._rung = False
        self._heard()
