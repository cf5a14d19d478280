"""Events of committed changes, and who listens to them (realtime contract, sections 1 and 3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from spooled_contrib.server._storage.errors import StorageFailedError

BUFFERED_EVENTS = 100
"""Events kept for a listener that does not keep up; older ones are dropped, as the contract allows."""


Carrier = Literal["stream", "socket", "watch"]
"""How a listener hears: the organization's stream, a WebSocket, or the stream of one job or one queue."""


class Event(Struct, frozen=True, gc=False):
    """Something happened to a job.

    `type` is empty for a change that the public stream does not announce (a claim, a recovered lease). It only wakes
    the streams that watch that one job, which then read its status.

    An event without an organization is for the server itself; see `Hub.inside`.
    """

    organization_id: str
    queue_name: str
    job_id: str
    type: str = ""
    data: dict[str, Any] = {}


TALLY = "tally"
"""Type of an event for `/metrics`: `data` says how much to add to what."""

DELIVERIES_DUE = Event("", "", "", "deliveries.due")
"""Webhook deliveries were written."""


@dataclass(eq=False)
class Subscription:
    """One listener: a filter, a bounded buffer and a flag to wake it."""

    organization_id: str
    queues: frozenset[str] | None
    queue_name: str | None = None
    job_id: str | None = None
    carrier: Carrier = "watch"

    def __post_init__(self) -> None:
        self._buffer: deque[Event] = deque(maxlen=BUFFERED_EVENTS)
        self._wake = asyncio.Event()
        self.closed = False

    def offer(self, event: Event) -> None:
        # A change without a type is only for those who watch what it happened to.
        if (event.type or self.carrier == "watch") and self.wants(event):
            self._buffer.append(event)
            self._wake.set()

    def wants(self, event: Event) -> bool:
        """Return whether the key may see it and the filter lets it through."""
        return (
            (self.queues is None or event.queue_name in self.queues)
            and (self.queue_name is None or event.queue_name == self.queue_name)
            and (self.job_id is None or event.job_id == self.job_id)
        )

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def next_events(self, timeout: float) -> list[Event]:
        """What arrived, waiting at most `timeout` seconds for the first. Empty: nothing came, or it was closed."""
        if not self._buffer and not self.closed:
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        events = list(self._buffer)
        self._buffer.clear()
        return events


KEY_CHANGED = "key"
"""Topic: the API key of this id is not what it was."""

LOGIN_ENDED = "login"
"""Topic: the login of this session id was revoked."""


class Hub:
    """Hands events to the listeners of their organization, and what servers tell each other to who must know.

    Belongs to one event loop. Events come from this server and, where several share a database, from the others.
    """

    def __init__(self) -> None:
        self._by_organization: dict[str, set[Subscription]] = {}
        self._closed = False
        self.inside: dict[str, Callable[[dict[str, Any]], None]] = {}
        """Who is called, by type, with the data of an event that is for the server itself."""
        self._ears: dict[str, Callable[[str], object]] = {}
        self.cut_off = False
        """What other servers tell does not arrive at the moment: do not trust what is remembered."""
        self.database_failed: Callable[[StorageFailedError], object] | None = None
        """Who is told that the storage could not carry out an operation."""
        self.announce: Callable[[], Awaitable[None]] | None = None
        """How a storage lets other servers know that somebody listens here."""
        self.rejoin: Callable[[], Awaitable[None]] | None = None
        """How memory is brought up to date after the server was cut off."""

    @property
    def listening(self) -> bool:
        return bool(self._by_organization)

    def count(self, organization_id: str, carrier: Carrier) -> int:
        """Return how many listeners of that kind the organization has."""
        listeners = tuple(self._by_organization.get(organization_id, ()))
        return sum(subscription.carrier == carrier for subscription in listeners)

    def subscribe(self, subscription: Subscription) -> None:
        self._by_organization.setdefault(subscription.organization_id, set()).add(subscription)
        if self._closed:
            subscription.close()

    async def made_known(self) -> None:
        """Return when every change that begins from now on, on any server, reaches the subscriptions made so far."""
        if self.announce is not None:
            await self.announce()

    def on(self, topic: str, hear: Callable[[str], object]) -> None:
        """Have `hear` called with every text of a topic. One for each topic."""
        self._ears[topic] = hear

    def hear(self, told: list[tuple[str, str]]) -> None:
        """Pass on what a server told."""
        for topic, text in told:
            if topic in self._ears:
                self._ears[topic](text)

    def unsubscribe(self, subscription: Subscription) -> None:
        listeners = self._by_organization.get(subscription.organization_id)
        if listeners is not None:
            listeners.discard(subscription)
            if not listeners:
                del self._by_organization[subscription.organization_id]

    def publish(self, events: list[Event]) -> None:
        for event in events:
            if not event.organization_id:
                if event.type in self.inside:
                    self.inside[event.type](event.data)
                continue
            for subscription in self._by_organization.get(event.organization_id, ()):
                subscription.offer(event)

    def close(self) -> None:
        """End every stream at once; the server is stopping."""
        self._closed = True
        for listeners in self._by_organization.values():
            for subscription in listeners:
                subscription.close()
