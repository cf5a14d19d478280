"""Which page of a list to ask for next, so that no entry is lost while the list changes. Pure: no I/O and no clock.

Pages are numbered by offset (contract api-v1 §1.4). When entries before the offset disappear meanwhile, the rest moves
forward, and a reader that only adds to the offset skips some. When entries appear there, it meets some twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from spooled.models import Page

PAGE_SIZE = 100
"""The largest page of most lists."""


class Entry(Protocol):
    """What lists consist of."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


E = TypeVar("E", bound=Entry)


class OldestFirst:
    """Page through entries in the order in which they were created: send `query()`, `take` the answer, until `done`.

    The offset counts from the creation time of the last entry seen, not from the beginning, so that what happens to
    earlier entries does not matter, and new ones are met at the end. Only among entries that were created at the same
    moment, and where the server is too old to know `created_after`, an offset is needed; then each page begins
    with an entry that was seen before, which proves that there is no gap. Without the proof it goes back a page.

    Args:
        since: Leave out what was created before this moment.
        size: Entries of a page.
    """

    def __init__(self, since: datetime | None = None, size: int = PAGE_SIZE) -> None:
        self._since = since
        self._size = size
        self._offset = 0
        self._seen: dict[str, datetime] = {}
        self.done = False

    def query(self) -> dict[str, Any]:
        """Return the parameters of the next request."""
        asked = {
            "order_by": "created_at",
            "order_dir": "asc",
            "limit": self._size,
            "offset": self._offset,
            "created_after": self._since,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def take(self, page: Page[E]) -> list[E]:
        """Return the entries of the answer that are new, and decide on the next request."""
        without_gap = self._offset == 0 or (bool(page) and page[0].id in self._seen)
        new = {entry.id: entry for entry in page if entry.id not in self._seen}
        self._seen.update((entry.id, entry.created_at) for entry in new.values())
        if not without_gap:
            self._offset = max(0, self._offset - self._size)
        elif page.is_last(self._size):
            self.done = True
        elif not self._advance(page):
            self._offset += max(1, len(page) - 1)
        return list(new.values())

    def _advance(self, page: Page[E]) -> bool:
        """Move the beginning to the last entry, if that is of a later moment."""
        if page.has_more is None:
            # Too old: it lists the newest first, whatever it is asked for.
            return False
        # A little earlier: the server's times have more digits than ours.
        since = page[-1].created_at - timedelta(microseconds=1)
        if self._since is not None and since <= self._since:
            return False
        self._since, self._offset = since, 0
        self._seen = {one: created for one, created in self._seen.items() if created >= since}
        return True
