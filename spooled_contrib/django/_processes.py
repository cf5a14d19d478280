"""`--processes N`: the same command several times, started again when one dies."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from spooled.cli.children import Child
from spooled.cli.signals import listen_for_signals, stop_signals

logger = logging.getLogger("spooled.django")

SHORT_LIFE = 5.0
"""Seconds. A child that lives shorter than this is started again with a delay that grows."""

LONGEST_DELAY = 30.0


@dataclass(frozen=True, slots=True)
class _Ended:
    number: int
    child: Child
    seconds: float


@dataclass(frozen=True, slots=True)
class _Due:
    number: int


Launch = Callable[[Callable[[Child], None]], Child]
"""Starts a child; takes what is to be called when that has ended."""


def run(launch: Launch, count: int) -> int:
    """Keep `count` children running, until all have ended well or a signal has stopped them.

    A child that ends with an error is started again: at once when it had lived for a while, else after a delay that
    doubles. Signals are passed on; a third one kills the children. When this process dies, they stop by themselves.

    Returns:
        0 when all ended well, else the exit code of the one that did not.
    """
    events: queue.SimpleQueue[_Ended | _Due | int] = queue.SimpleQueue()
    with listen_for_signals(stop_signals(), events.put):
        return _Supervisor(launch, count, events).run()


class _Supervisor:
    def __init__(self, launch: Launch, count: int, events: queue.SimpleQueue[_Ended | _Due | int]) -> None:
        self._launch = launch
        self._events = events
        self._children: dict[int, Child] = {}
        self._waiting: set[int] = set(range(count))
        self._delays = [0.0] * count
        self._signals: list[int] = []
        self._code = 0

    def run(self) -> int:
        for number in sorted(self._waiting):
            self._start(number)
        while self._children or self._waiting:
            event = self._events.get()
            if isinstance(event, _Due):
                if not self._signals:
                    self._start(event.number)
            elif isinstance(event, _Ended):
                self._ended(event)
            else:
                self._signalled(event)
        return self._code

    def _start(self, number: int) -> None:
        self._waiting.discard(number)
        try:
            self._children[number] = self._launch(
                lambda child: self._events.put(_Ended(number, child, child.lifetime))
            )
        except OSError as error:
            self._start_later(number, 0.0, f"a worker process cannot be started: {error}; trying again")

    def _ended(self, event: _Ended) -> None:
        del self._children[event.number]
        code = event.child.process.returncode
        if code == 0 or self._signals:
            self._code = self._code or event.child.exit_code_after(self._signals)
            return
        what = f"worker process {event.child.pid} has ended with exit code {code}; starting it again"
        self._start_later(event.number, event.seconds, what)

    def _start_later(self, number: int, lived: float, what: str) -> None:
        delay = self._delays[number]
        self._delays[number] = min(LONGEST_DELAY, 2 * delay or 0.5) if lived < SHORT_LIFE else 0.0
        logger.error("%s%s", what, f" in {delay:g} s" if delay else "")
        self._waiting.add(number)
        timer = threading.Timer(delay, self._events.put, [_Due(number)])
        timer.daemon = True
        timer.start()

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        self._waiting.clear()
        for child in self._children.values():
            if len(self._signals) > 2:
                child.kill()
            else:
                child.pass_on(number)
