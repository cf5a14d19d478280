"""New ids: random UUIDs (version 4), made many at a time.

Each call of the kernel for random bytes lets go of the interpreter's lock, and a batch of jobs would do that a hundred
times.
"""

from __future__ import annotations

import os

_AT_ONCE = 256
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))

_ready: list[str] = []


def new_id() -> str:
    """A UUID that nobody else has and nobody can guess. May be called from any thread."""
    try:
        return _ready.pop()
    except IndexError:
        fresh = _make()
        found = fresh.pop()
        _ready.extend(fresh)
        return found


def _make() -> list[str]:
    digits = os.urandom(16 * _AT_ONCE).hex()
    return [
        f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{_VARIANTS[one[16]]}{one[17:20]}-{one[20:]}"
        for one in (digits[start : start + 32] for start in range(0, len(digits), 32))
    ]


# A child must not hand out what its parent has still in store.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)
