"""Copy the database of a server, running or not, to a file that a server can be started on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spooled_contrib.server._settings import is_postgres, without_password
from spooled_contrib.server._storage.database_file import open_to_look

PAGES_AT_ONCE = 2048
"""Pages copied between two looks at the progress."""

FAILED = 1
REFUSED = 2
INTERRUPTED = 130

_SIDE_FILES = ("-wal", "-journal", "-shm")

Progress = Callable[[int, int], None]


class BackupError(Exception):
    """There is no backup. The message is one line for a human.

    Args:
        code: The exit code that says so.
    """

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


@dataclass(frozen=True)
class Backup:
    """A backup that was made and found sound."""

    source: str
    target: str
    bytes: int
    jobs: int


def run(source: str, target: str, *, force: bool, as_json: bool) -> int:
    """Make a backup and report it; the exit code: 0 made, 1 failed, 2 the arguments are refused, 130 interrupted."""
    terminal = sys.stderr.isatty()
    try:
        with _stoppable():
            made = back_up(source, target, force=force, progress=_show if terminal else None)
    except BackupError as error:
        _say(str(error), terminal)
        return error.code
    except KeyboardInterrupt:
        _say("interrupted; there is no backup", terminal)
        return INTERRUPTED
    if as_json:
        line = {"event": "backup", "source": made.source, "target": made.target}
        print(json.dumps({**line, "bytes": made.bytes, "jobs": made.jobs}))  # noqa: T201
    _say(f"{made.jobs:,} jobs, {made.bytes:,} bytes in {made.target}; its structure was checked", terminal)
    return 0


def back_up(source: str, target: str, *, force: bool = False, progress: Progress | None = None) -> Backup:
    """Write what is committed in `source` at one moment to `target`, which is complete or not there.

    The server that uses the source goes on writing; its log cannot shrink until the copy is done.

    Args:
        source: The file of a server.
        target: A file that does not exist, unless `force` says that it may be replaced.
        progress: Told how many pages are left, and of how many.

    Raises:
        BackupError: It was not done.
    """
    if is_postgres(source):
        raise BackupError(
            f"{without_password(source)} is PostgreSQL, which has a tool of its own: "
            f"pg_dump --format=custom --file={target} URL, and pg_restore --clean --if-exists --dbname=URL FILE",
            code=REFUSED,
        )
    if source in ("", ":memory:"):
        raise BackupError(
            "jobs in memory cannot be backed up: name the server's file with --db", code=REFUSED
        )
    goal = Path(target)
    if not Path(source).is_file():
        raise BackupError(f"there is no database file {source!r}")
    _require_place(Path(source), goal, force=force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{goal.name}.", suffix=".part", dir=goal.parent)
        os.close(handle)  # made readable for its owner only, as the original is
    except OSError as error:
        raise BackupError(f"cannot write {target!r}: {error.strerror or error}") from error
    part = Path(name)
    try:
        jobs = _copy(source, part, progress)
        _put_in_place(part, goal, force=force)
        size = goal.stat().st_size
    except sqlite3.Error as error:
        raise BackupError(f"cannot back up {source!r} to {target!r}: {error}") from error
    except FileExistsError as error:
        raise _exists(goal) from error
    except OSError as error:
        raise BackupError(f"cannot write {target!r}: {error.strerror or error}") from error
    finally:
        for side in ("", *_SIDE_FILES):
            Path(f"{part}{side}").unlink(missing_ok=True)
    return Backup(source, target, size, jobs)


def _require_place(source: Path, target: Path, *, force: bool) -> None:
    try:
        if target.is_dir():
            raise BackupError(f"{str(target)!r} is a directory. Name a file", code=REFUSED)
        if not target.absolute().parent.is_dir():
            raise BackupError(f"the directory of {str(target)!r} does not exist")
        if target.exists() and target.samefile(source):
            raise BackupError("source and target are the same file", code=REFUSED)
        if target.exists() and not target.is_file():
            raise BackupError(f"{str(target)!r} is no regular file", code=REFUSED)
    except (OSError, ValueError) as error:
        raise BackupError(f"cannot write {str(target)!r}: {error}") from error
    if target.exists() and not force:
        raise _exists(target)
    for side in _SIDE_FILES:
        # SQLite would take such a file for a part of the backup; and it may be that a server uses the target.
        if Path(f"{target}{side}").exists():
            raise BackupError(
                f"{str(target) + side!r} exists: a database is or was in use there. Name another target"
            )


def _exists(target: Path) -> BackupError:
    return BackupError(f"{str(target)!r} exists. Name another file, or pass --force to replace it")


def _copy(source: str, part: Path, progress: Progress | None) -> int:
    """Copy, check the copy, and return how many jobs are in it."""
    with contextlib.closing(open_to_look(source)) as reading:
        # The copy is of the moment of this transaction, whatever is written meanwhile.
        reading.execute("BEGIN")
        try:
            (version,) = reading.execute("PRAGMA user_version").fetchone()
            (jobs,) = reading.execute("SELECT COUNT(*) FROM jobs").fetchone()
        except sqlite3.OperationalError as error:
            raise BackupError(f"{source!r} is not the database of a server: {error}") from error
        if version == 0:
            raise BackupError(f"{source!r} is not the database of a server")
        told = None if progress is None else lambda _, left, total: progress(left, total)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as writing:
            reading.backup(writing, pages=PAGES_AT_ONCE, progress=told, sleep=0)
            # One file, with nothing beside it. A server that is started on it goes back to a log.
            writing.execute("PRAGMA journal_mode = DELETE").fetchone()
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copied:
        (found,) = copied.execute("PRAGMA integrity_check(1)").fetchone()
        (copied_jobs,) = copied.execute("SELECT COUNT(*) FROM jobs").fetchone()
    if found != "ok" or copied_jobs != jobs:
        what = found if found != "ok" else f"{copied_jobs} of {jobs} jobs"
        raise BackupError(f"{source!r} is damaged, and so would be its backup: {what}")
    return int(jobs)


def _put_in_place(part: Path, target: Path, *, force: bool) -> None:
    """Give the finished copy its name, once it is on the disk."""
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    if force:
        part.replace(target)
    else:
        try:
            # Unlike a rename, this replaces nothing that has appeared meanwhile.
            target.hardlink_to(part)
        except FileExistsError:
            raise
        except OSError:
            part.rename(target)  # a file system without links
    if sys.platform != "win32":
        directory = os.open(target.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, so that nothing half done is left."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(left: int, total: int) -> None:
    done = 100 if not total else (total - left) * 100 // total
    print(f"\rspooled server backup: {done} %", end="", file=sys.stderr, flush=True)  # noqa: T201


def _say(message: str, terminal: bool) -> None:
    # The line with the progress is written over.
    start, end = ("\r", "\033[K") if terminal else ("", "")
    print(f"{start}spooled server backup: {message}{end}", file=sys.stderr, flush=True)  # noqa: T201
