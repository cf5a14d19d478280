"""Passing things to another thread's event loop, many with one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LoopQueue(Generic[T]):
    """A one-way door into an event loop. `put` may be called from any thread.

    Waking a sleeping loop is a system call, so it is made once for all that arrives until the loop looks.
    """

    __slots__ = ("_items", "_loop", "_receive", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[T], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> bool:
        """Pass `item` on. False when the loop is closed and nobody will take it."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._take)
            except RuntimeError:
                return False
            except BaseException:
                # Raised in this thread by another one. The loop may not have been woken, so the next item has to.
                self._woken = False
                raise
        return True

    def _take(self) -> None:
        # First say that a new wake-up is needed, then empty the queue: whoever puts in between wakes us for
        # nothing, whereas the other order could leave an item lying.
        self._woken = False
        items, receive = self._items, self._receive
        try:
            while items:
                receive(items.popleft())
        finally:
            if items:  # `receive` has raised
                self._loop.call_soon(self._take)
