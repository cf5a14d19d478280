"""Look at a database file from outside: that it is one, still the same one, sound, and has room to grow."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from spooled_contrib.server._storage.errors import DatabaseOutageError, StorageUnavailableError
from spooled_contrib.server._storage.schema import STEPS
from spooled_contrib.server._storage.sqlite_errors import DAMAGED, FULL

_MAGIC = b"SQLite format 3\0"

LEAST_ROOM = 64 * 1024
"""Free bytes below which a disk counts as full: less than the pages of an ordinary group of writes."""

START_CHECK_SECONDS = 3.0
"""How long a file's pages are looked at before it is served. A large one is not looked at to its end."""

GONE = "the database file was deleted, or replaced by another one"


class DatabaseFile:
    """The file of an open database and its write-ahead log.

    SQLite goes on writing to a file that nobody can find any more. So the writer asks before each commit whether
    the path still leads to what it writes to; that costs two calls of the system.
    """

    def __init__(self, path: str) -> None:
        # The program around an embedded server may change its directory.
        self.path = os.path.abspath(path)  # noqa: PTH100 - `Path.absolute` leaves ".." in
        self.log_path = f"{self.path}-wal"
        self._known: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._damage: str | None = None

    def require_same(self) -> None:
        """Return when both files are the ones that were opened.

        Raises:
            DatabaseOutageError: One was deleted, replaced or cut off.
        """
        size = self._require(self.path)
        if size < self._size:
            raise DatabaseOutageError(
                f"{self.path} was cut from {self._size} to {size} bytes",
                reason="the database file was cut off",
            )
        self._size = size
        self._require(self.log_path)

    def require_sound(self) -> None:
        """Return unless damage was found. It stays until the server is started again.

        Raises:
            DatabaseOutageError: It was; whatever is written now may be lost, or make it worse.
        """
        if self._damage is not None:
            raise DatabaseOutageError(self._damage, reason=DAMAGED)

    def require_room(self) -> None:
        """Return when the disk has some room left, as far as the system tells.

        Raises:
            DatabaseOutageError: It is full.
        """
        if not hasattr(os, "statvfs"):
            return  # Windows
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return  # `require_same` says it better
        free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
        # Some file systems have no such numbers, and tell zeros.
        if disk.f_blocks and free < LEAST_ROOM:
            raise DatabaseOutageError(f"{free} bytes are free on the disk of {self.path}", reason=FULL)

    def note(self, outage: DatabaseOutageError) -> None:
        """Remember what SQLite said about the file."""
        if outage.reason == DAMAGED and self._damage is None:
            self._damage = (
                f"{self.path} is damaged ({outage}). Stop the server and put a backup in its place; nothing is "
                "written until then"
            )

    def log_size(self) -> int:
        """Return the size of the write-ahead log in bytes."""
        try:
            return os.stat(self.log_path).st_size  # noqa: PTH116 - asked after each commit
        except OSError:
            return 0

    def _require(self, path: str) -> int:
        known = self._known.get(path)
        try:
            found = os.stat(path)  # noqa: PTH116 - asked before each commit
        except OSError as error:
            if known is None:
                return 0  # the log comes with the first change
            raise DatabaseOutageError(f"{path}: {error.strerror or error}", reason=GONE) from None
        # While we hold it open, no other file can be given its number.
        if known is None:
            self._known[path] = found.st_dev, found.st_ino
        elif known != (found.st_dev, found.st_ino):
            raise DatabaseOutageError(f"{path} is another file than the one that was opened", reason=GONE)
        return found.st_size


def check_pages(connection: sqlite3.Connection, seconds: float) -> str | None:
    """Look at the structure of a database for at most so many seconds.

    Returns:
        What is broken, in SQLite's words; None when it is sound as far as was looked.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    # What SQLite does in there is one step to it, which only another thread can stop.
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        timer.cancel()
        timer.join()
    return None if found == "ok" else " ".join(str(found).split())


def require_database(path: str) -> None:
    """Return when a server can use the path: there is nothing yet, or a sound SQLite file. Makes and changes nothing.

    Raises:
        StorageUnavailableError: It cannot; the message says why and what to do, in one line.
    """
    if not path:
        raise StorageUnavailableError("the name of the database file is empty. Name a file, or :memory:")
    file = Path(path)
    advice = "Name a file in a directory that exists and can be written, or :memory:"
    try:
        if file.is_dir():
            raise _cannot_use(path, "it is a directory", advice)
        if not file.exists():
            if not file.absolute().parent.is_dir():
                raise _cannot_use(path, "its directory does not exist", advice)
            if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
                raise _cannot_use(path, "its directory cannot be written", advice)
            return
        if not file.is_file():
            raise _cannot_use(path, "it is no regular file", advice)
        if not os.access(file, os.R_OK | os.W_OK):
            raise _cannot_use(path, "this user may not read and write it", advice)
        with file.open("rb") as opened:
            start = opened.read(len(_MAGIC))
    except (OSError, ValueError) as error:
        raise _cannot_use(path, str(error), advice) from error
    if not start:
        return  # SQLite makes a database of an empty file
    if start != _MAGIC:
        raise _cannot_use(path, "it is not a SQLite database", "Name another file")
    try:
        with closing(open_to_look(path)) as connection:
            broken = check_pages(connection, START_CHECK_SECONDS)
            if broken is None:
                version_of(connection)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return  # in use, perhaps; whoever opens it will find out
        broken = str(error)
    if broken is not None:
        raise _cannot_use(path, f"it is damaged ({broken})", "Put a backup in its place")


def version_of(connection: sqlite3.Connection) -> int:
    """Return how many steps the schema is at; 0 for an empty database.

    Raises:
        StorageUnavailableError: The tables are of a newer server, or of something else.
        sqlite3.Error: It cannot be read.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    foreign = version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if foreign or not 0 <= version <= len(STEPS):
        raise StorageUnavailableError(
            f"the database file was not made by this version of the server (schema {version}, "
            f"expected at most {len(STEPS)}). Name another file"
        )
    return int(version)


def open_to_look(path: str) -> sqlite3.Connection:
    """Open an existing file in order to read it, whether or not a server uses it.

    Raises:
        sqlite3.Error: There is none, or it cannot be read.
    """
    # Without a log there is nothing but the file, and no need to make a log in order to read it.
    how = "mode=rw" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    url = f"file:{quote(os.path.abspath(path))}?{how}"  # noqa: PTH100
    connection = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _cannot_use(path: str, reason: str, advice: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"cannot use the database file {path!r}: {reason}. {advice}")
