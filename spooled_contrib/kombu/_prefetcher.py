"""Claims messages ahead for one channel, as far as it has room."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from spooled import SpooledError
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._threads import Condition

logger = logging.getLogger("spooled.kombu")

CLAIM_LIMIT = 100
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 15.0


class Messages(Protocol):
    """What a prefetcher asks of the holder of all messages.

    Attributes:
        changed: Notified when there are new messages. Guards what is fetched.
    """

    changed: Condition

    async def claim(self, queue_name: str, limit: int) -> list[Delivery]:
        """Claim up to so many messages, on the loop."""

    def requeue(self, delivery: Delivery) -> None:
        """Give a message back. From any thread."""

    def forget(self, delivery: Delivery) -> None:
        """Keep a message no longer that somebody else has got. From any thread."""

    def notify(self) -> None:
        """Wake what waits for messages. From any thread."""

    def soon(self, callback: Callable[[], object]) -> None:
        """Call something on the loop. From any thread."""


class Prefetcher:
    """Fetch messages ahead for one channel, as far as it has room.

    Called by the channel's thread, but for what is marked.

    Args:
        messages: Claims them and takes them back.
        longest: Seconds between two claims at most while there is room.
        longest_wait: The longest time in seconds for which a server may silence it.
    """

    def __init__(self, messages: Messages, longest: float, longest_wait: float) -> None:
        self._messages = messages
        self._longest = longest
        self._longest_wait = longest_wait
        self._queues: list[str] = []
        self._room = 0
        self._inbox: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._turn = 0

    def set_demand(self, queues: Sequence[str], room: int) -> None:
        """Fetch up to so many messages from these queues."""
        with self._messages.changed:
            known = self._room == room and self._queues == list(queues)
            self._queues, self._room = list(queues), room
        if not known:
            self._messages.soon(self._wake.set)

    def set_max_interval(self, longest: float) -> None:
        """Look at least so often, in seconds: somebody waits for an answer."""
        self._longest = min(self._longest, longest)

    def get(self) -> Delivery | None:
        """The next message, or None when there is none yet."""
        with self._messages.changed:
            for delivery in list(self._inbox):
                if delivery.lease_uncertain and not delivery.lost:
                    continue
                self._inbox.remove(delivery)
                if delivery.lost:
                    self._messages.forget(delivery)
                    continue
                self._room -= 1
                delivery.delivered = True
                return delivery
        return None

    def close(self) -> list[Delivery]:
        """Fetch no more; returns what was not taken."""
        with self._messages.changed:
            self._closed = True
            left = list(self._inbox)
            self._inbox.clear()
        self._messages.soon(self._wake.set)
        return left

    def discard(self, keep: Sequence[str]) -> list[Delivery]:
        """Take back what came from other queues than these."""
        with self._messages.changed:
            left = [one for one in self._inbox if one.queue_name not in keep]
            for one in left:
                self._inbox.remove(one)
        return left

    async def run(self) -> None:
        """Claim while there is room. On the loop."""
        pause, empty, failures = FIRST_PAUSE, 0, 0
        while True:
            queue_name, limit, queues = self._next()
            if self._closed:
                return
            if not limit:
                self._wake.clear()
                if not self._next()[1] and not self._closed:
                    await self._wake.wait()
                pause, empty = FIRST_PAUSE, 0
                continue
            try:
                found = await self._messages.claim(queue_name, limit)
            except SpooledError as error:
                failures += 1
                delay = max(
                    min(LONGEST_PAUSE, 0.25 * 2**failures), min(error.server_wait or 0.0, self._longest_wait)
                )
                logger.warning("claiming from %s failed; next try in %.1f s: %s", queue_name, delay, error)
                await self._sleep(delay)
                continue
            failures = 0
            self._add(found)
            if found:
                pause, empty = FIRST_PAUSE, 0
                continue
            empty += 1
            if empty >= queues:
                await self._sleep(pause)
                pause, empty = min(self._longest, pause * 2), 0

    def _next(self) -> tuple[str, int, int]:
        """The queue whose turn it is, how many messages to ask it for, and how many queues there are."""
        with self._messages.changed:
            room = self._room - len(self._inbox)
            if self._closed or room <= 0 or not self._queues:
                return "", 0, 0
            count = len(self._queues)
            self._turn = (self._turn + 1) % count
            # A share for each, so that a full queue does not keep the others from their turn.
            return self._queues[self._turn], min(CLAIM_LIMIT, max(1, room // count)), count

    def _add(self, found: list[Delivery]) -> None:
        with self._messages.changed:
            kept = not self._closed
            if kept:
                self._inbox.extend(found)
        if kept:
            self._messages.notify()
            return
        for delivery in found:
            self._messages.requeue(delivery)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
