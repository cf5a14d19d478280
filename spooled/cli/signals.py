"""Hears signals even while the main thread waits."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from types import FrameType

from spooled.worker._signals import signal_handlers

_FROM_PYTHON = 0x80


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a process to end: SIGINT, SIGTERM, and SIGHUP unless `nohup` has it ignored."""
    hung_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hung_up else []))


@contextlib.contextmanager
def heard(numbers: Collection[int], report: Callable[[int], None]) -> Iterator[None]:
    """Call `report` in a thread of its own for each of these signals, instead of what they did before.

    Python runs signal handlers in the main thread only, and the kernel may give a signal to any thread: when that
    is another one while the main thread waits for a lock, the handler runs when the wait is over, which may be
    never. The wake-up descriptor is written at once, whichever thread it was. The handler reports as well, because
    an event loop of the user's may take the descriptor for itself.

    Child processes that are forked meanwhile have no part in it: for them, signals do what they did before.
    """
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

    listener = threading.Thread(
        target=_listen, args=(receiver, numbers, report), name="spooled-signals", daemon=True
    )
    listener.start()
    try:
        with signal_handlers(numbers, handler, forget=forget):
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


def _listen(receiver: socket.socket, numbers: Collection[int], report: Callable[[int], None]) -> None:
    """Report what either way has told once more than has been reported."""
    told: Counter[int] = Counter()
    ways: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    while data := receiver.recv(64):
        for byte in data:
            number, way = byte & ~_FROM_PYTHON, ways[byte >= _FROM_PYTHON]
            way[number] += 1
            if number in numbers and way[number] > told[number]:
                told[number] += 1
                report(number)
