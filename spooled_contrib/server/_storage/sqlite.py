"""SQLite as a storage: one file in WAL mode, one thread that writes, one that reads, one that keeps the log small.

Durability. With `synchronous="NORMAL"` a commit is handed to the operating system before it is answered, so an answered
request survives the death of the process (`kill -9` included). A power cut or kernel crash may lose the last commits,
never corrupt the file. `synchronous="FULL"` adds an fsync to each group and survives those too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from spooled.clock import Clock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Tx, prove_write
from spooled_contrib.server._storage.database_file import (
    DatabaseFile,
    open_to_look,
    require_database,
    version_of,
)
from spooled_contrib.server._storage.errors import StorageUnavailableError
from spooled_contrib.server._storage.file_lock import FileLock, require_free
from spooled_contrib.server._storage.lanes import Lanes
from spooled_contrib.server._storage.schema import STEPS
from spooled_contrib.server._storage.sqlite_runners import LARGEST_GROUP, GroupWriter, TurnReader
from spooled_contrib.server._storage.write_ahead_log import BUSY_MILLISECONDS, LogLimits, WriteAheadLog

T = TypeVar("T")
Synchronous = Literal["NORMAL", "FULL"]

IN_MEMORY = ":memory:"

PROBE_CHECK_SECONDS = 1.0
"""How long a probe looks at the pages of the file. A large one is not looked at to its end."""

CHECK_REST = 50
"""After a look at the pages, they are left alone for this many times as long."""


class SqliteStorage:
    """See `Storage`. `:memory:` lives as long as the object is open and has one connection for everything."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        hub: Hub,
        synchronous: Synchronous = "NORMAL",
        log_limits: LogLimits | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._hub = hub
        self._synchronous = synchronous
        self._log_limits = log_limits or LogLimits()
        self._connections: list[sqlite3.Connection] = []
        self._lock: FileLock | None = None
        self._file: DatabaseFile | None = None
        self._log: WriteAheadLog | None = None
        self._next_check = 0.0

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def leads(self) -> bool:
        return True  # the file is locked: there is no other server

    async def open(self) -> None:
        try:
            if self._path != IN_MEMORY:
                # Before anything opens the file: see there.
                require_free(self._path)
                require_database(self._path)
                self._lock = FileLock(self._path)
            writing = self._connect()
            _migrate(writing)
            if self._path != IN_MEMORY:
                self._start_on_file(writing)
            else:
                self._writer = self._reader = self._lanes(
                    "writer", GroupWriter(writing, self._clock, self._hub)
                )
        except (sqlite3.Error, OSError, ValueError) as error:
            self._release()
            raise StorageUnavailableError(
                f"cannot use the database file {self._path!r}: {error}. "
                "Name a file in a directory that exists and can be written, or :memory:"
            ) from error
        except StorageUnavailableError:
            self._release()
            raise

    async def close(self) -> None:
        # The reader goes first: the last connection of a WAL database folds the log back into the file.
        if self._reader is not self._writer:
            await self._reader.close()
        await self._writer.close()
        await asyncio.get_running_loop().run_in_executor(None, self._release)

    async def write(self, operation: Callable[[Tx], T]) -> T:
        return await self._writer.submit(operation)

    async def read(self, operation: Callable[[Tx], T]) -> T:
        return await self._reader.submit(operation)

    async def probe(self) -> None:
        await self.write(prove_write)
        if self._file is not None and self._log is not None:
            self._file.require_room()
            if time.monotonic() >= self._next_check:
                await asyncio.get_running_loop().run_in_executor(
                    None, self._check_pages, self._file, self._log
                )

    def _check_pages(self, file: DatabaseFile, log: WriteAheadLog) -> None:
        began = time.monotonic()
        try:
            # A new connection: the others would show pages that they remember.
            with contextlib.closing(open_to_look(file.path)) as connection:
                log.check_pages(connection, PROBE_CHECK_SECONDS)
        finally:
            self._next_check = time.monotonic() + CHECK_REST * (time.monotonic() - began)

    def _start_on_file(self, writing: sqlite3.Connection) -> None:
        reading, copying = self._connect(), self._connect()
        reading.execute("PRAGMA query_only = 1")
        # The log's own thread copies, so that no request has to.
        writing.execute("PRAGMA wal_autocheckpoint = 0")
        writing.execute(f"PRAGMA journal_size_limit = {self._log_limits.cut}")
        self._file = file = DatabaseFile(self._path)
        file.require_same()
        self._log = log = WriteAheadLog(file, copying, self._log_limits, nudge=lambda: self._writer.nudge())
        self._writer = self._lanes("writer", GroupWriter(writing, self._clock, self._hub, file=file, log=log))
        self._reader = self._lanes("reader", TurnReader(reading, self._clock, self._hub, file=file, log=log))

    def _lanes(self, name: str, runner: GroupWriter | TurnReader) -> Lanes:
        return Lanes(f"spooled-sqlite-{name}", [runner], largest_group=LARGEST_GROUP, hub=self._hub)

    def _connect(self) -> sqlite3.Connection:
        # isolation_level=None: transactions are begun and ended by the lane, not guessed by the driver.
        # check_same_thread=False: opened here, then used by its lane's thread only.
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self._connections.append(connection)
        if self._path != IN_MEMORY:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        return connection

    def _release(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        for connection in reversed(self._connections):
            connection.close()
        self._connections.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _migrate(connection: sqlite3.Connection) -> None:
    version = version_of(connection)
    for number, step in enumerate(STEPS[version:], version + 1):
        statements = step.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT")
        connection.executescript(f"BEGIN; {statements} PRAGMA user_version = {number}; COMMIT;")
