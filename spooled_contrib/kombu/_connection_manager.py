"""Fetch, keep and settle messages: one thread for each process and server, whatever the number of connections.

A connection of kombu's is used by one thread, which may be busy for long. So claims, lease renewals and acks happen
here, on a loop of its own. Connections take messages from a prefetcher and hand in acks; neither waits for the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from spooled import AsyncSpooledClient, SpooledError, errors
from spooled.models import Job
from spooled.worker import Acked, Acker, Lease, LeaseKeeper, LeaseState, Wakeups
from spooled_contrib.kombu import _redelivery, _threads
from spooled_contrib.kombu._bindings import Bindings
from spooled_contrib.kombu._client_thread import ClientThread
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._events import SENDERS, Events
from spooled_contrib.kombu._hub_waker import HubWaker
from spooled_contrib.kombu._names import to_spooled
from spooled_contrib.kombu._prefetcher import Prefetcher
from spooled_contrib.kombu._results import REJECTED, is_refusal, job_of
from spooled_contrib.kombu._url import Address, Options

logger = logging.getLogger("spooled.kombu")

REMEMBERED = 10_000
"""Messages whose ack was not accepted are remembered, in case that they come back; at most so many."""

SWEEP = 0.5
"""Seconds between two looks for tasks that have ended without a result."""

FLUSH_TIMEOUT = 10.0
"""Seconds that acks get when a connection is closed."""


class ConnectionManager:
    """Own what fetches, keeps and settles messages.

    Attributes:
        options: Of the URL.
        api_key: The key, if there is one. It must never be shown or sent to anybody.
        thread: Where all of it runs.
        bindings: Those that processes share.
        events: Celery's, on their way.
        hub_wakers: Of event loops, woken when there may be something to do.
        changed: Notified when a prefetcher has got messages, or a slot is free. Guards the prefetchers.

    Raises:
        SpooledError: The client cannot be made.
    """

    def __init__(self, address: Address) -> None:
        self.options: Options = address.options
        self.changed = _threads.new_condition()
        self.worker_id = f"kombu-{socket.gethostname()[:100]}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.hub_wakers: set[HubWaker] = set()
        self._pending = 0
        self._settled = _threads.new_condition()
        self._flushing_since: float | None = None
        self._in_trouble = False
        self._acks_fail = False
        self._held: dict[str, Delivery] = {}
        self._by_job: dict[str, Delivery] = {}
        self._prefetchers: set[Prefetcher] = set()  # of the loop's thread alone
        self._listens = False
        self.thread = ClientThread(address)
        self.call, self.begin = self.thread.call, self.thread.begin
        self.soon, self.start = self.thread.soon, self.thread.start
        self.api_key = self.thread.config.api_key
        self.bindings = Bindings(self.thread)
        self.events = Events(self.thread, self.bindings)
        self._keeper = LeaseKeeper(self._beat, on_lost=self._lost, on_trouble=self._troubled)
        self._acker = Acker(
            self,
            self._keeper,
            longest_wait=self.thread.config.max_retry_after,
            on_trouble=self._ack_failed,
            on_accepted=self._ack_accepted,
        )
        for work in (self._keeper.run, self._sweep, self.bindings.keep, *[self.events.send] * SENDERS):
            self.thread.start(work)

    @property
    def _client(self) -> AsyncSpooledClient:
        return self.thread.client

    def notify(self) -> None:
        """Wake whoever waits for messages: threads that drain, and event loops."""
        with self.changed:
            self.changed.notify_all()
        for hub_waker in tuple(self.hub_wakers):
            hub_waker.wake()

    # --- from other threads -----------------------------------------------------------------------------------

    def open_prefetcher(self, poll_interval: float | None = None) -> Prefetcher:
        """Return a prefetcher, which claims once it knows its queues.

        Args:
            poll_interval: Look into empty queues at least so often, in seconds. Default: the option `poll`.
        """
        longest = self.options.poll if poll_interval is None else min(poll_interval, self.options.poll)
        prefetcher = Prefetcher(self, longest, self.thread.config.max_retry_after)
        self.soon(lambda: self._add_prefetcher(prefetcher))
        return prefetcher

    def close_prefetcher(self, prefetcher: Prefetcher) -> None:
        """End a prefetcher, and give back what it has fetched."""
        for delivery in prefetcher.close():
            self.requeue(delivery)
        self.soon(lambda: self._prefetchers.discard(prefetcher))

    def fetch(self, queue_name: str) -> Delivery | None:
        """One message, if there is one now."""

        async def claim(_: AsyncSpooledClient) -> list[Delivery]:
            return await self.claim(queue_name, 1)

        found = self.call(claim)
        if not found:
            return None
        found[0].delivered = True
        return found[0]

    def complete(
        self,
        delivery: Delivery,
        result: object = None,
        instead: Callable[[SpooledError], object] | None = None,
    ) -> None:
        """Ack: in the background, again and again until the server has taken it or the message is lost.

        Args:
            delivery: The message.
            result: The job's result.
            instead: Returns the result to send if the server refuses this one.
        """
        self._settle(delivery, lambda: self._complete(delivery, result, instead))

    def await_result(self, delivery: Delivery, ending: object = None) -> None:
        """Ack a message whose result is still to come: it is completed with that, or when its task ended without.

        Args:
            delivery: The message.
            ending: The job's result if its task ends without one.
        """
        delivery.ending, delivery.awaiting_result = ending, True

    def settled(self, delivery: Delivery) -> None:
        """Forget a message whose job somebody else has completed for it."""

        async def nothing() -> bool:
            return True

        self._settle(delivery, nothing)

    def rejected(self, task_id: str) -> Delivery | None:
        """Return the message of that task, if it was rejected and waits for a result."""
        for delivery in list(self._held.values()):
            if delivery.awaiting_result and delivery.ending is REJECTED and delivery.task_id == task_id:
                return delivery
        return None

    def held(self, tag: str) -> Delivery | None:
        """Return the message with that delivery tag, if it is here and not settled."""
        return self._held.get(tag)

    def requeue(self, delivery: Delivery, *, ran: bool = False) -> None:
        """Give a message back: a copy is enqueued, and the original completed. Two requests; no attempt is lost.

        Args:
            delivery: The message.
            ran: Whether it was begun, and what ran it has died. One that does so too often ends as a dead letter.
        """
        self._settle(delivery, lambda: self._replace(delivery, ran=ran))

    def mark(self, job_id: str, lease_id: str) -> None:
        """Note that a message begins which has come back; see `_redelivery`.

        Raises:
            SpooledError: It could not be noted.
        """
        self.call(lambda client: _redelivery.mark(client, self._marks, job_id, lease_id))

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until every ack is decided; False when that takes too long.

        The time counts from the first call: several connections that close while the server is away wait only once.
        """
        with self._settled:
            if self._flushing_since is None:
                self._flushing_since = time.monotonic()
            give_up_at = self._flushing_since + timeout
            while self._pending:
                left = give_up_at - time.monotonic()
                if left <= 0 or not self.thread.is_alive:
                    return False
                self._settled.wait(min(left, 1.0))
            self._flushing_since = None
        return True

    def stop(self) -> None:
        """Flush, and end the thread."""
        self._complete_awaiting(at_once=True)
        if not self.flush():
            logger.error(
                "%d acks were not accepted in time; these messages will be delivered again", self._pending
            )
        self.events.flush()
        self.thread.close()

    def stop_at_exit(self) -> None:
        """Flush, and end the thread, for a process that ends without closing its connections.

        A loop that still ran while the interpreter is taken down would now and then take the process down with it.
        """
        self.flush()
        self.thread.close()

    # --- on the loop ------------------------------------------------------------------------------------------

    def _add_prefetcher(self, prefetcher: Prefetcher) -> None:
        self._prefetchers.add(prefetcher)
        if not self._listens and self.options.wakeups == "auto":
            self._listens = True
            wakeups = Wakeups(self.thread.config, None, wake=self._announced, healthy=lambda _: None)
            self.start(wakeups.run)

    def _announced(self, queue_name: str | None) -> None:
        for prefetcher in self._prefetchers:
            prefetcher.announced(queue_name)

    async def claim(self, queue_name: str, limit: int) -> list[Delivery]:
        """Claim, and keep the leases from the moment the claim was sent."""
        sent_at = self.thread.time()
        answer = await self._client.jobs.claim(
            queue_name=queue_name,
            worker_id=self.worker_id,
            limit=limit,
            lease_duration_secs=self.options.lease,
        )
        found = []
        for job in answer.jobs:
            lease = self._keeper.hold(
                job.id, job.lease_id or "", self.worker_id, duration=self.options.lease, since=sent_at
            )
            known = self._by_job.get(job.id)
            if known is not None:
                self._reattach(known, lease)
                continue
            delivery = Delivery(queue_name, job, lease, lease.lease_id)
            self._held[delivery.tag] = self._by_job[job.id] = delivery
            if _redelivery.is_due(job):
                self.requeue(delivery)  # as a copy that has been lost never, or as a dead letter
            else:
                found.append(delivery)
        while len(self._by_job) > REMEMBERED:
            self._by_job.pop(next(iter(self._by_job)))
        return found

    def _reattach(self, delivery: Delivery, lease: Lease) -> None:
        """A message whose lease was lost has come back here: its run goes on, or has ended, and is not begun again."""
        logger.info("message %s has come back to the process that works on it", delivery.job.id)
        self._keeper.release(delivery.lease)
        delivery.lease = lease
        if delivery.work is not None:
            self._begin(delivery, delivery.work)

    def forget(self, delivery: Delivery) -> None:
        """The message was lost before anybody saw it: it is somebody else's now."""
        self._held.pop(delivery.tag, None)
        self._by_job.pop(delivery.job.id, None)

    def _settle(self, delivery: Delivery, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        with self._settled:
            if delivery.settled:
                return
            delivery.settled, delivery.work = True, work
            self._held.pop(delivery.tag, None)
        self._begin(delivery, work)

    def _begin(self, delivery: Delivery, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        with self._settled:
            self._pending += 1

        async def settle() -> None:
            try:
                if await work():
                    self._by_job.pop(delivery.job.id, None)
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("settling message %s failed", delivery.job.id)
            finally:
                self._keeper.release(delivery.lease)
                with self._settled:
                    self._pending -= 1
                    self._settled.notify_all()

        self.thread.start(settle)

    async def _complete(
        self,
        delivery: Delivery,
        result: object,
        instead: Callable[[SpooledError], object] | None,
    ) -> bool:
        """Complete a message's job; False when its message may come back here."""
        acked = await self._ack(delivery, msgspec.json.encode(result))
        if instead is not None and acked.error is not None and is_refusal(acked.error):
            logger.error("the result of job %s is refused: %s", delivery.job.id, acked.error)
            acked = await self._ack(delivery, msgspec.json.encode(instead(acked.error)))
        return self._is_over(delivery, acked)

    async def _replace(self, delivery: Delivery, *, ran: bool) -> bool:
        """Put a copy in a message's place; False when its message may come back here."""
        if delivery.lost:
            return True  # the server has given it back
        job_id = delivery.job.id
        try:
            copy_id, text = await self._acker.repeat(
                lambda: self._copy(delivery, ran=ran), f"giving message {job_id} back", give_up=lambda: False
            )
        except SpooledError as error:
            logger.error("message %s cannot be given back; its lease will run out: %s", job_id, error)
            return False
        if copy_id is None:
            return self._is_over(delivery, await self._ack(delivery, text))
        result = {"spooled": {"outcome": "requeued", "successor": copy_id}}
        acked = await self._ack(delivery, msgspec.json.encode(result))
        if acked.outcome == "lost" or acked.attempts > 1:
            await self._cancel_needless_copy(job_id, copy_id, result)
        return self._is_over(delivery, acked)

    async def _cancel_needless_copy(self, job_id: str, copy_id: str, result: object) -> None:
        """Cancel a copy unless the original was completed for it.

        It was not when its lease had ended, or when somebody else completed it: a child of the pool that stored its
        result and then died, for example. When that cannot be found out, the copy stays.
        """
        with contextlib.suppress(SpooledError):
            if (await self._client.jobs.get(job_id)).result != result:
                await self._client.jobs.cancel(copy_id)

    async def _copy(self, delivery: Delivery, *, ran: bool) -> tuple[str | None, str]:
        """Make a copy of a message and return its id; or no id and the error text of a message that gets none."""
        job, lease_id = delivery.job, delivery.lease.lease_id
        message = job.payload.get("kombu") if isinstance(job.payload, dict) else None
        limit = _redelivery.limit_of(job)
        begun = 0 if limit is None else ran + await _redelivery.count_begun(self._client, self._marks, job)
        is_poison = limit is not None and begun > limit
        if is_poison and job.retry_count >= job.max_retries:
            text = f"begun {begun} times, and its worker died each time; it may come back {limit} times"
            logger.error("message %s becomes a dead letter: %s", job.id, text)
            return None, text
        # Only a job that has no retries left can be made a dead letter, so a poison message is copied as such.
        retries = job.max_retries if limit is None else 0 if is_poison else _redelivery.allowance(limit)
        if isinstance(message, dict) and "properties" in message:
            copy = job_of(delivery.queue_name, _redelivery.copied(message, begun), retries)
            copy.pop("scheduled_at", None)
        else:
            copy = {"queue_name": delivery.queue_name, "payload": job.payload, "max_retries": retries}
        copy["idempotency_key"] = f"requeued-{job.id}-{lease_id}"[:255]
        return (await self._client.jobs.create(**copy)).id, ""

    async def _ack(self, delivery: Delivery, content: bytes | str) -> Acked:
        # A lease that ended while the server was away may still be good there: only the server knows.
        return await self._acker.ack(delivery.lease, content, beyond_lease=True)

    def _is_over(self, delivery: Delivery, acked: Acked) -> bool:
        match acked.outcome:
            case "accepted":
                return True
            case "lost":
                # The lease is over, or somebody has completed the job since: with its result, a child of the pool.
                logger.log(
                    logging.DEBUG if delivery.awaiting_result else logging.WARNING,
                    "message %s was acked too late; it was, or will be, delivered again: %s",
                    delivery.job.id,
                    acked.error,
                )
                return delivery.awaiting_result
            case _:
                logger.error("the ack of message %s is not accepted: %s", delivery.job.id, acked.error)
                return False

    async def send(self, lease: Lease, content: bytes | str) -> None:
        """Make one attempt at an ack, for the `Acker`."""
        job_id, ids = lease.job_id, {"worker_id": self.worker_id, "lease_id": lease.lease_id}
        if isinstance(content, str):
            await self._client.jobs.fail(job_id, **ids, error=content)
        else:
            await self._client.jobs.complete(job_id, **ids, result=msgspec.Raw(content))

    async def read_job(self, job_id: str) -> Job:
        """Return a job as it is now, for the `Acker`."""
        return await self._client.jobs.get(job_id)

    @property
    def _marks(self) -> str:
        return to_spooled(f"{self.options.prefix}{_redelivery.MARKS}")

    async def _sweep(self) -> None:
        """Complete acked messages whose tasks have ended without a result of theirs coming by here."""
        while True:
            await asyncio.sleep(SWEEP)
            self._complete_awaiting()

    def _complete_awaiting(self, *, at_once: bool = False) -> None:
        for delivery in list(self._held.values()):
            if delivery.awaiting_result and not delivery.is_running:
                # At the second look only: Celery rejects a message of an unknown task, and then says that it failed.
                if delivery.idle or at_once:
                    self.complete(delivery, delivery.ending)
                delivery.idle = True

    async def _beat(self, lease: Lease, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._client.jobs.heartbeat(
                    lease.job_id,
                    worker_id=self.worker_id,
                    lease_id=lease.lease_id,
                    lease_duration_secs=self.options.lease,
                )
        except TimeoutError:
            raise errors.TimeoutError(f"no answer to a heartbeat within {timeout:.1f} s") from None
        if self._in_trouble:
            self._in_trouble = False
            logger.info("leases are renewed again")
        delivery = self._by_job.get(lease.job_id)
        if delivery is not None and delivery.lease_uncertain:
            delivery.lease_uncertain = False
            self.notify()

    def _lost(self, lease: Lease, error: SpooledError | None) -> None:
        delivery = self._by_job.get(lease.job_id)
        if delivery is not None and delivery.awaiting_result and not delivery.is_running:
            self.forget(delivery)
            return  # a child of the pool has completed it
        if error is None and delivery is not None and delivery.lease is lease:
            # The server may have been away itself, and still accept it: so knock on.
            logger.warning(
                "the lease of message %s could not be renewed in time; %s",
                lease.job_id,
                "it goes on, and may run elsewhere too"
                if delivery.delivered
                else "it waits until the server is back",
            )
            delivery.lease_uncertain = True
            self.soon(lambda: self._retry_lease(delivery))
            return
        logger.warning("lost the lease of message %s; it goes to another consumer: %s", lease.job_id, error)

    def _retry_lease(self, delivery: Delivery) -> None:
        old = delivery.lease
        if old.state is LeaseState.LOST and not delivery.settled:
            delivery.lease = self._keeper.hold(
                old.job_id,
                old.lease_id,
                old.worker_id,
                duration=self.options.lease,
                since=self.thread.time(),
            )

    def _troubled(self, lease: Lease, error: SpooledError) -> None:
        # Once for an outage, and not for each of a hundred messages.
        level = logging.DEBUG if self._in_trouble else logging.WARNING
        self._in_trouble = True
        logger.log(
            level, "renewing the lease of message %s failed; all are tried again: %s", lease.job_id, error
        )

    def _ack_failed(self, error: SpooledError, what: str) -> None:
        level = logging.DEBUG if self._acks_fail else logging.WARNING
        self._acks_fail = True
        logger.log(level, "%s: %s", what, error)

    def _ack_accepted(self) -> None:
        if self._acks_fail:
            self._acks_fail = False
            logger.info("acks are accepted again")
