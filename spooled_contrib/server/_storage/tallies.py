"""Counters that many operations share, written once for a whole group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Tallies:
    """Sums of amounts by statement and key. See `Tx.tally`."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, tuple[object, ...]], int] = {}

    def add(self, sql: str, amount: int, key: Sequence[object]) -> None:
        counter = (sql, tuple(key))
        self._sums[counter] = self._sums.get(counter, 0) + amount

    def clear(self) -> None:
        self._sums.clear()

    def statements(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Each statement and its parameters, in an order that is the same for every server."""
        for (sql, key), amount in sorted(self._sums.items(), key=repr):
            yield sql, (amount, *key)
