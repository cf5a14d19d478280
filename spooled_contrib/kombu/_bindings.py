"""Bindings of queues to exchanges, which all processes share.

Each is a job that nobody runs, with the exchange and the queue as its tags; its type names the routing key, the queue
and the kind of exchange, so that a list says it all. A lasting one is scheduled for a day that never comes. One of a
queue that ends with its consumer lives for some minutes, and is renewed while its channel is open.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from spooled import AsyncSpooledClient, SpooledError, errors
from spooled.models import JobSummary
from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._client_thread import ClientThread
from spooled_contrib.kombu._names import to_spooled
from spooled_contrib.kombu._pages import every_job

logger = logging.getLogger("spooled.kombu")

BINDINGS = "kombu-bindings"
NEVER = dt.datetime(2999, 12, 31, tzinfo=dt.UTC)
"""When a lasting binding would run. It is not pending, so that no measure of waiting jobs counts it."""

LIFETIME = 150.0
RENEWAL = 60.0
"""Seconds until a binding that does not last is told again. So there are eight of each at most: a server deletes what
has expired every five minutes."""

ASSURANCE = 300.0
"""Seconds until a lasting one is told again, for a server that has lost its memory."""

LOOK = 5.0
"""Seconds between two looks for what is to be renewed."""

FRESH = 5.0
"""Seconds that a list is used before it is asked for again."""

_ALIVE = frozenset({"pending", "scheduled"})


class Binding(NamedTuple):
    """A queue's binding to an exchange.

    Attributes:
        routing_key: As it was bound; a pattern for topics.
        queue: kombu's name of the queue.
        kind: Of the exchange: `direct`, `topic` or `fanout`.
        lasting: Whether it stays when its process is gone. Messages for others expire, as nobody may be there.
    """

    routing_key: str
    queue: str
    kind: str
    lasting: bool

    @property
    def text(self) -> str:
        return json.dumps(self[:3])


class Bindings:
    """Share the bindings of one server among processes."""

    def __init__(self, thread: ClientThread) -> None:
        self._thread = thread
        self._lock = _threads.new_condition()  # the client's thread needs it too
        self._own: dict[tuple[str, Binding], float] = {}
        self._known: dict[str, tuple[float, list[Binding]]] = {}

    def bind(self, exchange: str, binding: Binding) -> None:
        """Let everybody know.

        A lasting one for which the key has no right, or the plan no room, counts for this process alone.

        Raises:
            SpooledError: The server could not be told.
        """
        with self._lock:
            self._own[exchange, binding] = time.monotonic()
            self._known.pop(exchange, None)
        try:
            self._thread.call(lambda client: self._tell(client, exchange, binding))
        except (errors.AuthorizationError, errors.QuotaExceededError) as error:
            if not binding.lasting:
                raise
            logger.warning(
                "other processes do not hear of queue %s and its exchange %s: %s",
                binding.queue,
                exchange,
                error,
            )

    def forget(self, queue: str) -> None:
        """Renew the queue's bindings no more. Those that last do so."""
        with self._lock:
            for key in [key for key in self._own if key[1].queue == queue]:
                del self._own[key]

    def unbind(self, queue: str | None, exchange: str | None = None, routing_key: str | None = None) -> None:
        """Take back a queue's bindings, whoever has made them; or all to an exchange, without a queue.

        Raises:
            SpooledError: The server could not be told.
        """

        def meant(binding: Binding) -> bool:
            return queue in (None, binding.queue) and routing_key in (None, binding.routing_key)

        with self._lock:
            for key in [key for key in self._own if exchange in (None, key[0]) and meant(key[1])]:
                del self._own[key]
            self._known.clear()

        async def cancel(client: AsyncSpooledClient) -> None:
            tag = f"q:{queue}" if exchange is None else f"x:{exchange}"
            for job, binding in [found async for found in self._list(client, tag)]:
                if meant(binding):
                    try:
                        await client.jobs.cancel(job.id)
                    except (errors.NotFoundError, errors.ConflictError):
                        continue  # it is gone already

        self._thread.call(cancel)

    def lookup(self, exchange: str, *, fresh: bool = False) -> list[Binding]:
        """Return everybody's bindings to an exchange.

        Args:
            exchange: The exchange.
            fresh: Ask the server, whatever was known.

        Raises:
            SpooledError: The server could not be asked.
        """
        found = None if fresh else self._cached(exchange)
        return self._thread.call(lambda client: self._ask(client, exchange)) if found is None else found

    async def find(self, client: AsyncSpooledClient, exchange: str) -> list[Binding]:
        """As `lookup`, on the client's loop."""
        found = self._cached(exchange)
        return await self._ask(client, exchange) if found is None else found

    def _cached(self, exchange: str) -> list[Binding] | None:
        with self._lock:
            at, found = self._known.get(exchange, (float("-inf"), []))
        return found if time.monotonic() - at < FRESH else None

    async def _ask(self, client: AsyncSpooledClient, exchange: str) -> list[Binding]:
        found = [binding async for _, binding in self._list(client, f"x:{exchange}")]
        with self._lock:
            # What this process has bound counts from now on, whatever the server was asked before.
            own = [binding for known, binding in self._own if known == exchange]
            unique = list(dict.fromkeys([*found, *own]))
            self._known[exchange] = (time.monotonic(), unique)
        return unique

    async def _list(self, client: AsyncSpooledClient, tag: str) -> AsyncIterator[tuple[JobSummary, Binding]]:
        newest: dt.datetime | None = None
        async for job in every_job(client, queue_name=self._queue, tag=tag, status=sorted(_ALIVE)):
            binding = _read(job)
            if binding is None:
                continue
            if not binding.lasting:
                # By the server's clock: what is older than a life has expired, and is not deleted yet.
                newest = newest or job.created_at
                if newest - job.created_at > dt.timedelta(seconds=LIFETIME):
                    continue
            yield job, binding

    async def keep(self) -> None:
        """Tell again what is about to be forgotten. On the client's loop, all the time."""
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            with self._lock:
                due = [
                    key
                    for key, at in self._own.items()
                    if now - at > (ASSURANCE if key[1].lasting else RENEWAL)
                ]
            for key in due:
                try:
                    kept = await self._tell(self._thread.client, *key, anew=False)
                except SpooledError as error:
                    logger.warning("a binding to %s could not be renewed; trying again: %s", key[0], error)
                    break
                with self._lock:
                    if key in self._own and kept:
                        self._own[key] = now
                    else:
                        self._own.pop(key, None)

    async def _tell(
        self, client: AsyncSpooledClient, exchange: str, binding: Binding, *, anew: bool = True
    ) -> bool:
        """Make the job, if there is none; False when somebody has taken the binding back, and it is not made anew."""
        job: dict[str, Any] = {
            "queue_name": self._queue,
            "payload": {"job_type": binding.text},
            "tags": [f"x:{exchange}", f"q:{binding.queue}"],
            "max_retries": 0,
        }
        if not binding.lasting:
            expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LIFETIME)
            await client.jobs.create(**job, expires_at=expires)
            return True
        # One job for each, however many processes bind it: by a key, which a cancelled job keeps.
        key = _digest(self._queue, exchange, binding.text)
        while True:
            made = await client.jobs.create(**job, scheduled_at=NEVER, idempotency_key=f"kombu-binding-{key}")
            if made.created:
                return True
            try:
                status = (await client.jobs.get(made.id)).status
            except errors.NotFoundError:
                continue  # deleted in this moment
            if status in _ALIVE:
                return True
            if not anew:
                return False
            key = _digest(key, made.id)

    @property
    def _queue(self) -> str:
        return to_spooled(f"{self._thread.options.prefix}{BINDINGS}")


def _read(job: JobSummary) -> Binding | None:
    try:
        routing_key, queue, kind = json.loads(job.job_type)
    except ValueError:
        return None  # not one of ours
    return Binding(routing_key, queue, kind, job.status == "scheduled")


def _digest(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
