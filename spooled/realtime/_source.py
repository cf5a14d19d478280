"""What a feed reads: a kind of connection that events come over."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

from spooled.realtime._filters import SubscriptionFilter
from spooled.realtime.events import RealtimeEvent


class Connection(Protocol):
    """An open connection."""

    def events(self) -> AsyncGenerator[RealtimeEvent]:
        """The events as they come, until the server ends the connection.

        Raises:
            SpooledError: The connection broke.
        """

    async def change(self, wanted: SubscriptionFilter) -> bool:
        """Ask for other events; False when that takes a new connection."""

    @property
    def finished(self) -> bool:
        """Whether an end by the server is for good, because there is nothing more to tell."""


class Source(Protocol):
    """Makes connections.

    Attributes:
        resets_backoff_on_data: Whether a connection works from its first event on, and not only when it has lasted.
    """

    resets_backoff_on_data: bool

    def open(self, wanted: SubscriptionFilter) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Return a connection that tells the events of `wanted`, and perhaps more.

        Raises:
            SpooledError: It was refused, or did not come about.
        """

    async def aclose(self) -> None:
        """Give back what is kept between connections."""
