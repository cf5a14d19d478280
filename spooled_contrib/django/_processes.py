"""`--processes N`: the same command several times, started again when one dies."""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from spooled.cli.signals import heard

logger = logging.getLogger("spooled.django")

SHORT_LIFE = 5.0
"""Seconds. A child that lives shorter than this is started again with a delay that grows."""

LONGEST_DELAY = 30.0


@dataclass(frozen=True, slots=True)
class _Ended:
    number: int
    child: subprocess.Popen[bytes]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Due:
    number: int


def run(command: Sequence[str], count: int) -> int:
    """Run the command `count` times, until all have ended well or a signal has stopped them.

    A child that ends with an error is started again: at once when it had lived for a while, else after a delay that
    doubles. Signals are passed on.

    Returns:
        0 when all ended well, else the exit code of the one that did not.
    """
    events: queue.SimpleQueue[_Ended | _Due | int] = queue.SimpleQueue()
    with heard((signal.SIGINT, signal.SIGTERM), events.put):
        return _Supervisor(command, count, events).run()


class _Supervisor:
    def __init__(
        self, command: Sequence[str], count: int, events: queue.SimpleQueue[_Ended | _Due | int]
    ) -> None:
        self._command = command
        self._events = events
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._waiting: set[int] = set(range(count))
        self._delays = [0.0] * count
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        for number in sorted(self._waiting):
            self._start(number)
        while self._children or self._waiting:
            event = self._events.get()
            if isinstance(event, _Due):
                if not self._stopping:
                    self._start(event.number)
            elif isinstance(event, _Ended):
                self._ended(event)
            else:
                self._signalled(event)
        return self._code

    def _start(self, number: int) -> None:
        self._waiting.discard(number)
        begun = time.monotonic()
        child = subprocess.Popen(self._command)  # noqa: S603 - the user's own command line
        self._children[number] = child

        def wait() -> None:
            child.wait()
            self._events.put(_Ended(number, child, time.monotonic() - begun))

        threading.Thread(target=wait, name=f"spooled-child-{number}", daemon=True).start()

    def _ended(self, event: _Ended) -> None:
        del self._children[event.number]
        code = event.child.returncode
        if code == 0 or self._stopping:
            self._code = self._code or (code if code >= 0 else 128 - code)
            return
        delay = self._delays[event.number]
        self._delays[event.number] = (
            min(LONGEST_DELAY, 2 * delay or 0.5) if event.seconds < SHORT_LIFE else 0.0
        )
        logger.error(
            "worker process %d has ended with exit code %d; starting it again%s",
            event.child.pid,
            code,
            f" in {delay:g} s" if delay else "",
        )
        self._waiting.add(event.number)
        timer = threading.Timer(delay, self._events.put, [_Due(event.number)])
        timer.daemon = True
        timer.start()

    def _signalled(self, number: int) -> None:
        self._stopping = True
        self._waiting.clear()
        for child in self._children.values():
            child.send_signal(number)
