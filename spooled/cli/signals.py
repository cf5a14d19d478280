"""Hears signals even while the main thread waits."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from types import FrameType

_FROM_PYTHON = 0x80


@contextlib.contextmanager
def heard(numbers: Collection[int], report: Callable[[int], None]) -> Iterator[None]:
    """Call `report` in a thread of its own for each of these signals, instead of what they did before.

    Python runs signal handlers in the main thread only, and the kernel may give a signal to any thread: when that
    is another one while the main thread waits for a lock, the handler runs when the wait is over, which may be
    never. The wake-up descriptor is written at once, whichever thread it was. The handler reports as well, because
    an event loop of the user's may take the descriptor for itself.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def handler(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            sender.send(bytes([number | _FROM_PYTHON]))

    listener = threading.Thread(
        target=_listen, args=(receiver, numbers, report), name="spooled-signals", daemon=True
    )
    listener.start()
    before = {number: signal.signal(number, handler) for number in numbers}
    descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, previous in before.items():
            signal.signal(number, previous)
        sender.close()
        listener.join()
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
