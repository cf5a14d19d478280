"""The couriers of this process, one for each server, shared by whoever uses it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

from spooled_contrib.kombu._courier import Courier
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._url import Address


class Share:
    """One user's share of a courier. After a fork, the child gets a courier of its own.

    Args:
        address: Tells the server; asked when the courier is first wanted.
    """

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address
        self._held: tuple[int, Address, Courier] | None = None

    @property
    def courier(self) -> Courier:
        """The courier of this process."""
        held = self._held
        if held is None or held[0] != os.getpid():
            address = self._address()
            held = self._held = (os.getpid(), address, _acquire(address))
        return held[2]

    def let_go(self) -> None:
        """Hand in what is to be settled. The last user ends the courier; a user may come back."""
        held, self._held = self._held, None
        if held is not None and held[0] == os.getpid():
            _release(held[1])


_lock = threading.Lock()
_couriers: dict[tuple[int, Address], tuple[Courier, int]] = {}


def _acquire(address: Address) -> Courier:
    """The courier of this process for that server; made when it is first wanted, also after a fork."""
    key = (os.getpid(), address)
    with _lock:
        courier, users = _couriers.get(key) or (Courier(address), 0)
        _couriers[key] = (courier, users + 1)
    return courier


def find(tag: str) -> tuple[Courier, Delivery] | None:
    """The message with that delivery tag, if this process holds it."""
    for (pid, _), (courier, _users) in list(_couriers.items()):
        delivery = courier.held(tag) if pid == os.getpid() else None
        if delivery is not None:
            return courier, delivery
    return None


def find_rejected(task_id: str) -> tuple[Courier, Delivery] | None:
    """The message of that task that this process has rejected, and that still waits for a result."""
    for (pid, _), (courier, _users) in list(_couriers.items()):
        delivery = courier.rejected(task_id) if pid == os.getpid() else None
        if delivery is not None:
            return courier, delivery
    return None


def _release(address: Address) -> None:
    """One user less; the last one ends the courier."""
    key = (os.getpid(), address)
    with _lock:
        courier, users = _couriers.pop(key)
        if users > 1:
            _couriers[key] = (courier, users - 1)
    if users > 1:
        courier.flush()
    else:
        courier.stop()


@atexit.register
def _flush_all() -> None:
    for (pid, _), (courier, _users) in list(_couriers.items()):
        if pid == os.getpid():
            courier.flush()


def _after_fork() -> None:
    # The parent's threads are not here, and its locks may be held by one of them.
    global _lock
    _lock = threading.Lock()
    _couriers.clear()


os.register_at_fork(after_in_child=_after_fork)
