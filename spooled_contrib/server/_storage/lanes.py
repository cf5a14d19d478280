"""Threads that run operations in groups.

Committing costs more than most operations do, and waking a thread costs about as much as one. So the event loop hands
over everything that arrived in one of its turns, a thread takes everything that was handed over, and resolves all
waiters of a transaction with a single wake-up of the loop. While one thread waits for its commit, the next one works.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._storage.errors import DatabaseOutageError
from spooled_contrib.server._storage.groups import Done, Waiter

logger = logging.getLogger("spooled.server")

T = TypeVar("T")


class Runner(Protocol):
    """Runs groups on a database connection of its own. Belongs to one thread once that has begun."""

    def run(self, group: list[Waiter]) -> Iterable[Done]:
        """Run a group, which may be empty, and yield what came of its operations, in one piece or in several."""

    def close(self) -> None:
        """Let go of what belongs to the thread."""


class Lanes:
    """Runs operations on as many threads as there are runners. An operation runs beside others, never beside itself."""

    def __init__(self, name: str, runners: Sequence[Runner], *, largest_group: int, hub: Hub) -> None:
        self._largest_group = largest_group
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._gathering: list[Waiter] = []
        self._queue: queue.SimpleQueue[list[Waiter] | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(runner,), name=f"{name}-{number}", daemon=True)
            for number, runner in enumerate(runners, 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, operation: Callable[[Tx], T]) -> asyncio.Future[T]:
        """Queue an operation. Everything submitted during one turn of the loop travels together."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(RuntimeError("the server is stopped"))
            return future
        if not self._gathering:
            self._loop.call_soon(self._hand_over)
        self._gathering.append((operation, future))
        return future

    def nudge(self) -> None:
        """Have a runner run an empty group soon. Callable from any thread."""
        self._queue.put([])

    async def close(self) -> None:
        """Finish what was submitted, then end the threads and close the runners."""
        self._closed = True
        self._hand_over()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join)

    def _hand_over(self) -> None:
        if self._gathering:
            self._queue.put(self._gathering)
            self._gathering = []

    def _run(self, runner: Runner) -> None:
        while (group := self._queue.get()) is not None:
            group = self._gather(group, self._largest_group)
            try:
                for done in runner.run(group):
                    self._tell(done)
                    if done.outage is not None:
                        # Whoever has queued up meanwhile has waited for the same answer.
                        self._tell(_all_failed(self._gather([], None), done.outage))
            except Exception as error:
                logger.exception("unexpected error in a database thread")
                self._tell(Done([(future, None, error) for _, future in group]))
        runner.close()

    def _gather(self, group: list[Waiter], most: int | None) -> list[Waiter]:
        """Take what is queued, until there are `most` operations."""
        while most is None or len(group) < most:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)  # nothing comes after it
                break
            group = group + more
        return group

    def _tell(self, done: Done) -> None:
        if done.outcomes or done.events or done.told:
            self._loop.call_soon_threadsafe(done.resolve, self._hub)


def _all_failed(group: list[Waiter], outage: DatabaseOutageError) -> Done:
    return Done([(future, None, outage.again()) for _, future in group])
