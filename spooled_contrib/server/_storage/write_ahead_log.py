"""Keep SQLite's write-ahead log small, whatever reads the database.

A commit appends to the log; a checkpoint copies what is in it to the database file. The log can only start again from
its beginning at a moment when all of it was copied and no reader looks at it. Left to itself SQLite finds no such
moment while searches follow one another, and the log grows for as long as they do. So:

* a thread copies while the server works, so that little is left to do when the moment comes;
* the writer looks for the moment after each group, and cuts the log off;
* from `hold` bytes on, or when none was found for long, new reads wait for it;
* from `interrupt` bytes on, long reads are stopped;
* a read that takes longer than `read_seconds` is stopped in any case.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spooled_contrib.server._storage.database_file import DatabaseFile, check_pages
from spooled_contrib.server._storage.errors import DatabaseOutageError
from spooled_contrib.server._storage.sqlite_errors import DAMAGED, outage_of

logger = logging.getLogger("spooled.server")

MEBIBYTE = 1024 * 1024

OVERDUE = 3
"""Intervals after which new reads wait so that the log can be cut, however small it is."""

BUSY_MILLISECONDS = 5000
"""How long the writer waits for another process that keeps the database locked."""


@dataclass(frozen=True)
class LogLimits:
    """When something is done about the log. Sizes in bytes."""

    copy: int = 4 * MEBIBYTE
    cut: int = 16 * MEBIBYTE
    hold: int = 64 * MEBIBYTE
    interrupt: int = 256 * MEBIBYTE
    interval: float = 5.0
    """Seconds after which a log is cut that did not reach `cut`, so that the file itself is never far behind."""
    read_seconds: float = 10.0
    shortest_interrupted: float = 1.0
    """Seconds that a read may take even when the log has to be cut."""


class WriteAheadLog:
    """The log of one database file, for the connections of one server.

    Args:
        connection: One that nobody else uses, for the copying thread.
        nudge: Has the writer call `after_group` soon. Called from any thread.
    """

    def __init__(
        self, file: DatabaseFile, connection: sqlite3.Connection, limits: LogLimits, nudge: Callable[[], None]
    ) -> None:
        self.limits = limits
        self._file = file
        self._connection = connection
        self._nudge = nudge
        self._changed = threading.Condition()
        self._inside: dict[sqlite3.Connection, float] = {}
        self._held = False
        self._cutting = False
        self._copying = threading.Lock()
        self._copied_to = 0
        self._cut_at = time.monotonic()
        self._not_before = 0.0
        self._complained = False
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spooled-sqlite-log", daemon=True)
        self._thread.start()

    @contextmanager
    def reading(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Have a read transaction inside of the block. Waits while the log is being cut off."""
        with self._changed:
            self._changed.wait_for(self._is_open)
            self._inside[connection] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._inside[connection]
                waited_for = self._held and not self._inside
                self._changed.notify_all()
            if waited_for:
                self._nudge()

    def after_group(self, writer: sqlite3.Connection) -> None:
        """Cut the log off if it is time and no reader is inside. Called by the writer between two transactions."""
        size = self._file.log_size()
        limits = self.limits
        if size >= self._copied_to + limits.copy:
            self._wake.set()
        now = time.monotonic()
        if size == 0 or now < self._not_before:
            self._release(size)
            return
        if size < limits.cut and now < self._cut_at + limits.interval:
            return
        if size >= limits.interrupt:
            self._expel()
        with self._changed:
            if self._inside:
                overdue = now >= self._cut_at + OVERDUE * limits.interval
                self._held = self._held or size >= limits.hold or overdue
                return
            self._cutting = True
        try:
            self._cut(writer, size)
        finally:
            with self._changed:
                self._held = self._cutting = False
                self._changed.notify_all()

    def check_pages(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Look at the structure of the file for at most so many seconds.

        Raises:
            DatabaseOutageError: It is damaged, or cannot be read.
        """
        try:
            with self.reading(connection):
                broken = check_pages(connection, seconds)
        except sqlite3.Error as error:
            outage = outage_of(error)
            if outage is None:
                raise
        else:
            if broken is None:
                return
            outage = DatabaseOutageError(broken, reason=DAMAGED)
        self._file.note(outage)
        raise outage

    def close(self) -> None:
        """End the thread. Its connection can be closed then."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _is_open(self) -> bool:
        return not self._held and not self._cutting

    def _release(self, size: int) -> None:
        if self._held and size < self.limits.hold:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def _cut(self, writer: sqlite3.Connection, size: int) -> None:
        # A copy under way would make this fail; a small log can wait for it to end.
        if not self._copying.acquire(blocking=size >= self.limits.interrupt):
            return
        try:
            writer.execute("PRAGMA busy_timeout = 0")
            (busy, _, _) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            logger.debug("the write-ahead log could not be cut off: %s", error)
            busy = 1
        finally:
            writer.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            self._copying.release()
        now = time.monotonic()
        if not busy:
            self._cut_at, self._copied_to, self._complained = now, 0, False
            return
        # Somebody outside of this server reads, and each try copies all it can.
        self._not_before = now + 1.0
        if size >= self.limits.hold and not self._complained:
            self._complained = True
            logger.warning(
                "the write-ahead log of %s has %d MiB and cannot be cut off: another process reads the database",
                self._file.path,
                size // MEBIBYTE,
            )

    def _expel(self) -> None:
        """Stop the reads that are under way, as far as they have had their time."""
        give_up_at = time.monotonic() + 2 * self.limits.shortest_interrupted
        with self._changed:
            self._held = True
            while self._inside and time.monotonic() < give_up_at:
                self._interrupt(self.limits.shortest_interrupted)
                # Again and again: between two statements an interrupt goes unheard.
                self._changed.wait(0.05)

    def _interrupt(self, seconds: float) -> None:
        now = time.monotonic()
        for connection, since in self._inside.items():
            if now - since >= seconds:
                connection.interrupt()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(min(1.0, self.limits.interval))
            self._wake.clear()
            with self._changed:
                self._interrupt(self.limits.read_seconds)
            size = self._file.log_size()
            if size >= self._copied_to + self.limits.copy:
                self._copy(size)
            if size and time.monotonic() >= self._cut_at + self.limits.interval:
                self._nudge()

    def _copy(self, size: int) -> None:
        try:
            with self._copying:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._copied_to = size
        except sqlite3.Error as error:
            # Of no consequence: the writer tries again, and says what is wrong.
            logger.debug("the write-ahead log could not be copied: %s", error)
            self._copied_to = size
