"""Who is told about events and states. Safe to use from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from spooled.realtime.events import ConnectionState, RealtimeEvent, event_type

Handler = Callable[[Any], object]
"""Gets an event's data, or the event; a coroutine function is awaited by the asynchronous clients."""

StateHandler = Callable[[ConnectionState], object]


class Listeners:
    """Handlers by type of event.

    Args:
        whole: Whether those of one type get the event; otherwise its data.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._by_type: dict[str, tuple[Handler, ...]] = {}
        self._of_all: tuple[Handler, ...] = ()
        self._of_states: tuple[StateHandler, ...] = ()

    def on(self, type: str, handler: Handler) -> Callable[[], None]:  # noqa: A002 - the official name
        """See the clients."""
        name = event_type(type)
        _check(handler)
        with self._lock:
            self._by_type[name] = (*self._by_type.get(name, ()), handler)
        return lambda: self.off(name, handler)

    def off(self, type: str, handler: Handler | None = None) -> None:  # noqa: A002 - the official name
        """See the clients."""
        name = event_type(type)
        with self._lock:
            kept = () if handler is None else _without(self._by_type.get(name, ()), handler)
            self._by_type[name] = kept

    def on_event(self, handler: Handler) -> Callable[[], None]:
        """See the clients."""
        _check(handler)
        with self._lock:
            self._of_all = (*self._of_all, handler)

        def forget() -> None:
            with self._lock:
                self._of_all = _without(self._of_all, handler)

        return forget

    def on_state_change(self, handler: StateHandler) -> Callable[[], None]:
        """See the clients."""
        _check(handler)
        with self._lock:
            self._of_states = (*self._of_states, handler)

        def forget() -> None:
            with self._lock:
                self._of_states = _without(self._of_states, handler)

        return forget

    def calls(self, event: RealtimeEvent) -> list[tuple[Handler, object]]:
        """Return the handlers to call, and with what."""
        argument = event if self._whole else event.data
        found: list[tuple[Handler, object]] = [
            (handler, argument) for handler in self._by_type.get(event.type, ())
        ]
        found += [(handler, event) for handler in self._of_all]
        return found

    def state_handlers(self) -> tuple[StateHandler, ...]:
        """Return the handlers of states."""
        return self._of_states


def _check(handler: object) -> None:
    if not callable(handler):
        raise TypeError(f"a handler is a function, got {type(handler).__name__}")


def _without(handlers: tuple[Handler, ...], handler: Handler) -> tuple[Handler, ...]:
    """`handlers` without the first that is `handler`: the same one may have been registered twice."""
    for index, each in enumerate(handlers):
        if each == handler:
            return handlers[:index] + handlers[index + 1 :]
    return handlers
