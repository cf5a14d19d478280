"""Operations that are committed together, and what has to be let known after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spooled_contrib.server._events import Event, Hub
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._storage.errors import DatabaseOutageError, StorageFailedError

Waiter = tuple[Callable[[Tx], Any], "asyncio.Future[Any]"]
"""An operation, and who waits for what it returns or raises."""

Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


@dataclass
class Done:
    """Results by waiter, events for listeners, and what servers tell each other."""

    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    outage: DatabaseOutageError | None = None
    """What made the group wait, and would make others wait as long."""

    def add(self, other: Done) -> None:
        self.outcomes += other.outcomes
        self.events += other.events
        self.told += other.told
        self.outage = self.outage or other.outage

    def resolve(self, hub: Hub) -> None:
        """Let everybody know. Belongs to the event loop; what was told is heard before any waiter goes on."""
        if self.told:
            hub.hear(self.told)
        if self.events:
            hub.publish(self.events)
        for future, value, error in self.outcomes:
            if isinstance(error, StorageFailedError) and hub.database_failed is not None:
                hub.database_failed(error)
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
