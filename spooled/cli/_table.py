"""Aligned tables without a dependency, for terminals of any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spooled.cli._text import fit, safe_line, width

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        title: Its heading.
        right: Whether it is aligned to the right, as numbers are.
        least: The width it may be cut to when the terminal is narrow; None for what must stay whole, such as
            an id that people copy.
    """

    title: str
    right: bool = False
    least: int | None = None


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], available: int | None) -> str:
    """Return the rows as text without a line break at the end.

    Args:
        columns: The columns.
        rows: Their cells; None is shown as `-`.
        available: Terminal columns to keep within, or None for no limit. When cutting the columns that may be
            cut is not enough, each row becomes a block of `TITLE  value` lines.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([width(column.title), *(width(row[index]) for row in cells)])
        for index, column in enumerate(columns)
    ]
    if available is not None and not _shrink(columns, widths, available):
        return "\n\n".join(pairs(zip((c.title for c in columns), row, strict=True)) for row in cells)
    lines = [_line(columns, [column.title for column in columns], widths)]
    lines += [_line(columns, row, widths) for row in cells]
    return "\n".join(lines)


def pairs(items: Iterable[tuple[str, object]]) -> str:
    """`name  value` lines, the values aligned. A value that does not fit is not cut: the terminal wraps it."""
    shown = [(name, _cell(value)) for name, value in items]
    longest = max((width(name) for name, _ in shown), default=0)
    return "\n".join(f"{_pad(name, longest)}{_GAP}{value}" for name, value in shown)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else safe_line(str(value))


def _shrink(columns: Sequence[Column], widths: list[int], available: int) -> bool:
    """Cut the widest column that may be cut, one character at a time, until all fit; False when they cannot."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - available
    while excess > 0:
        candidates = [
            index
            for index, column in enumerate(columns)
            if column.least is not None and widths[index] > max(column.least, width(column.title))
        ]
        if not candidates:
            return False
        widths[max(candidates, key=lambda index: widths[index])] -= 1
        excess -= 1
    return True


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        _pad(fit(cell, room), room, right=column.right)
        for column, cell, room in zip(columns, cells, widths, strict=True)
    ]
    return _GAP.join(parts).rstrip()


def _pad(text: str, room: int, *, right: bool = False) -> str:
    fill = " " * (room - width(text))
    return fill + text if right else text + fill
