"""What a realtime client wants to hear. Pure.

A server keeps one filter for a connection, so several subscriptions cannot be told to it. It is told what they
have in common, and what it sends too much is left out here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from spooled._http import _fields as fields
from spooled._http._rules import Rule, Text, body
from spooled.realtime.events import RealtimeEvent

_QUEUE = "queue"


class _QueueOrAll:
    """A queue's name, or `*` for all of them."""

    def __call__(self, value: Any) -> str | None:
        return None if value == "*" else fields.QUEUE_NAME(value)


_RULES: Mapping[str, Rule] = {_QUEUE: _QueueOrAll(), "job_id": Text(1, 255)}


@dataclasses.dataclass(frozen=True, slots=True)
class SubscriptionFilter:
    """Which events are wanted. With both fields, those that fit both.

    Attributes:
        queue: Of this queue; None or `*` for all queues.
        job_id: Of this job; None for all jobs.

    Raises:
        ValidationError: A field breaks a rule.
    """

    queue: str | None = None
    job_id: str | None = None

    def __post_init__(self) -> None:
        checked = body(_RULES, queue=self.queue, job_id=self.job_id)
        object.__setattr__(self, _QUEUE, checked.get(_QUEUE))

    def fits(self, event: RealtimeEvent) -> bool:
        """Return whether the event is wanted. What says nothing about queues or jobs is no event of a queue or job."""
        data = event.data
        return (self.queue is None or data.get("queue_name") == self.queue) and (
            self.job_id is None or data.get("job_id") == self.job_id
        )


EVERYTHING = SubscriptionFilter()


def as_filter(given: SubscriptionFilter | Mapping[str, Any] | None) -> SubscriptionFilter:
    """Return a filter out of what users pass.

    Raises:
        TypeError: It is something else, or has a field that does not exist.
        ValidationError: A field breaks a rule.
    """
    if given is None:
        return EVERYTHING
    if isinstance(given, SubscriptionFilter):
        return given
    if isinstance(given, Mapping):
        return SubscriptionFilter(**given)
    raise TypeError(f"a subscription is a SubscriptionFilter or a mapping, got {type(given).__name__}")


class Subscriptions:
    """The filters of one client. An event is wanted when one of them wants it; with none, all are wanted."""

    def __init__(self) -> None:
        self._filters: tuple[SubscriptionFilter, ...] = ()

    def add(self, wanted: SubscriptionFilter) -> None:
        """Want these events too."""
        if wanted not in self._filters:
            self._filters = (*self._filters, wanted)

    def remove(self, unwanted: SubscriptionFilter) -> None:
        """Forget a filter; `EVERYTHING` forgets all of them."""
        if unwanted == EVERYTHING:
            self._filters = ()
        self._filters = tuple(each for each in self._filters if each != unwanted)

    def replace(self, wanted: SubscriptionFilter) -> None:
        """Want only these events."""
        self._filters = (wanted,)

    def wants(self, event: RealtimeEvent) -> bool:
        """Return whether the event is passed on. Pings and errors concern everybody."""
        filters = self._filters
        return not filters or event.type in {"ping", "error"} or any(each.fits(event) for each in filters)

    @property
    def in_common(self) -> SubscriptionFilter:
        """The narrowest filter that lets through all that is wanted."""
        queues = {each.queue for each in self._filters}
        jobs = {each.job_id for each in self._filters}
        return SubscriptionFilter(
            queue=queues.pop() if len(queues) == 1 else None,
            job_id=jobs.pop() if len(jobs) == 1 else None,
        )
