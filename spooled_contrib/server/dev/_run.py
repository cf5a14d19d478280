"""Runs a server, and children beside it, until the first of them ends or somebody says stop."""

from __future__ import annotations

import importlib.util
import logging
import os
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path

from spooled.cli.children import python_command
from spooled.cli.signals import listen_for_signals, stop_signals
from spooled_contrib.server import (
    AddressUnavailableError,
    EmbeddedServer,
    ServerConfigurationError,
    StorageUnavailableError,
)
from spooled_contrib.server.dev._children import Child
from spooled_contrib.server.dev._terminal import Terminal

CANNOT_SERVE = 1
SERVER = "server"

_Event = Child | int
"""A child that has ended, or a signal."""


def run_dev(
    *,
    targets: Sequence[str],
    commands: Sequence[Sequence[str]],
    port: int,
    db: str,
    reload: bool,
    folders: Sequence[Path],
) -> int:
    """Run everything; the exit code.

    Args:
        targets: Workers, each as for `spooled worker`.
        commands: Other programs, each with its arguments.
        port: Of the server; 0 picks a free one.
        db: The server's database file, or `:memory:`.
        reload: Restart workers when files change.
        folders: What to watch; none means the current one.
    """
    watching = reload and importlib.util.find_spec("watchfiles") is not None
    programs = {
        **{_name(target, targets): _worker(target, watching, folders) for target in targets},
        **{
            Path(words[0]).name if len(commands) == 1 else " ".join(words)[:20]: _attached(words)
            for words in commands
        },
    }
    terminal = Terminal([SERVER, *programs])
    server = EmbeddedServer(port=port, db=db)
    try:
        server.start()
    except (AddressUnavailableError, ServerConfigurationError, StorageUnavailableError) as error:
        terminal.tell(SERVER, str(error))
        return CANNOT_SERVE
    try:
        _introduce(server, terminal, db, lonely=not programs)
        if targets and reload and not watching:
            terminal.tell(
                SERVER, 'workers do not restart by themselves: pip install "spooled-contrib[reload]"'
            )
        return _Run(server, terminal).until_the_end(programs)
    finally:
        server.stop()


class _Run:
    def __init__(self, server: EmbeddedServer, terminal: Terminal) -> None:
        self._terminal = terminal
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._children: list[Child] = []
        self._signals = 0
        key = server.api_key
        self._environment = {
            **os.environ,
            "SPOOLED_BASE_URL": server.url,
            "SPOOLED_API_KEY": key,
            "CELERY_BROKER_URL": f"spooled+{server.url.replace('://', f'://:{key}@', 1)}",
            "PYTHONUNBUFFERED": "1",
        }
        logging.getLogger("spooled").addHandler(_LogLines(terminal))

    def until_the_end(self, programs: Mapping[str, Sequence[str]]) -> int:
        with listen_for_signals(stop_signals(), self._events.put):
            code = self._start(programs)
            while code is None or self._children:
                event = self._events.get()
                code = self._ended(event, code) if isinstance(event, Child) else self._signalled(code)
        return code

    def _start(self, programs: Mapping[str, Sequence[str]]) -> int | None:
        for name, command in programs.items():
            try:
                child = Child(name, command, self._environment, self._terminal.tell, self._events.put)
            except OSError as error:
                self._terminal.tell(name, f"cannot run {command[0]}: {error.strerror}")
                self._stop_children()
                return 127
            self._children.append(child)
        return None

    def _ended(self, child: Child, code: int | None) -> int:
        self._children.remove(child)
        if code is None:
            code = child.exit_code
            others = "; stopping" if not self._children else "; stopping the others"
            self._terminal.tell(child.name, f"has ended by itself (exit code {code}){others}")
            self._stop_children()
        return code

    def _signalled(self, code: int | None) -> int:
        self._signals += 1
        if self._children:
            said = ("finishing what runs", "cutting off what runs", "killing what runs")
            self._terminal.tell(SERVER, f"{said[min(self._signals, 3) - 1]}, then stopping")
        if self._signals > 2:
            for child in self._children:
                child.kill()
        else:
            self._stop_children()
        return 0 if code is None else code

    def _stop_children(self) -> None:
        for child in self._children:
            child.stop()


class _LogLines(logging.Handler):
    """The server's own log, from warnings on."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._terminal.tell(SERVER, line)


def _introduce(server: EmbeddedServer, terminal: Terminal, db: str, *, lonely: bool) -> None:
    terminal.tell(SERVER, f"listening on {server.url}; open it in a browser to see the queues")
    terminal.tell(SERVER, "for other terminals:")
    terminal.tell(SERVER, f"  export SPOOLED_BASE_URL={server.url}")
    terminal.tell(SERVER, f"  export SPOOLED_API_KEY={server.api_key}")
    if db == ":memory:":
        terminal.tell(SERVER, "jobs are gone when this ends; --db FILE keeps them")
    if lonely:
        terminal.tell(SERVER, "run a worker here, too: spooled dev MODULE:WORKER")


def _name(target: str, targets: Sequence[str]) -> str:
    return "worker" if len(targets) == 1 else target


def _worker(target: str, watching: bool, folders: Sequence[Path]) -> list[str]:
    command = python_command("spooled", "worker", target)
    if watching:
        command.append("--reload")
        for folder in folders:
            command += ["--reload-dir", str(folder)]
    return command


def _attached(words: Sequence[str]) -> list[str]:
    """Return the command for any program, which does not know of us."""
    return python_command("spooled.cli.attached", *words)
