"""Lock a database file against a second server, whatever name that opens it by.

Two servers on one file would each trust their own memory of keys, and both recover leases. SQLite itself lets them.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from spooled_contrib.server._storage.errors import StorageUnavailableError

if sys.platform != "win32":
    import fcntl

_held: set[tuple[int, int]] = set()
"""Device and inode of the files that this process has locked."""

_changing = threading.Lock()


def require_free(path: str) -> None:
    """Return when no server in this process has the file.

    Asked before anything opens it: closing any descriptor of a file drops the locks that SQLite has on it in this
    process, and then another process could take its log for nobody's.

    Raises:
        StorageUnavailableError: One has it.
    """
    if Path(path).exists() and _identity(Path(path).stat()) in _held:
        raise _taken(path)


class FileLock:
    """A lock that ends with `release()` or with the process.

    On Linux it is on the database file itself, so symbolic links, hard links and bind mounts lead to the same lock.
    Other systems do not keep such a lock apart from SQLite's own, so there it is on a file beside the real one, and a
    hard link in another folder escapes it. Windows has none.

    Raises:
        StorageUnavailableError: Another server has the file.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = None
        # The database holds payloads and the secret that signs tokens, so a new one is for its owner only. SQLite gives
        # its log the same permissions.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        with _changing:
            require_free(path)
            descriptor = os.open(path, flags, 0o600)
            self._identity = _identity(os.fstat(descriptor))
            try:
                if sys.platform.startswith("linux"):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                elif sys.platform != "win32":
                    beside = os.open(f"{os.path.realpath(path)}.lock", flags, 0o600)
                    os.close(descriptor)
                    descriptor = beside
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise _taken(path) from None
            except BaseException:
                os.close(descriptor)
                raise
            _held.add(self._identity)
            self._descriptor = descriptor

    def release(self) -> None:
        """Let the file go. Only after SQLite has closed it. May be called again."""
        with _changing:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                _held.discard(self._identity)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _taken(path: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"the database file {path!r} is in use by another server, perhaps under another name. "
        "Stop it, or name another file"
    )
