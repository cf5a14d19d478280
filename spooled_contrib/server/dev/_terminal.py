"""Lines of several programs in one terminal, each marked with whose it is."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable

_COLOURS = ("36", "33", "35", "32", "34")


class Terminal:
    """Writes whole lines, from any thread.

    Args:
        names: Whose lines there will be.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._width = max(len(name) for name in self._names)
        self._lock = threading.Lock()
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def tell(self, name: str, line: str) -> None:
        """A line of one of them."""
        mark = f"{name:<{self._width}} |"
        if self._coloured:
            mark = f"\x1b[{_COLOURS[self._names.index(name) % len(_COLOURS)]}m{mark}\x1b[0m"
        # Whoever reads may have gone; the programs go on until they are stopped.
        with self._lock:
            try:
                sys.stdout.write(f"{mark} {line}\n")
                sys.stdout.flush()
            except OSError:
                return
