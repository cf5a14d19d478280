"""What fetches, keeps and settles messages: one thread for each process and server, whatever its connections do.

A connection of kombu's is used by one thread, which may be busy for long. So claims, lease renewals and acks happen
here, on a loop of its own; connections take messages from a feed and hand in acks, and neither waits for the network.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from spooled import AsyncSpooledClient, SpooledError, errors
from spooled.models import ClaimedJob
from spooled.worker import Lease, LeaseKeeper, LeaseState, engine_client, engine_loop
from spooled_contrib.kombu._bindings import Bindings
from spooled_contrib.kombu._envelope import parameters
from spooled_contrib.kombu._url import Address, Options

logger = logging.getLogger("spooled.kombu")

T = TypeVar("T")

CLAIM_LIMIT = 100
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 15.0
REMEMBERED = 10_000
"""Messages whose ack was not accepted are remembered, in case that they come back; at most so many."""

SWEEP = 0.5
"""Seconds between two looks for tasks that have ended without a result."""

FLUSH_TIMEOUT = 10.0
"""Seconds that acks get when a connection is closed."""


@dataclass(eq=False, slots=True)
class Delivery:
    """A message that this process holds.

    Attributes:
        queue_name: Spooled's name of its queue.
        job: As it was claimed.
        lease: Kept until it is settled. Another one when it was lost, and the message came back to this process.
        tag: Unique for each delivery, also of the same message.
        settled: Whether it is decided what becomes of it; only the first decision counts.
        parked: Whether it was acked, and only waits for its result.
        work: What was decided, as long as the server has not taken it.
    """

    queue_name: str
    job: ClaimedJob
    lease: Lease
    tag: str
    settled: bool = False
    parked: bool = False
    work: Callable[[], Coroutine[Any, Any, bool]] | None = None

    @property
    def lost(self) -> bool:
        """Whether the message went to somebody else."""
        return self.lease.state is LeaseState.LOST


class Feed:
    """Messages for one channel: claimed ahead, as far as it has room.

    Called by the channel's thread, but for what is marked.
    """

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._longest = courier.options.poll
        self._queues: list[str] = []
        self._room = 0
        self._inbox: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._turn = 0

    def want(self, queues: Sequence[str], room: int) -> None:
        """Fetch up to so many messages from these queues."""
        with self._courier.changed:
            known = self._room == room and self._queues == list(queues)
            self._queues, self._room = list(queues), room
        if not known:
            self._courier.soon(self._wake.set)

    def hurry(self, longest: float) -> None:
        """Look at least so often, in seconds: somebody waits for an answer."""
        self._longest = min(self._longest, longest)

    def take(self) -> Delivery | None:
        """The next message, or None when there is none yet."""
        with self._courier.changed:
            while self._inbox:
                delivery = self._inbox.popleft()
                if delivery.lost:
                    self._courier.forget(delivery)
                    continue
                self._room -= 1
                return delivery
        return None

    def close(self) -> list[Delivery]:
        """Fetch no more; returns what was not taken."""
        with self._courier.changed:
            self._closed = True
            left = list(self._inbox)
            self._inbox.clear()
        self._courier.soon(self._wake.set)
        return left

    def drop(self, keep: Sequence[str]) -> list[Delivery]:
        """Take back what came from other queues than these."""
        with self._courier.changed:
            left = [one for one in self._inbox if one.queue_name not in keep]
            for one in left:
                self._inbox.remove(one)
        return left

    async def run(self) -> None:
        """Claim while there is room. On the courier's loop."""
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
                found = await self._courier.claim(queue_name, limit)
            except SpooledError as error:
                failures += 1
                delay = max(min(LONGEST_PAUSE, 0.25 * 2**failures), error.server_wait or 0.0)
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
        with self._courier.changed:
            room = self._room - len(self._inbox)
            if self._closed or room <= 0 or not self._queues:
                return "", 0, 0
            count = len(self._queues)
            self._turn = (self._turn + 1) % count
            # A share for each, so that a full queue does not keep the others from their turn.
            return self._queues[self._turn], min(CLAIM_LIMIT, max(1, room // count)), count

    def _add(self, found: list[Delivery]) -> None:
        with self._courier.changed:
            if not self._closed:
                self._inbox.extend(found)
                self._courier.changed.notify_all()
                return
        for delivery in found:
            self._courier.requeue(delivery)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


class Courier:
    """The thread, its loop and what runs on it.

    Attributes:
        options: Of the URL.
        bindings: Those that processes share.
        changed: Notified when a feed has got messages, or a slot is free. Guards the feeds.
    """

    def __init__(self, address: Address) -> None:
        self.options: Options = address.options
        self.changed = threading.Condition()
        self.worker_id = f"kombu-{socket.gethostname()[:100]}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._config = address.config()
        self.bindings = Bindings(self)
        self._pending = 0
        self._settled = threading.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: dict[str, Delivery] = {}
        self._by_job: dict[str, Delivery] = {}
        self._loop = engine_loop()
        self._stopping = asyncio.Event()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="spooled-kombu", daemon=True)
        self._thread.start()
        started.result()

    # --- from other threads -----------------------------------------------------------------------------------

    def call(self, work: Callable[[AsyncSpooledClient], Coroutine[Any, Any, T]]) -> T:
        """Do something with the client, and wait for it.

        Raises:
            SpooledError: As the client.
        """
        return asyncio.run_coroutine_threadsafe(work(self._client), self._loop).result()

    def soon(self, callback: Callable[[], object]) -> None:
        """Call it on the loop."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            logger.debug("the connection is closed already")

    def open_feed(self) -> Feed:
        """A feed that claims from now on."""
        feed = Feed(self)
        self.soon(lambda: self._start(feed.run()))
        return feed

    def fetch(self, queue_name: str) -> Delivery | None:
        """One message, if there is one now."""

        async def claim(_: AsyncSpooledClient) -> list[Delivery]:
            return await self.claim(queue_name, 1)

        found = self.call(claim)
        return found[0] if found else None

    def complete(self, delivery: Delivery, result: object = None) -> None:
        """Ack: in the background, again and again until the server has taken it or the message is lost."""
        self._settle(delivery, lambda: self._complete(delivery, result))

    def park(self, delivery: Delivery) -> None:
        """Ack a message whose result is still to come: it is completed with that, or when its task ended without."""
        delivery.parked = True

    def held(self, tag: str) -> Delivery | None:
        """The message with that delivery tag, if it is here and not settled."""
        return self._held.get(tag)

    def requeue(self, delivery: Delivery) -> None:
        """Give a message back: a copy is enqueued, and the original completed. Two requests; no attempt is lost."""
        self._settle(delivery, lambda: self._replace(delivery))

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until every ack is decided; False when that takes too long."""
        give_up_at = time.monotonic() + timeout
        with self._settled:
            while self._pending:
                left = give_up_at - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._settled.wait(min(left, 1.0))
        return True

    def stop(self) -> None:
        """Flush, and end the thread."""
        self._complete_parked()
        if not self.flush():
            logger.error(
                "%d acks were not accepted in time; these messages will be delivered again", self._pending
            )
        self.soon(self._stopping.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(FLUSH_TIMEOUT)

    # --- on the loop ------------------------------------------------------------------------------------------

    async def claim(self, queue_name: str, limit: int) -> list[Delivery]:
        """Claim, and keep the leases from the moment the claim was sent."""
        sent_at = self._loop.time()
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
                self._adopt(known, lease)
                continue
            delivery = Delivery(queue_name, job, lease, lease.lease_id)
            self._held[delivery.tag] = self._by_job[job.id] = delivery
            found.append(delivery)
        while len(self._by_job) > REMEMBERED:
            self._by_job.pop(next(iter(self._by_job)))
        return found

    def _adopt(self, delivery: Delivery, lease: Lease) -> None:
        """A message whose lease was lost has come back here: its run goes on, or has ended, and is not begun again."""
        logger.info("message %s has come back to the process that works on it", delivery.job.id)
        delivery.lease = lease
        if delivery.work is not None:
            self._begin(delivery, delivery.work)

    def _run(self, started: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main(started))
        finally:
            self._loop.close()

    async def _main(self, started: Future[None]) -> None:
        options = self.options
        try:
            self._client = engine_client(
                self._config, connections=options.connections, transport=options.transport
            )
        except BaseException as error:
            started.set_exception(error)
            return
        self._keeper = LeaseKeeper(self._beat, on_lost=self._lost, on_trouble=self._troubled)
        keeping = self._loop.create_task(self._keeper.run())
        self._start(self._sweep())
        started.set_result(None)
        await self._stopping.wait()
        for task in [keeping, *self._tasks]:
            task.cancel()
        await asyncio.gather(keeping, *self._tasks, return_exceptions=True)
        await self._client.close()

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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

        self.soon(lambda: self._start(settle()))

    async def _complete(self, delivery: Delivery, result: object) -> bool:
        async def attempt() -> None:
            await self._client.jobs.complete(
                delivery.job.id,
                worker_id=self.worker_id,
                lease_id=delivery.lease.lease_id,
                result=result,
            )

        return await self._until_accepted(delivery, attempt)

    async def _replace(self, delivery: Delivery) -> bool:
        job = delivery.job
        payload = job.payload
        message = payload.get("kombu") if isinstance(payload, dict) else None
        if isinstance(message, dict):
            properties = message.get("properties") or {}
            info = {**(properties.get("delivery_info") or {}), "redelivered": True}
            message = {**message, "properties": {**properties, "delivery_info": info}}
            copy = parameters(delivery.queue_name, message, job.max_retries)
            copy.pop("scheduled_at", None)
        else:
            copy = {"queue_name": delivery.queue_name, "payload": payload, "max_retries": job.max_retries}
        copy["idempotency_key"] = f"requeued-{job.id}-{delivery.lease.lease_id}"[:255]

        async def attempt() -> None:
            made = await self._client.jobs.create(**copy)
            told = {"spooled": {"outcome": "requeued", "successor": made.id}}
            await self._client.jobs.complete(
                job.id, worker_id=self.worker_id, lease_id=delivery.lease.lease_id, result=told
            )

        # A lost one has been given back by the server.
        return True if delivery.lost else await self._until_accepted(delivery, attempt)

    async def _sweep(self) -> None:
        """Complete parked messages whose tasks have ended without a result of theirs coming by here."""
        while True:
            await asyncio.sleep(SWEEP)
            self._complete_parked()

    def _complete_parked(self) -> None:
        for delivery in list(self._held.values()):
            if delivery.parked and not _is_running(delivery):
                self.complete(delivery)

    async def _until_accepted(
        self, delivery: Delivery, attempt: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Try until the server takes it (True), or the message is not this process' any more."""
        delay = 0.1
        while True:
            try:
                await attempt()
                return True
            except (errors.NotFoundError, errors.ConflictError) as error:
                # The lease is over, or somebody has completed the job since: with its result, a child of the pool.
                logger.log(
                    logging.DEBUG if delivery.parked else logging.WARNING,
                    "message %s was acked too late; it was, or will be, delivered again: %s",
                    delivery.job.id,
                    error,
                )
                return delivery.parked
            except SpooledError as error:
                if delivery.lost or not error.is_retryable():
                    logger.error("the ack of message %s is not accepted: %s", delivery.job.id, error)
                    return False
                logger.warning("the ack of message %s failed; trying again: %s", delivery.job.id, error)
            await asyncio.sleep(delay)
            delay = min(5.0, delay * 2)

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

    def _lost(self, lease: Lease, error: SpooledError | None) -> None:
        delivery = self._by_job.get(lease.job_id)
        if delivery is not None and delivery.parked and not _is_running(delivery):
            self.forget(delivery)
            return  # a child of the pool has completed it
        logger.warning(
            "lost the lease of message %s; it goes to another consumer: %s",
            lease.job_id,
            error or "the server could not be reached in time",
        )

    def _troubled(self, lease: Lease, error: SpooledError) -> None:
        logger.warning("renewing the lease of message %s failed; trying again: %s", lease.job_id, error)


_lock = threading.Lock()
_couriers: dict[tuple[int, Address], tuple[Courier, int]] = {}


def acquire(address: Address) -> Courier:
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


def release(address: Address) -> None:
    """One user less; the last one ends the courier."""
    key = (os.getpid(), address)
    with _lock:
        known = _couriers.get(key)
        if known is None:
            return
        courier, users = known
        if users > 1:
            _couriers[key] = (courier, users - 1)
            return
        del _couriers[key]
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


def _is_running(delivery: Delivery) -> bool:
    """Whether Celery's worker still has the task."""
    state = sys.modules.get("celery.worker.state")
    payload = delivery.job.payload
    message = payload.get("kombu") if isinstance(payload, dict) else None
    headers = message.get("headers") if isinstance(message, dict) else None
    task_id = headers.get("id") if isinstance(headers, dict) else None
    return state is not None and task_id in state.requests
