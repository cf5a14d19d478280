"""Restarts a command when Python files change: for development, never needed in production."""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from spooled.cli.failure import CommandError, Exit
from spooled.cli.signals import heard

logger = logging.getLogger("spooled.cli")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
"""Folders that are not looked into, besides hidden ones."""


@dataclass(frozen=True, slots=True)
class _Changed:
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Ended:
    child: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class _Blind:
    """Files are not watched any more."""

    error: Exception


_Event = _Changed | _Ended | _Blind | int
"""A number is a signal."""


def run(command: Sequence[str], folders: Sequence[Path]) -> int:
    """Run the command, and again whenever a *.py file below the folders changes.

    The running one gets SIGTERM and all the time that it wants to finish. One that ends by itself with an error is
    started again after the next change; one that ends well ends this. Signals are passed on.

    Returns:
        The command's exit code.

    Raises:
        CommandError: The package `watchfiles` is not installed, or the folders cannot be watched.
    """
    try:
        import watchfiles
    except ModuleNotFoundError:
        raise CommandError(
            '--reload needs the extra `reload`: pip install "spooled-contrib[reload]"', Exit.USAGE
        ) from None
    # As the changes are told: without links.
    folders = [folder.resolve() for folder in folders]
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    over = threading.Event()

    def watch() -> None:
        # The whole time, so that what changes while a child is being replaced is not missed.
        try:
            for changes in watchfiles.watch(
                *folders,
                watch_filter=lambda _, path: _matters(path, folders),
                stop_event=over,
                raise_interrupt=False,
                debounce=300,
            ):
                events.put(_Changed(tuple(sorted(path for _, path in changes))))
        except Exception as error:
            events.put(_Blind(error))

    watcher = threading.Thread(target=watch, name="spooled-reload", daemon=True)
    watcher.start()
    try:
        with heard(_SIGNALS, events.put):
            return _Supervisor(command, events).run()
    finally:
        over.set()


class _Supervisor:
    def __init__(self, command: Sequence[str], events: queue.SimpleQueue[_Event]) -> None:
        self._command = command
        self._events = events
        self._child: subprocess.Popen[bytes] | None = None
        self._replace = False
        self._blind: Exception | None = None
        self._signals = 0

    def run(self) -> int:
        self._start()
        while True:
            event = self._events.get()
            code: int | None = None
            if isinstance(event, _Changed):
                self._changed(event.paths)
            elif isinstance(event, _Ended):
                code = self._ended(event.child)
            elif isinstance(event, _Blind):
                self._gone_blind(event.error)
            else:
                code = self._signalled(event)
            if code is not None:
                return code

    def _start(self) -> None:
        self._replace = False
        child = subprocess.Popen(self._command)  # noqa: S603 - the user's own command line
        self._child = child

        def wait() -> None:
            child.wait()
            self._events.put(_Ended(child))

        threading.Thread(target=wait, name="spooled-child", daemon=True).start()

    def _changed(self, paths: tuple[str, ...]) -> None:
        if self._signals or self._blind:
            return
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        what = f"{_shown(paths[0])}{more} changed"
        if self._child is None:
            logger.info("%s: starting the worker", what)
            self._start()
        elif not self._replace:
            logger.info("%s: restarting the worker when its jobs are finished", what)
            self._replace = True
            self._child.terminate()

    def _ended(self, child: subprocess.Popen[bytes]) -> int | None:
        self._child = None
        code = child.returncode
        if self._blind is not None:
            self._give_up(self._blind)
        if self._signals or (code == 0 and not self._replace):
            return code if code >= 0 else 128 - code
        if self._replace:
            self._start()
        else:
            logger.error("the worker has ended (exit code %d); it is started again when a file changes", code)
        return None

    def _gone_blind(self, error: Exception) -> None:
        """To go on would look as if changes were heeded."""
        self._blind = error
        if self._child is None:
            self._give_up(error)
        else:
            self._child.terminate()

    def _give_up(self, error: Exception) -> NoReturn:
        raise CommandError(
            f"cannot watch for changes: {error}; watch fewer folders, or set WATCHFILES_FORCE_POLLING=true"
        ) from error

    def _signalled(self, number: int) -> int | None:
        self._signals += 1
        if self._child is None:
            return 128 + number
        self._child.send_signal(number)
        return None


def _matters(path: str, folders: Sequence[Path]) -> bool:
    if not path.endswith(".py"):
        return False
    where = Path(path)
    for folder in folders:
        try:
            inside = where.relative_to(folder).parts
        except ValueError:
            continue
        if not any(part in _SKIPPED or part.startswith(".") for part in inside):
            return True
    return False


def _shown(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
