"""Give up connections on which PostgreSQL has fallen silent.

A database whose processes are stopped, or behind a proxy that swallows, keeps its connections open: the kernel answers
for it, and no time-out of TCP or of the database's own ever ends a wait. Only the client's clock does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Sequence

import psycopg

from spooled_contrib.server._storage import Row

ANSWER_SECONDS = 10.0
"""How long an answer may take. Statements end by themselves before (`STATEMENT_SECONDS`) where the database lives."""

STATEMENT_SECONDS = 8

LOOK_SECONDS = 0.5


class Patience:
    """How long one thread has been waiting for the database, and the means to end its wait."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self.heard_at = 0.0
        """When the last answer came, or the wait began (`time.monotonic`). Set by the thread that waits."""
        self.exhausted = False
        """The connection was given up. Reset by `begin`."""

    def begin(self) -> None:
        """Start over: something is about to be asked."""
        self.exhausted = False
        self.heard_at = time.monotonic()

    def watch(self, connection: psycopg.Connection[Row] | None) -> None:
        """End the waits on this connection from now on; on None, on none. To be called before one is closed."""
        with self._guard:
            self._connection = connection

    def look(self) -> None:
        """End the wait that is under way if it has lasted for too long."""
        with self._guard:
            connection = self._connection
            if connection is None or time.monotonic() < self.heard_at + ANSWER_SECONDS:
                return
            self.exhausted = True
            # `close` would wait for the thread. This makes the thread's wait end, with an error.
            with contextlib.suppress(OSError, psycopg.Error), _duplicate(connection) as stopped:
                stopped.shutdown(socket.SHUT_RDWR)


def _duplicate(connection: psycopg.Connection[Row]) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.pgconn.socket))


class SilenceWatch:
    """The thread that looks after the patience of others."""

    def __init__(self, watched: Sequence[Patience]) -> None:
        self._watched = watched
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spooled-postgres-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for patience in self._watched:
                patience.look()
