"""Server-sent events: bytes in, events out, by the WHATWG rules. No I/O.

Ids and reconnection times are read over: a Spooled stream has neither (contract realtime §4).
"""

from __future__ import annotations

from typing import NamedTuple

EVENT_LIMIT = 262_144
"""The largest event in bytes that is kept; a stream that never ends a line must not fill the memory."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event.

    Attributes:
        name: The `event:` field, `message` when there was none.
        data: The `data:` lines, joined by line feeds.
    """

    name: str
    data: bytes


class EventParser:
    """Reads one stream, in whatever pieces it arrives.

    Args:
        limit: An event with a longer line, or with more data, is left out. What follows it is read as usual.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._partial_too_long = False
        self._after_cr = False
        self._first_line = True
        # The event that is being read.
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._dropped = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that these bytes complete."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return []
        self._after_cr = chunk.endswith(b"\r")
        events: list[ServerSentEvent] = []
        # Bytes, unlike text, split at CR, LF and CRLF only.
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith((b"\r", b"\n")) else lines.pop()
        lines[0] = bytes(self._partial) + lines[0]
        too_long, self._partial_too_long = self._partial_too_long, False
        self._partial.clear()
        for line in lines:
            if too_long or len(line) > self._limit:
                self._dropped = True
            elif line:
                self._read(line.removeprefix(_BOM) if self._first_line else line)
            else:
                self._end_event(events)
            too_long = self._first_line = False
        self._keep(rest)
        return events

    def _keep(self, piece: bytes) -> None:
        self._partial += piece
        if len(self._partial) > self._limit:
            self._partial_too_long = True
            self._partial.clear()

    def _read(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1
            if self._size > self._limit:
                self._dropped = True
                self._data.clear()
            if not self._dropped:
                self._data.append(value)
        elif field == b"event":
            self._name = value

    def _end_event(self, events: list[ServerSentEvent]) -> None:
        if self._data and not self._dropped:
            name = self._name.decode(errors="replace")
            events.append(ServerSentEvent(name or "message", b"\n".join(self._data)))
        self._name = b""
        self._data.clear()
        self._size = 0
        self._dropped = False
