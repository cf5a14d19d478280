"""What the tests of realtime share: waiting for events in either client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from spooled.realtime import RealtimeEvent
from tests.waiting import HOPELESS


async def take(stream: Any, wanted: str, count: int = 1) -> list[RealtimeEvent]:
    """The next `count` events of a type."""
    found: list[RealtimeEvent] = []
    while len(found) < count:
        event = await following(stream)
        if event.type == wanted:
            found.append(event)
    return found


async def following(stream: Any) -> RealtimeEvent:
    """The next event. Raises StopAsyncIteration at the end, for either kind of iterator."""
    event: RealtimeEvent
    if hasattr(stream, "__anext__"):
        async with asyncio.timeout(HOPELESS):
            event = await anext(stream)
            return event
    ended = object()
    got = await asyncio.wait_for(asyncio.to_thread(next, stream, ended), HOPELESS)
    if got is ended:
        raise StopAsyncIteration
    assert isinstance(got, RealtimeEvent)
    return got


async def the_end_of(stream: Any) -> None:
    """Wait until an iterator ends."""
    try:
        while True:
            await following(stream)
    except StopAsyncIteration:
        pass


class Calls(list[Any]):
    """A handler that notes what it gets, and can be waited for."""

    def __init__(self, then: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._then = then
        self._changed = threading.Condition()

    def __call__(self, argument: Any) -> Any:
        with self._changed:
            self.append(argument)
            self._changed.notify_all()
        return None if self._then is None else self._then(argument)

    async def reach(self, count: int) -> None:
        """Wait until it was called so often."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: len(self) >= count, HOPELESS)

        assert await asyncio.to_thread(wait), f"{len(self)} calls: {list(self)}"
