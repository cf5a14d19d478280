"""Connections that wait for their next request. Shared by threads; it starts none."""

from __future__ import annotations

import threading
import time
from collections import deque

from spooled._http._connection import Connection
from spooled._http._transport import KEEPALIVE_SECONDS


class ConnectionPool:
    """The connections of one process.

    Args:
        size: How many there are at most, idle or not.

    Attributes:
        room: Taken for each request before it has a connection, and released after it.
    """

    def __init__(self, size: int) -> None:
        # Made here and not at import, when gevent or eventlet may not yet have put their own in the place of it.
        self.room = threading.BoundedSemaphore(size)
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._closed = False

    def take(self) -> Connection | None:
        """Return the connection that was used last and is still good; None when there is none."""
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle_since >= oldest and connection.is_quiet():
                self._busy.add(connection)
                return connection
            connection.close()

    def add(self, connection: Connection) -> None:
        """Know of a new connection, which is in use."""
        self._busy.add(connection)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, and close what has waited too long."""
        connection.idle_since = now = time.monotonic()
        self._busy.discard(connection)
        if self._closed:
            connection.close()
            return
        self._idle.append(connection)
        while True:
            try:
                first = self._idle.popleft()
            except IndexError:
                return
            if now - first.idle_since <= KEEPALIVE_SECONDS:
                self._idle.appendleft(first)
                return
            first.close()

    def drop(self, connection: Connection) -> None:
        """Close a connection that is in use."""
        self._busy.discard(connection)
        connection.close()

    def close_idle(self) -> None:
        """Close those that wait."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close those that wait, and the others when they are given back."""
        self._closed = True
        self.close_idle()

    def leave_to_parent(self) -> None:
        """Close this process's copies of what a parent opened before it forked. The parent's connections live on."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        self._busy.clear()
