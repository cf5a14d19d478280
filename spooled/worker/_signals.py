"""Signal handlers that end with a block, and that processes forked meanwhile do not inherit."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class _Installed:
    """The handlers of one block: the dispositions before it, and what else a forked child has to undo."""

    def __init__(self, numbers: Collection[int], forget: Callable[[], None] | None) -> None:
        self.before = {number: signal.getsignal(number) for number in numbers}
        self.forget = forget

    def restore(self) -> None:
        for number, handler in self.before.items():
            # None is a handler that was not installed from Python, which Python cannot put back.
            if handler is not None:
                signal.signal(number, handler)


_installed: list[_Installed] = []
"""The blocks that this process is in, the outermost first."""


@contextlib.contextmanager
def signal_handlers(
    numbers: Collection[int], handler: Handler, *, forget: Callable[[], None] | None = None
) -> Iterator[None]:
    """Handle signals with `handler`, and put back the dispositions from before at the end of the block.

    A child process that is forked inside of the block (`os.fork`, `multiprocessing`, `ProcessPoolExecutor`) begins
    with the dispositions from before the block, and leaving the block there changes nothing.

    Args:
        numbers: The signals.
        handler: Called in the main thread, as `signal.signal` says.
        forget: Called in each forked child, to close what it has inherited from the block.

    Raises:
        ValueError: The caller is not in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals can be handled in the main thread only; call this there")
    installed = _Installed(numbers, forget)
    _installed.append(installed)
    try:
        for number in installed.before:
            signal.signal(number, handler)
        yield
    finally:
        # Not so in a forked child, which may have handlers of its own by now.
        if installed in _installed:
            installed.restore()
            _installed.remove(installed)


_masks = threading.local()


def _before_fork() -> None:
    # Until a child has its dispositions back, the C part of our handlers would write to the parent's sockets there.
    numbers = {number for installed in _installed for number in installed.before}
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers) if numbers else None


def _after_fork_in_parent() -> None:
    if _masks.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _after_fork_in_child() -> None:
    while _installed:
        installed = _installed.pop()
        installed.restore()
        if installed.forget is not None:
            installed.forget()
    _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
