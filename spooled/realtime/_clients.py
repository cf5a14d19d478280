"""Realtime for threads: the same feed, on an event loop in a thread of its own."""

from __future__ import annotations

import collections
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spooled.errors import SpooledError
from spooled.realtime._access import Access
from spooled.realtime._async_clients import BACKLOG, BUFFERED
from spooled.realtime._dispatcher import Dispatcher
from spooled.realtime._filters import SubscriptionFilter, as_filter
from spooled.realtime._listeners import Handler, Listeners, StateHandler
from spooled.realtime._loop_thread import LoopThread
from spooled.realtime._reconnect_policy import ReconnectOptions
from spooled.realtime._source import Source
from spooled.realtime._subscription import Subscription
from spooled.realtime.events import ConnectionState, RealtimeEvent

if TYPE_CHECKING:
    from typing import Self

_log = logging.getLogger("spooled.realtime")


class EventStream:
    """The events of a client, from its making on. An iterator that waits."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._events: collections.deque[RealtimeEvent] = collections.deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: SpooledError | None = None
        self._lost = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RealtimeEvent:
        with self._changed:
            waits = not self._events and not self._ended
        if waits:
            self._begin()
        with self._changed:
            while not self._events:
                if self._ended:
                    error, self._error = self._error, None
                    if error is not None:
                        raise error
                    raise StopIteration
                self._changed.wait()
            return self._events.popleft()

    def close(self) -> None:
        """Take no more events. A thread that waits for one stops waiting."""
        self._finish(None)
        with self._changed:
            self._events.clear()

    def _put(self, event: RealtimeEvent) -> None:
        with self._changed:
            if self._ended:
                return
            if len(self._events) >= BUFFERED:
                self._events.popleft()
                if self._lost == 0:
                    _log.warning("realtime: a reader is too slow, and events are lost to it")
                self._lost += 1
            self._events.append(event)
            self._changed.notify_all()

    def _finish(self, error: SpooledError | None) -> None:
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                self._changed.notify_all()


class Realtime:
    """Tells a program what happens on the server. Safe to use from several threads.

    Everything is best effort (contract: realtime §1): what happens while there is no connection is lost, so read
    the state anew when it is `connected` again. Handlers are called one after the other, on a thread of the client's;
    one that raises is logged. A connected client keeps two threads: disconnect it at the end.
    """

    def __init__(self, source: Source, access: Access, options: ReconnectOptions, *, whole: bool) -> None:
        self._listeners = Listeners(whole=whole)
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._subscription = Subscription(
            source, access, options, deliver=self._deliver, changed=self._tell, over=self._finish
        )
        self._moving = False
        self._backlog: collections.deque[RealtimeEvent] | None = collections.deque(maxlen=BACKLOG)
        self._reading = threading.Lock()  # the streams and the backlog
        self._lock = threading.RLock()  # connecting and disconnecting
        self._loop: LoopThread | None = None
        self._dispatcher: Dispatcher | None = None

    def connect(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Connect. Nothing happens when it is connected already, but that the filter is put in force.

        Args:
            filter: Replaces the subscriptions. Default: they stay as they are; with none, everything is told.

        Raises:
            AuthenticationError: The credential is refused.
            NetworkError: The server was not reached. Only this first attempt raises; a connection that is lost
                later is made again.
            SpooledError: Another reason.
        """
        wanted = None if filter is None else as_filter(filter)
        with self._lock:
            if wanted is not None:
                self._subscription.subscriptions.replace(wanted)
            if self._loop is None:
                self._loop = LoopThread()
                self._dispatcher = Dispatcher()
            else:
                self._loop.call(self._subscription.resubscribe())
            try:
                self._loop.call(self._subscription.open())
            except BaseException:
                self._let_go()
                raise

    def disconnect(self) -> None:
        """Disconnect, and end all iterators of `events()`."""
        with self._lock:
            self._let_go()

    def reconnect(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Connect anew. Subscriptions, handlers and iterators stay.

        Args:
            filter: As in `connect`.

        Raises:
            SpooledError: As `connect`.
        """
        with self._lock:
            self._moving = True
            try:
                if self._loop is not None:
                    self._loop.call(self._subscription.close())
            finally:
                self._moving = False
            self.connect(filter)

    def subscribe(self, filter: SubscriptionFilter | Mapping[str, Any]) -> None:  # noqa: A002 - the official name
        """Want these events too.

        Args:
            filter: `SubscriptionFilter(queue=..., job_id=...)`, or a mapping of that. Without any subscription all
                events are told.

        Raises:
            ValidationError: A field breaks a rule.
        """
        wanted = as_filter(filter)
        with self._lock:
            self._subscription.subscriptions.add(wanted)
            self._resubscribe()

    def unsubscribe(self, filter: SubscriptionFilter | Mapping[str, Any] | None = None) -> None:  # noqa: A002 - the official name
        """Forget a subscription.

        Args:
            filter: As it was subscribed to. Default: all of them.
        """
        unwanted = as_filter(filter)
        with self._lock:
            self._subscription.subscriptions.remove(unwanted)
            self._resubscribe()

    def on(self, type: str, handler: Handler) -> Callable[[], None]:  # noqa: A002 - the official name
        """Call a function for each event of a type.

        Args:
            type: Such as `job.completed`; see `EVENT_TYPES`.
            handler: A function.

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
        """Call a function for each event of any type. Returns a function that takes it back."""
        return self._listeners.on_event(handler)

    def on_state_change(self, handler: StateHandler) -> Callable[[], None]:
        """Call a function with each new state. Returns a function that takes it back."""
        return self._listeners.on_state_change(handler)

    def events(self) -> EventStream:
        """Return the events from now on, for `for`. Connects if that has not been done.

        The first iterator also gets what came since `connect()`, if no handler did: the latest 100 events.

        Ends after `disconnect()` and when there is nothing more to tell: the stream of a job ends with the job.
        When the connection is lost for good, the iterator raises the reason.
        """
        stream = EventStream(self._begin)
        with self._reading:
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

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def _begin(self) -> None:
        if self._subscription.state is ConnectionState.DISCONNECTED:
            self.connect()

    def _resubscribe(self) -> None:
        if self._loop is not None:
            self._loop.call(self._subscription.resubscribe())

    def _let_go(self) -> None:
        loop, self._loop = self._loop, None
        dispatcher, self._dispatcher = self._dispatcher, None
        if loop is not None:
            self._dispatcher = dispatcher  # for the last state
            loop.call(self._subscription.close())
            self._dispatcher = None
            loop.stop()
        if dispatcher is not None:
            dispatcher.stop()
        self._finish(None)

    # --- on the loop's thread -------------------------------------------------------------------------------

    async def _deliver(self, event: RealtimeEvent) -> None:
        calls = self._listeners.calls(event)
        with self._reading:
            for stream in tuple(self._streams):
                stream._put(event)
            if self._backlog is not None and not calls:
                self._backlog.append(event)
        dispatcher = self._dispatcher
        if dispatcher is not None:
            for handler, argument in calls:
                dispatcher.put(handler, argument)

    def _tell(self, state: ConnectionState) -> None:
        dispatcher = self._dispatcher
        if dispatcher is not None:
            for handler in self._listeners.state_handlers():
                dispatcher.put(handler, state)

    def _finish(self, error: SpooledError | None) -> None:
        if not self._moving:
            with self._reading:
                streams = tuple(self._streams)
            for stream in streams:
                stream._finish(error)
