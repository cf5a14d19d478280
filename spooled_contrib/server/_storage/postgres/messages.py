"""What servers on one database send each other when a transaction commits.

A notification of PostgreSQL holds less than 8000 bytes, so a message travels in parts. The parts of one transaction
arrive together and in order; numbers keep equal ones apart, which PostgreSQL would fold into one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from spooled_contrib.server._events import Event

LARGEST_PART = 7_800
"""Bytes of text in one notification, without the few that number it."""


class _WireEvent(Struct, array_like=True):
    organization_id: str
    queue_name: str
    job_id: str
    type: str
    data: dict[str, Raw]


class _Message(Struct, array_like=True):
    told: list[tuple[str, str]]
    events: list[_WireEvent]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Message).decode


def pack(sender: str, told: list[tuple[str, str]], events: list[Event]) -> list[str]:
    """Return the notifications for a transaction: `sender part/parts text`."""
    whole = _encode([told, [[e.organization_id, e.queue_name, e.job_id, e.type, e.data] for e in events]])
    pieces = list(_pieces(whole))
    return [f"{sender} {number}/{len(pieces)} {piece}" for number, piece in enumerate(pieces, 1)]


def _pieces(whole: bytes) -> list[str]:
    found, start = [], 0
    while start < len(whole):
        end = min(start + LARGEST_PART, len(whole))
        while end < len(whole) and whole[end] & 0xC0 == 0x80:
            end -= 1  # a character is not cut in two
        found.append(whole[start:end].decode())
        start = end
    return found


class Inbox:
    """Puts the parts of messages together. `own` messages are left out."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._parts: dict[str, list[str]] = {}

    def take(self, payload: str) -> tuple[list[tuple[str, str]], list[Event]] | None:
        """Return what was told, and the events, when this part is the last one of a message.

        Raises:
            ValueError: it is none of our messages.
        """
        sender, count, text = payload.split(" ", 2)
        if sender == self._own:
            return None
        number, total = (int(part) for part in count.split("/"))
        parts = self._parts.setdefault(sender, [])
        if number == 1:
            parts.clear()
        parts.append(text)
        if number < total:
            return None
        del self._parts[sender]
        if len(parts) != total:
            raise ValueError("parts of the message are missing")
        message = _decode("".join(parts))
        return message.told, [_event(event) for event in message.events]


def _event(wire: _WireEvent) -> Event:
    data: dict[str, Any] = {
        # A result is passed on as it was sent; numbers of any length stay what they are.
        name: value.copy() if name == "result" else msgspec.json.decode(value)
        for name, value in wire.data.items()
    }
    return Event(wire.organization_id, wire.queue_name, wire.job_id, wire.type, data)
