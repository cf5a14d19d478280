"""Hears signals even while the main thread waits."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import FrameType

from spooled.cli import supervised
from spooled.worker._signals import signal_handlers

_FROM_PYTHON = 0x80


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a process to end: SIGINT, SIGTERM, and SIGHUP unless `nohup` has it ignored."""
    hung_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hung_up else []))


@contextlib.contextmanager
def listen_for_signals(numbers: Collection[int], report: Callable[[int], None]) -> Iterator[None]:
    """Call `report` in a thread of its own for each of these signals, instead of what they did before.

    Python runs signal handlers in the main thread only, and the kernel may give a signal to any thread: when that
    is another one while the main thread waits for a lock, the handler runs when the wait is over, which may be
    never. The wake-up descriptor is written at once, whichever thread it was. The handler reports as well, because
    an event loop of the user's may take the descriptor for itself. A supervisor passes signals on through its pipe. A
    signal is reported once, whichever ways it comes.

    Child processes that are forked meanwhile have no part in it: for them, signals do what they did before.
    """
    tally = _Tally(numbers, report)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    descriptor = -1

    def handler(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            sender.send(bytes([number | _FROM_PYTHON]))

    def forget() -> None:
        current = signal.set_wakeup_fd(-1)
        if current != -1:
            # An event loop of the user's may have put its own there.
            signal.set_wakeup_fd(descriptor if current == sender.fileno() else current)
        # Only closed: a shutdown would end the parent's as well.
        sender.close()
        receiver.close()

    listener = threading.Thread(target=_listen, args=(receiver, tally), name="spooled-signals", daemon=True)
    listener.start()
    supervisor = supervised.current()
    passed_on = (
        supervisor.listening(partial(tally.count, "supervisor")) if supervisor else contextlib.nullcontext()
    )
    try:
        with passed_on, signal_handlers(numbers, handler, forget=forget):
            descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                # In a forked child the socket is closed, and the descriptor as it was.
                if sender.fileno() != -1:
                    signal.set_wakeup_fd(descriptor)
    finally:
        if sender.fileno() != -1:
            # Closing would not be enough to end the listener, were a copy of the socket open in a child.
            sender.shutdown(socket.SHUT_RDWR)
            listener.join()
            sender.close()
            receiver.close()


class _Tally:
    """Reports a signal when any way has told of one more than has been reported.

    They are counted together, whichever they are: a supervisor that is told to stop by Ctrl-C may be one that passes
    on a SIGTERM, and each way tells of every signal at most once.
    """

    def __init__(self, numbers: Collection[int], report: Callable[[int], None]) -> None:
        self._numbers = numbers
        self._report = report
        self._lock = threading.Lock()
        self._reported = 0
        self._told: Counter[str] = Counter()

    def count(self, way: str, number: int) -> None:
        if number not in self._numbers:
            return
        with self._lock:
            self._told[way] += 1
            if self._told[way] <= self._reported:
                return
            self._reported += 1
        self._report(number)


def _listen(receiver: socket.socket, tally: _Tally) -> None:
    while data := receiver.recv(64):
        for byte in data:
            tally.count("handler" if byte & _FROM_PYTHON else "descriptor", byte & ~_FROM_PYTHON)
