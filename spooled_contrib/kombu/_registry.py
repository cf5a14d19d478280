"""The couriers of this process, one for each server, shared by whoever uses it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._courier import Courier
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._threads import Outcome
from spooled_contrib.kombu._url import Address

Process = tuple[int, str | None]
"""Its number, and what has put greenlets in the place of its threads. With another one, locks and threads are void."""


class Share:
    """One user's share of a courier.

    After a fork, and after gevent or eventlet has patched this process, the user gets another courier.

    Args:
        address: Tells the server; asked when the courier is first wanted.
    """

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address
        self._held: tuple[Process, Address, Courier] | None = None

    @property
    def courier(self) -> Courier:
        """The courier of this process."""
        process = _process()
        held = self._held
        if held is not None and held[0] == process:
            return held[2]
        address = self._address()
        courier = _acquire(process, address)
        with _lock:
            known, first = held, self._held is held
            if first:
                self._held = process, address, courier
        if not first:
            # Another thread, or greenlet, of this user was faster, and got the same one.
            _count_down(process, address)
        elif known is not None and known[0][0] == process[0]:
            known[2].abandon()
        return courier

    def let_go(self) -> None:
        """Hand in what is to be settled. The last user ends the courier; a user may come back."""
        held, self._held = self._held, None
        if held is not None and held[0] == _process():
            _release(*held[:2])


@dataclass(slots=True)
class _Entry:
    users: int = 0
    made: Outcome[Courier] = field(default_factory=_threads.new_outcome)


# Made before any monkey patch, or after it. So it is never held while anything waits or a greenlet may switch.
_lock = threading.Lock()
_couriers: dict[tuple[int, str | None, Address], _Entry] = {}


def _process() -> Process:
    return os.getpid(), _threads.patched_by()


def _acquire(process: Process, address: Address) -> Courier:
    """The courier of this process for that server; made when it is first wanted."""
    key = (*process, address)
    with _lock:
        entry = _couriers.setdefault(key, _Entry())
        entry.users += 1
        first = entry.users == 1
    if first:
        try:
            entry.made.set_result(Courier(address))
        except BaseException as error:
            with _lock:
                _couriers.pop(key, None)
            entry.made.set_exception(error)
    return entry.made.result()


def _release(process: Process, address: Address) -> None:
    """One user less; the last one ends the courier."""
    courier, last = _count_down(process, address)
    if last:
        courier.stop()
    else:
        courier.flush()


def _count_down(process: Process, address: Address) -> tuple[Courier, bool]:
    key = (*process, address)
    with _lock:
        entry = _couriers[key]
        entry.users -= 1
        last = not entry.users
        if last:
            del _couriers[key]
    return entry.made.result(), last


def find(tag: str) -> tuple[Courier, Delivery] | None:
    """The message with that delivery tag, if this process holds it."""
    for courier in _ours():
        delivery = courier.held(tag)
        if delivery is not None:
            return courier, delivery
    return None


def find_rejected(task_id: str) -> tuple[Courier, Delivery] | None:
    """The message of that task that this process has rejected, and that still waits for a result."""
    for courier in _ours():
        delivery = courier.rejected(task_id)
        if delivery is not None:
            return courier, delivery
    return None


def keys_in_use() -> list[str]:
    """The API keys of the servers that this process uses."""
    return [courier.api_key for courier in _ours() if courier.api_key]


def _ours() -> Iterator[Courier]:
    process = _process()
    for (*made_in, _), entry in list(_couriers.items()):
        if tuple(made_in) == process and entry.made.done():
            yield entry.made.result()


@atexit.register
def _stop_all() -> None:
    for courier in list(_ours()):
        courier.stop_at_exit()


def _after_fork() -> None:
    # The parent's threads are not here, and its locks may be held by one of them.
    global _lock
    _lock = threading.Lock()
    _couriers.clear()


os.register_at_fork(after_in_child=_after_fork)
