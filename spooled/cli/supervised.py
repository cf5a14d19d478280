"""The child's end of the pipe between a supervisor and a process that it started.

The pipe begins with a message (its length in eight bytes, then the message); after it, each byte is a signal that the
supervisor passes on. Its end means that the supervisor is gone, however it ended. Processes that the child forks may
inherit the end that is read, which changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger("spooled.cli")

VARIABLE = "SPOOLED_SUPERVISOR_FD"
"""Names the descriptor of the pipe to a child. The child takes it out of its environment before it does anything
else, so that what the child starts is not taken for a child of the supervisor."""


class Supervisor:
    """The supervisor of this process, as the process sees it.

    Attributes:
        message: What the supervisor sent at the start.
        gone: Whether it has ended.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._listener: Callable[[int], None] | None = None
        self.gone = False
        os.set_inheritable(descriptor, False)
        self.message = self._read_exactly(int.from_bytes(self._read_exactly(8), "big"))
        threading.Thread(target=self._follow, name="spooled-supervisor", daemon=True).start()

    @contextlib.contextmanager
    def listening(self, listener: Callable[[int], None]) -> Iterator[None]:
        """Call `listener` for each signal that is passed on; outside of such a block this process gets it itself."""
        with self._lock:
            before, self._listener = self._listener, listener
        try:
            yield
        finally:
            with self._lock:
                self._listener = before

    def close(self) -> None:
        """Close the descriptor."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _follow(self) -> None:
        passed_on = False
        while data := os.read(self._descriptor, 64):
            passed_on = True
            for number in data:
                self._pass_on(number)
        self.gone = True
        # One that was told to stop has been told so already, and a second time would mean at once.
        if not passed_on:
            logger.warning("the process that supervises this one is gone: stopping")
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        with self._lock:
            listener = self._listener
        if listener is None:
            os.kill(os.getpid(), number)
        else:
            listener(number)

    def _read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(self._descriptor, size - len(data))
            if not more:
                # There has never been anything to do for anybody.
                sys.exit(128 + signal.SIGTERM)
            data += more
        return data


_supervisor: Supervisor | None = None


def adopt() -> Supervisor | None:
    """Return the supervisor that started this process, or None.

    To be called by a program that may be started as a child, before it runs any code of the user's.
    """
    global _supervisor
    text = os.environ.pop(VARIABLE, "")
    if text.isdecimal():
        try:
            _supervisor = Supervisor(int(text))
        except OSError as error:
            logger.warning(
                "%s=%s is no open descriptor (%s): this process does not notice the end of its supervisor",
                VARIABLE,
                text,
                error.strerror,
            )
    return _supervisor


def current() -> Supervisor | None:
    """Return the supervisor that `adopt` found."""
    return _supervisor


def is_gone() -> bool:
    """Return whether there was a supervisor, and it has ended."""
    return _supervisor is not None and _supervisor.gone


def _after_fork_in_child() -> None:
    # Nothing in a forked process listens, and it may well supervise processes of its own.
    global _supervisor
    if _supervisor is not None:
        _supervisor.close()
        _supervisor = None


os.register_at_fork(after_in_child=_after_fork_in_child)
