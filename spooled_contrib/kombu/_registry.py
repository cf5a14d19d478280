"""The managers of this process, one for each server, shared by whoever uses it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._connection_manager import ConnectionManager
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._threads import Outcome
from spooled_contrib.kombu._url import Address

Process = tuple[int, str | None]
"""Its number, and what has put greenlets in the place of its threads. With another one, locks and threads are void."""


class Share:
    """One user's share of a manager.

    After a fork, and after gevent or eventlet has patched this process, the user gets another manager.

    Args:
        address: Tells the server; asked when the manager is first wanted.
    """

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address
        self._held: tuple[Process, Address, ConnectionManager] | None = None

    @property
    def manager(self) -> ConnectionManager:
        """The manager of this process."""
        process = _process()
        held = self._held
        if held is not None and held[0] == process:
            return held[2]
        address = self._address()
        manager = _acquire(process, address)
        with _lock:
            known, first = held, self._held is held
            if first:
                self._held = process, address, manager
        if not first:
            # Another thread, or greenlet, of this user was faster, and got the same one.
            _count_down(process, address)
        elif known is not None and known[0][0] == process[0]:
            known[2].thread.abandon()
        return manager

    def release(self) -> None:
        """Hand in what is to be settled. The last user ends the manager; a user may come back."""
        held, self._held = self._held, None
        if held is not None and held[0] == _process():
            _release(*held[:2])


@dataclass(slots=True)
class _Entry:
    users: int = 0
    made: Outcome[ConnectionManager] = field(default_factory=_threads.new_outcome)


# Made before any monkey patch, or after it. So it is never held while anything waits or a greenlet may switch.
_lock = threading.Lock()
_managers: dict[tuple[int, str | None, Address], _Entry] = {}


def _process() -> Process:
    return os.getpid(), _threads.patched_by()


def _acquire(process: Process, address: Address) -> ConnectionManager:
    """Return the manager of this process for that server; made when it is first wanted."""
    key = (*process, address)
    with _lock:
        entry = _managers.setdefault(key, _Entry())
        entry.users += 1
        first = entry.users == 1
    if first:
        try:
            entry.made.set_result(ConnectionManager(address))
        except BaseException as error:
            with _lock:
                _managers.pop(key, None)
            entry.made.set_exception(error)
    return entry.made.result()


def _release(process: Process, address: Address) -> None:
    """One user less; the last one ends the manager."""
    manager, last = _count_down(process, address)
    if last:
        manager.stop()
    else:
        manager.flush()


def _count_down(process: Process, address: Address) -> tuple[ConnectionManager, bool]:
    key = (*process, address)
    with _lock:
        entry = _managers[key]
        entry.users -= 1
        last = not entry.users
        if last:
            del _managers[key]
    return entry.made.result(), last


def find(tag: str) -> tuple[ConnectionManager, Delivery] | None:
    """Return the message with that delivery tag, if this process holds it."""
    for manager in _ours():
        delivery = manager.held(tag)
        if delivery is not None:
            return manager, delivery
    return None


def find_rejected(task_id: str) -> tuple[ConnectionManager, Delivery] | None:
    """The message of that task that this process has rejected, and that still waits for a result."""
    for manager in _ours():
        delivery = manager.rejected(task_id)
        if delivery is not None:
            return manager, delivery
    return None


def keys_in_use() -> list[str]:
    """Return the API keys of the servers that this process uses."""
    return [manager.api_key for manager in _ours() if manager.api_key]


def _ours() -> Iterator[ConnectionManager]:
    process = _process()
    for (*made_in, _), entry in list(_managers.items()):
        if tuple(made_in) == process and entry.made.done():
            yield entry.made.result()


@atexit.register
def _stop_all() -> None:
    for manager in list(_ours()):
        manager.stop_at_exit()


def _after_fork() -> None:
    # The parent's threads are not here, and its locks may be held by one of them.
    global _lock
    _lock = threading.Lock()
    _managers.clear()


os.register_at_fork(after_in_child=_after_fork)
