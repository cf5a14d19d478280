"""SQLite as a storage: one file in WAL mode, one writing thread, one reading thread.

Durability. With `synchronous="NORMAL"` a commit is handed to the operating system before it is answered, so an answered
request survives the death of the process (`kill -9` included). A power cut or kernel crash may lose the last commits,
never corrupt the file. `synchronous="FULL"` adds an fsync to each group and survives those too.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Literal, TypeVar

from spooled.clock import Clock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import StorageUnavailableError, Tx
from spooled_contrib.server._storage.file_lock import FileLock
from spooled_contrib.server._storage.lane import Lane
from spooled_contrib.server._storage.schema import STEPS

T = TypeVar("T")
Synchronous = Literal["NORMAL", "FULL"]

IN_MEMORY = ":memory:"


class SqliteStorage:
    """See `Storage`. `:memory:` lives as long as the object is open and has one connection for everything."""

    def __init__(self, path: str, *, clock: Clock, hub: Hub, synchronous: Synchronous = "NORMAL") -> None:
        self._path = path
        self._clock = clock
        self._hub = hub
        self._synchronous = synchronous
        self._connections: list[sqlite3.Connection] = []
        self._lock: FileLock | None = None

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def leads(self) -> bool:
        return True  # the file is locked: there is no other server

    async def open(self) -> None:
        try:
            if self._path != IN_MEMORY:
                self._lock = FileLock(self._path)
            writing = self._connect()
            _migrate(writing)
            reading = writing if self._path == IN_MEMORY else self._connect()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._release()
            raise StorageUnavailableError(
                f"cannot use the database file {self._path!r}: {error}. "
                "Name a file in a directory that exists and can be written, or :memory:"
            ) from error
        except StorageUnavailableError:
            self._release()
            raise
        self._writer = self._reader = self._lane("spooled-sqlite-writer", writing, "BEGIN IMMEDIATE")
        if reading is not writing:
            reading.execute("PRAGMA query_only = 1")
            self._reader = self._lane("spooled-sqlite-reader", reading, "BEGIN")

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

    def _lane(self, name: str, connection: sqlite3.Connection, begin: str) -> Lane:
        return Lane(name, connection, begin=begin, clock=self._clock, hub=self._hub)

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
        connection.execute("PRAGMA busy_timeout = 5000")
        return connection

    def _release(self) -> None:
        for connection in reversed(self._connections):
            connection.close()
        self._connections.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    foreign = version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if foreign or version > len(STEPS):
        raise StorageUnavailableError(
            f"the database file was not made by this version of the server (schema {version}, "
            f"expected at most {len(STEPS)}). Name another file"
        )
    for number, step in enumerate(STEPS[version:], version + 1):
        statements = step.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT")
        connection.executescript(f"BEGIN; {statements} PRAGMA user_version = {number}; COMMIT;")
