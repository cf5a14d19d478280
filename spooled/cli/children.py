"""Processes that a supervisor starts: they get its signals through a pipe, and notice when it is gone."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spooled._interpreter import interpreter_options
from spooled.cli.supervised import VARIABLE


class Child:
    """One process. The program that it runs calls `supervised.adopt()`.

    A signal goes through the pipe instead of `kill`: a terminal and most process managers signal supervisor and
    children together, and a child can tell the same request from a second one only when the ways differ.

    Args:
        command: The program and its arguments.
        ended: Called once in a thread, with this child, when it has ended.
        message: What the program finds in `adopt().message`.
        environment: All of its environment. Default: that of this process.
        options: Further arguments of `subprocess.Popen`.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        ended: Callable[[Child], None],
        *,
        message: bytes = b"",
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._ended = ended
        self._started = time.monotonic()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._outbox.put(len(message).to_bytes(8, "big") + message)
        theirs, ours = os.pipe()
        self._pipe = _Pipe(ours)
        try:
            self.process: subprocess.Popen[Any] = subprocess.Popen(  # noqa: S603 - the caller's own
                command,
                env={**(os.environ if environment is None else environment), VARIABLE: str(theirs)},
                pass_fds=[theirs],
                **options,
            )
        except BaseException:
            self._pipe.close()
            raise
        finally:
            os.close(theirs)
        for target in (self._write, self._wait):
            threading.Thread(target=target, name=f"spooled-child-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    @property
    def lifetime(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    @property
    def exit_code(self) -> int:
        """How it has ended, as a shell tells it: 128 and the number of the signal that ended it."""
        code = self.process.wait()
        return code if code >= 0 else 128 - code

    def exit_code_after(self, signals: Sequence[int]) -> int:
        """Return the exit code of an end that these signals have asked for.

        One that the first of them has ended before it could handle signals has done nothing yet, so it ended well.
        """
        return 0 if [128 + number for number in signals] == [self.exit_code] else self.exit_code

    def pass_on(self, number: int) -> None:
        """Have it act as if it had got this signal."""
        self._outbox.put(bytes([number]))

    def stop(self) -> None:
        """Ask it to finish; a second time, to hurry."""
        self.pass_on(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def _write(self) -> None:
        with self._pipe, contextlib.suppress(BrokenPipeError):
            while data := self._outbox.get():
                self._pipe.write(data)

    def _wait(self) -> None:
        self.process.wait()
        self._outbox.put(None)
        self._ended(self)


def python_command(module: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a module as this Python was started: with its options, not its arguments.

    Args:
        module: As for `python -m`.
        arguments: The module's own.
        options: Further ones of Python's.
    """
    return [sys.executable, *interpreter_options(), *options, "-m", module, *arguments]


class _Pipe:
    """The end of a pipe that is written, which no forked process keeps open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _pipes.add(self)

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.close()


_pipes: weakref.WeakSet[_Pipe] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pipe in list(_pipes):
        pipe.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
