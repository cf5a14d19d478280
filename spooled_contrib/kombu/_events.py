"""Celery's events, sent in the background.

Who reports what it does must not wait for the one who might listen. Celery sends its heartbeats again and again until
they are taken, under a lock that its shutdown needs too: a worker whose server is away could not end.
"""

from __future__ import annotations

import logging
import time
from asyncio import Queue, QueueFull, sleep
from collections.abc import Callable
from dataclasses import dataclass, field

from spooled import AsyncSpooledClient, SpooledError
from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._bindings import Binding, Bindings
from spooled_contrib.kombu._client_thread import ClientThread
from spooled_contrib.kombu._envelope import TRANSIENT, Message, parameters, transient
from spooled_contrib.kombu._names import to_spooled

logger = logging.getLogger("spooled.kombu")

EVENTS = "celeryev"
"""Celery's exchange of events. It is durable, and its queues are not."""

LIMIT = 10_000
"""Events that wait at most; more of them are dropped."""

SENDERS = 4
"""Events that are on their way at the same time."""

PAUSE = 1.0
"""Seconds before an event is sent again."""

FLUSH_TIMEOUT = 1.0
"""Seconds that the last events get at the end: one of them says that the worker goes offline."""


@dataclass(slots=True)
class _Event:
    message: Message
    match: Callable[[list[Binding]], set[str]]
    posted_at: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self.posted_at > TRANSIENT


class Events:
    """Send events to those who listen."""

    def __init__(self, thread: ClientThread, bindings: Bindings) -> None:
        self._thread = thread
        self._bindings = bindings
        self._waiting: Queue[_Event] = Queue(LIMIT)
        self._changed = _threads.new_condition()
        self._open = 0
        self._dropped = 0
        self._failing = False

    def post(self, message: Message, match: Callable[[list[Binding]], set[str]]) -> None:
        """Send an event, soon. From any thread; never waits.

        Args:
            message: As kombu has prepared it.
            match: Tells which queues of these bindings it goes to.
        """
        event = _Event(transient(message), match)
        with self._changed:
            self._open += 1
        self._thread.soon(lambda: self._add(event))

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until they are sent, but not for long, and not at all while the server cannot be reached."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open or self._failing, timeout)

    async def send(self) -> None:
        """Send what is posted. On the client's loop, all the time."""
        while True:
            event = await self._waiting.get()
            sent = False
            try:
                while not event.is_over and not (sent := await self._try(self._thread.client, event)):
                    await sleep(PAUSE)
            except Exception:
                logger.exception("an event cannot be sent, and is dropped")
            finally:
                self._settled(dropped=not sent)

    async def _try(self, client: AsyncSpooledClient, event: _Event) -> bool:
        try:
            for queue in event.match(await self._bindings.find(client, EVENTS)):
                job = parameters(to_spooled(f"{self._thread.options.prefix}{queue}"), event.message, 0)
                await client.jobs.create(**job)
        except SpooledError as error:
            if not error.is_retryable():
                raise
            self._is_failing(error)
            return False
        self._is_failing(None)
        return True

    def _is_failing(self, error: SpooledError | None) -> None:
        """Say so once, and once that it is over."""
        with self._changed:
            known, self._failing = self._failing, error is not None
            dropped = self._dropped
            if error is None:
                self._dropped = 0
            self._changed.notify_all()
        if error is not None and not known:
            logger.warning("sending events failed; trying again: %s", error)
        elif error is None and known:
            logger.info("events are sent again; %d were dropped", dropped)

    def _add(self, event: _Event) -> None:
        try:
            self._waiting.put_nowait(event)
        except QueueFull:
            self._settled(dropped=True)

    def _settled(self, *, dropped: bool) -> None:
        with self._changed:
            self._open -= 1
            self._dropped += dropped
            self._changed.notify_all()
