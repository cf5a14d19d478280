"""Tells the children of Celery's pool that their worker ends: they wait for a server that is away only so long then.

Celery tells its children nothing: a warm shutdown waits for their tasks, and these may wait for the server.
"""

from __future__ import annotations

import mmap

# Shared with the children, because it was made before they were forked; a signal handler may write it.
_flag = mmap.mmap(-1, 1)


def announce(**_: object) -> None:
    """Say that the worker ends, to this process and to its children."""
    _flag[0] = 1


def announced() -> bool:
    """Return whether the worker of this process ends."""
    return _flag[0] == 1
