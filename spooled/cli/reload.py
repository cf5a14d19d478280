"""Restarts a command when Python files change: for development, never needed in production."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from spooled.cli.children import Child
from spooled.cli.failure import CommandError, Exit
from spooled.cli.signals import listen_for_signals, stop_signals

logger = logging.getLogger("spooled.cli")

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
"""Folders that are not looked into, besides hidden ones."""


@dataclass(frozen=True, slots=True)
class _Changed:
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Ended:
    child: Child


@dataclass(frozen=True, slots=True)
class _WatchFailed:
    """Files are not watched any more."""

    error: Exception


_Event = _Changed | _Ended | _WatchFailed | int
"""A number is a signal."""

Launch = Callable[[Callable[[Child], None]], Child]
"""Starts a child; takes what is to be called when that has ended."""


def run(launch: Launch, folders: Sequence[Path]) -> int:
    """Run a child, and another one whenever a *.py file below the folders changes.

    The running one is asked to stop and has all the time that it wants to finish. One that ends by itself with an
    error is replaced after the next change; one that ends well ends this. Signals are passed on; a third one kills
    the child. When this process dies, the child stops by itself.

    Returns:
        The child's exit code.

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
            events.put(_WatchFailed(error))

    watcher = threading.Thread(target=watch, name="spooled-reload", daemon=True)
    watcher.start()
    try:
        with listen_for_signals(stop_signals(), events.put):
            return _Supervisor(launch, events).run()
    finally:
        over.set()


class _Supervisor:
    def __init__(self, launch: Launch, events: queue.SimpleQueue[_Event]) -> None:
        self._launch = launch
        self._events = events
        self._child: Child | None = None
        self._replace = False
        self._blind: Exception | None = None
        self._signals: list[int] = []

    def run(self) -> int:
        self._start()
        while True:
            event = self._events.get()
            code: int | None = None
            if isinstance(event, _Changed):
                self._changed(event.paths)
            elif isinstance(event, _Ended):
                code = self._ended(event.child)
            elif isinstance(event, _WatchFailed):
                self._gone_blind(event.error)
            else:
                code = self._signalled(event)
            if code is not None:
                return code

    def _start(self) -> None:
        self._replace = False
        self._child = self._launch(lambda child: self._events.put(_Ended(child)))

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
            self._child.stop()

    def _ended(self, child: Child) -> int | None:
        self._child = None
        code = child.process.returncode
        if self._blind is not None:
            self._give_up(self._blind)
        if self._signals or (code == 0 and not self._replace):
            return child.exit_code_after(self._signals)
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
            self._child.stop()

    def _give_up(self, error: Exception) -> NoReturn:
        raise CommandError(
            f"cannot watch for changes: {error}; watch fewer folders, or set WATCHFILES_FORCE_POLLING=true"
        ) from error

    def _signalled(self, number: int) -> int | None:
        self._signals.append(number)
        if self._child is None:
            return 128 + number
        if len(self._signals) > 2:
            self._child.kill()
        elif len(self._signals) > 1 or not (self._replace or self._blind):
            # One that is to be replaced is finishing already, and a second signal would cut its jobs off.
            self._child.pass_on(number)
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
