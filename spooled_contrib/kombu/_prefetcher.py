"""Claims messages ahead for one channel, as far as it has room: a claimer for each queue, and one room for all."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from spooled.worker import Claimer
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._threads import Condition

logger = logging.getLogger("spooled.kombu")

CLAIM_LIMIT = 100
"""The most jobs that one claim may ask for (contract api-v1 §3.7)."""


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

    def start(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine on the loop. From any thread."""


class Prefetcher:
    """Fetch messages ahead for one channel, as far as it has room.

    Called by the channel's thread, but for what is marked.

    Args:
        messages: Claims them and takes them back.
        poll_interval: Seconds between two claims at most while there is room.
        longest_wait: Bound in seconds for what the server asks to wait.
    """

    def __init__(self, messages: Messages, poll_interval: float, longest_wait: float) -> None:
        self._messages = messages
        self._poll_interval = poll_interval
        self._longest_wait = longest_wait
        self._queues: list[str] = []
        self._room = 0
        self._asked = 0
        self._inbox: deque[Delivery] = deque()
        self._closed = False
        self._claimers: dict[str, Claimer] = {}  # of the loop's thread alone

    def set_demand(self, queues: Sequence[str], room: int) -> None:
        """Fetch up to so many messages from these queues."""
        with self._messages.changed:
            known = self._room == room and self._queues == list(queues)
            self._queues, self._room = list(queues), room
        if not known:
            self._messages.soon(self._follow_demand)

    def get(self) -> Delivery | None:
        """Return the next message, or None when there is none yet."""
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
            self._queues = []
            left = list(self._inbox)
            self._inbox.clear()
        self._messages.soon(self._follow_demand)
        return left

    def discard(self, keep: Sequence[str]) -> list[Delivery]:
        """Take back what came from other queues than these."""
        with self._messages.changed:
            left = [one for one in self._inbox if one.queue_name not in keep]
            for one in left:
                self._inbox.remove(one)
        return left

    # --- on the loop ------------------------------------------------------------------------------------------

    def announced(self, queue_name: str | None) -> None:
        """There may be new messages in this queue, or in any. On the loop."""
        for name, claimer in self._claimers.items():
            if queue_name in (None, name):
                claimer.announced()

    def share(self) -> int:
        """Return how many messages one queue may be asked for now. On the loop."""
        with self._messages.changed:
            room = self._room - len(self._inbox) - self._asked
            if self._closed or room <= 0 or not self._queues:
                return 0
            # A share for each, so that a full queue does not keep the others from their turn.
            return min(CLAIM_LIMIT, max(1, room // len(self._queues)))

    async def fetch(self, queue_name: str, limit: int) -> int:
        """Claim from one queue and keep what comes; return how many came. On the loop."""
        self._asked += limit
        if queue_name in self._claimers:
            self._claimers[queue_name] = self._claimers.pop(queue_name)  # the last to have had its turn
        try:
            found = await self._messages.claim(queue_name, limit)
        finally:
            self._asked -= limit
        with self._messages.changed:
            kept = queue_name in self._queues
            if kept:
                self._inbox.extend(found)
        if not kept:
            for delivery in found:
                self._messages.requeue(delivery)
        elif found:
            self._messages.notify()
        if len(found) < limit:
            self._free()
        return len(found)

    def _follow_demand(self) -> None:
        with self._messages.changed:
            wanted = list(self._queues)
        for name in [name for name in self._claimers if name not in wanted]:
            self._claimers.pop(name).stop()
        for name in wanted:
            if name not in self._claimers:
                claimer = Claimer(
                    _QueueClaims(self, name), self._poll_interval, longest_wait=self._longest_wait
                )
                self._claimers[name] = claimer
                self._messages.start(claimer.run)
        self._free()

    def _free(self) -> None:
        # The one that has not had its turn for longest wakes first.
        for claimer in self._claimers.values():
            claimer.freed()


class _QueueClaims:
    """Claims from one queue, for its `Claimer`."""

    def __init__(self, prefetcher: Prefetcher, queue_name: str) -> None:
        self._prefetcher = prefetcher
        self._queue_name = queue_name
        self._failing = ""

    def room(self) -> int:
        return self._prefetcher.share()

    async def gather(self) -> None:
        """Nothing to wait for: Celery asks for more when it has room."""

    async def claim(self, limit: int) -> int:
        came = await self._prefetcher.fetch(self._queue_name, limit)
        if self._failing:
            self._failing = ""
            logger.info("claiming from %s works again", self._queue_name)
        return came

    def claim_failed(self, error: Exception, when: str, *, refused: bool) -> None:  # noqa: ARG002
        # Also one that is refused goes on: a worker of Celery's does not end because its key is renewed.
        kind = f"{type(error).__name__} {getattr(error, 'status_code', '')}"
        level = logging.DEBUG if kind == self._failing else logging.WARNING
        self._failing = kind
        logger.log(level, "claiming from %s failed; next try in %s: %s", self._queue_name, when, error)
