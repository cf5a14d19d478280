"""The task that empties the outbox of webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter

from spooled.clock import Clock
from spooled_contrib.server._rules import attempts
from spooled_contrib.server._rules.attempts import Delivery
from spooled_contrib.server._storage import Storage
from spooled_contrib.server._storage.errors import (
    DatabaseOutageError,
    StorageFailedError,
    UncertainCommitError,
)
from spooled_contrib.server._times import SECOND
from spooled_contrib.server._webhooks.sender import Sender

logger = logging.getLogger("spooled.server")

IN_FLIGHT = 64
"""Deliveries that one server sends at the same time."""

LOOK_SECONDS = 5.0
"""An idle courier looks this often: another server may have written a delivery and died."""

BUSY_SECONDS = 1.0
"""How soon a courier looks again that found nothing but deliveries to busy webhooks. An attempt that ends wakes it."""

GRACE_SECONDS = 1.0
"""How long a stopping server waits for attempts that are under way."""


class Courier:
    """Sends what is due, at most `IN_FLIGHT` at a time. Belongs to one event loop."""

    def __init__(self, storage: Storage, clock: Clock, sender: Sender) -> None:
        self._storage = storage
        self._clock = clock
        self._sender = sender
        self._wake = asyncio.Event()
        self._sending: dict[asyncio.Task[None], Delivery] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send from now on by itself."""
        self._running = asyncio.ensure_future(self._run())

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def deliver_due(self) -> None:
        """Make every attempt that is due now, and return when all have been made."""
        while await self._round() == 0.0 or self._sending:
            if self._sending:
                await asyncio.wait(self._sending)

    async def stop(self) -> None:
        """Take nothing more, wait a moment for what is being sent, and give back the rest."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        if self._sending:
            await asyncio.wait(self._sending, timeout=GRACE_SECONDS)
        cut_off = dict(self._sending)
        for task in cut_off:
            task.cancel()
        if cut_off:
            await asyncio.wait(cut_off)
            given_back = list(cut_off.values())
            # Without a database their leases end by themselves.
            with contextlib.suppress(StorageFailedError):
                await self._storage.write(lambda tx: attempts.release(tx, given_back))
        await self._sender.close()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._round()
            except (DatabaseOutageError, UncertainCommitError) as error:
                logger.debug("no webhooks are sent while the database cannot be used: %s", error)
                pause = BUSY_SECONDS
            except Exception:
                logger.exception("sending webhooks failed; it is tried again in %s s", LOOK_SECONDS)
                pause = LOOK_SECONDS
            if pause > 0.0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    async def _round(self) -> float:
        """Begin what is due and fits; seconds until there may be more to do."""
        free = IN_FLIGHT - len(self._sending)
        if free == 0:
            return LOOK_SECONDS  # an attempt that ends wakes us
        due = await self._storage.read(attempts.next_due)
        if due is None:
            return LOOK_SECONDS
        wait = due / SECOND - self._clock.now()
        if wait > 0.0:
            return min(wait, LOOK_SECONDS)
        in_flight = Counter(one.webhook_id for one in self._sending.values() if one.webhook_id is not None)
        taken = await self._storage.write(lambda tx: attempts.claim_due(tx, free, in_flight))
        for delivery in taken:
            task = asyncio.ensure_future(self._deliver(delivery))
            self._sending[task] = delivery
            task.add_done_callback(self._ended)
        # What is due and was not taken is for a webhook that is busy.
        return 0.0 if taken else BUSY_SECONDS

    async def _deliver(self, delivery: Delivery) -> None:
        outcome = await self._sender.send(delivery)
        if outcome.error is not None:
            logger.info("webhook delivery %s, attempt %d: %s", delivery.id, delivery.attempt, outcome.error)
        if not await self._storage.write(lambda tx: attempts.settle(tx, delivery, outcome)):
            logger.warning(
                "webhook delivery %s was taken over, or deleted, before its attempt ended", delivery.id
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.pop(task, None)
        self._wake.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (DatabaseOutageError, UncertainCommitError)):
            logger.info("what came of a webhook delivery was not recorded, so it is made again: %s", error)
        elif error is not None:
            # Its lease ends by itself, and then it is tried again.
            logger.error("webhook delivery failed", exc_info=error)
