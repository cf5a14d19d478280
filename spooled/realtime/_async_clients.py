"""Realtime for coroutines."""

from __future__ import annotations

import asyncio
import collections
import inspect
import logging
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spooled.errors import SpooledError
from spooled.realtime._access import Access
from spooled.realtime._filters import SubscriptionFilter, as_filter
from spooled.realtime._listeners import Handler, Listeners, StateHandler
from spooled.realtime._reconnect_policy import ReconnectOptions
from spooled.realtime._source import Source
from spooled.realtime._subscription import Subscription
from spooled.realtime.events import ConnectionState, RealtimeEvent

if TYPE_CHECKING:
    from typing import Self

_log = logging.getLogger("spooled.realtime")

BUFFERED = 1000
"""Events that an iterator keeps for a reader that is slow; then the oldest are lost."""

BACKLOG = 100
"""Events that are kept for the first iterator when it is made after `connect()`, and no handler wants them."""


class AsyncEventStream:
    """The events of a client, from its making on. An asynchronous iterator."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin
        self._events: collections.deque[RealtimeEvent] = collections.deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._error: SpooledError | None = None
        self._lost = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RealtimeEvent:
        while not self._events:
            if self._ended:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            await self._begin()
            self._wake.clear()
            if not self._events and not self._ended:
                await self._wake.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        """Take no more events."""
        self._finish(None)
        self._events.clear()

    def _put(self, event: RealtimeEvent) -> None:
        if self._ended:
            return
        if len(self._events) >= BUFFERED:
            self._events.popleft()
            if self._lost == 0:
                _log.warning("realtime: a reader is too slow, and events are lost to it")
            self._lost += 1
        self._events.append(event)
        self._wake.set()

    def _finish(self, error: SpooledError | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            self._wake.set()


class AsyncRealtime:
    """Tells a program what happens on the server. For one event loop.

    Everything is best effort (contract: realtime §1): what happens while there is no connection is lost, so read
    the state anew when it is `connected` again. Handlers are called one after the other; one that raises is logged.
    """

    def __init__(self, source: Source, access: Access, options: ReconnectOptions, *, whole: bool) -> None:
        self._listeners = Listeners(whole=whole)
        self._streams: weakref.WeakSet[AsyncEventStream] = weakref.WeakSet()
        self._subscription = Subscription(
            source, access, options, deliver=self._deliver, changed=self._tell, over=self._finish
        )
        self._moving = False
        self._backlog: collections.deque[RealtimeEvent] | None = collections.deque(maxlen=BACKLOG)

    async def connect(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Connect. Nothing happens when it is connected already, but that the filter is put in force.

        Args:
            filter: Replaces the subscriptions. Default: they stay as they are; with none, everything is told.

        Raises:
            AuthenticationError: The credential is refused.
            NetworkError: The server was not reached. Only this first attempt raises; a connection that is lost
                later is made again.
            SpooledError: Another reason.
        """
        if filter is not None:
            self._subscription.subscriptions.replace(as_filter(filter))
            await self._subscription.resubscribe()
        await self._subscription.open()

    async def disconnect(self) -> None:
        """Disconnect, and end all iterators of `events()`."""
        await self._subscription.close()

    async def reconnect(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Connect anew. Subscriptions, handlers and iterators stay.

        Args:
            filter: As in `connect`.

        Raises:
            SpooledError: As `connect`.
        """
        self._moving = True
        try:
            await self._subscription.close()
        finally:
            self._moving = False
        await self.connect(filter)

    async def subscribe(self, filter: SubscriptionFilter | Mapping[str, Any]) -> None:  # noqa: A002 - the official name
        """Want these events too.

        Args:
            filter: `SubscriptionFilter(queue=..., job_id=...)`, or a mapping of that. Without any subscription all
                events are told.

        Raises:
            ValidationError: A field breaks a rule.
        """
        self._subscription.subscriptions.add(as_filter(filter))
        await self._subscription.resubscribe()

    async def unsubscribe(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Forget a subscription.

        Args:
            filter: As it was subscribed to. Default: all of them.
        """
        self._subscription.subscriptions.remove(as_filter(filter))
        await self._subscription.resubscribe()

    def on(self, type: str, handler: Handler) -> Callable[[], None]:  # noqa: A002 - the official name
        """Call a handler for each event of a type.

        Args:
            type: Such as `job.completed`; see `EVENT_TYPES`.
            handler: A function or coroutine function.

        Returns:
            A function that takes it back.

        Raises:
            ValueError: There is no such type.
        """
        return self._listeners.on(type, handler)

    def off(self, type: str, handler: Handler | None = None) -> None:  # noqa: A002 - the official name
        """Take a handler back; all of the type by default."""
        self._listeners.off(type, handler)

    def on_event(self, handler: Callable[[RealtimeEvent], object]) -> Callable[[], None]:
        """Call a handler for each event of any type. Returns a function that takes it back."""
        return self._listeners.on_event(handler)

    def on_state_change(self, handler: StateHandler) -> Callable[[], None]:
        """Call a function with each new state. Returns a function that takes it back."""
        return self._listeners.on_state_change(handler)

    def events(self) -> AsyncEventStream:
        """Return the events from now on, for `async for`. Connects if that has not been done.

        The first iterator also gets what came since `connect()`, if no handler did: the latest 100 events.

        Ends after `disconnect()` and when there is nothing more to tell: the stream of a job ends with the job.
        When the connection is lost for good, the iterator raises the reason.
        """
        stream = AsyncEventStream(self._begin)
        backlog, self._backlog = self._backlog, None
        for event in backlog or ():
            stream._put(event)
        self._streams.add(stream)
        return stream

    @property
    def state(self) -> ConnectionState:
        """How it is connected."""
        return self._subscription.state

    def get_state(self) -> ConnectionState:
        """Return how it is connected."""
        return self._subscription.state

    @property
    def last_error(self) -> SpooledError | None:
        """The latest trouble; None when there was none."""
        return self._subscription.last_error

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def _begin(self) -> None:
        if self._subscription.state is ConnectionState.DISCONNECTED:
            await self._subscription.open()

    async def _deliver(self, event: RealtimeEvent) -> None:
        for stream in tuple(self._streams):
            stream._put(event)
        calls = self._listeners.calls(event)
        if self._backlog is not None and not calls:
            self._backlog.append(event)
        for handler, argument in calls:
            try:
                waiting = handler(argument)
                if inspect.isawaitable(waiting):
                    await waiting
            except Exception:
                _log.exception("realtime: a handler of %s raised", event.type)

    def _tell(self, state: ConnectionState) -> None:
        for handler in self._listeners.state_handlers():
            try:
                handler(state)
            except Exception:
                _log.exception("realtime: a handler of states raised")

    def _finish(self, error: SpooledError | None) -> None:
        if not self._moving:
            for stream in tuple(self._streams):
                stream._finish(error)
