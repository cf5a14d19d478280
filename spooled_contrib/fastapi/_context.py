"""Context variables of one job in several contexts: what is set in one is carried over into the next.

A dependency runs in a task and a plain handler in a thread; each has a context of its own, in which alone the tokens
are good that its `ContextVar.set` returned. So they cannot share one, and see the same values all the same.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, Token, copy_context
from typing import Any

_UNSET = object()

Changes = dict[ContextVar[Any], Any]
"""Variables and their values; `_UNSET` for one that has none any more."""


def changes_since(before: Context) -> Changes:
    """Return what was set, or set back, in the current context since `before` was copied from it."""
    now = copy_context()
    changes: Changes = {
        variable: value for variable, value in now.items() if before.get(variable, _UNSET) is not value
    }
    changes.update((variable, _UNSET) for variable in before if variable not in now)
    return changes


class Carrier:
    """Repeats, in the current context, changes that were made in another. One for each context."""

    def __init__(self) -> None:
        self._tokens: dict[ContextVar[Any], Token[Any]] = {}

    def apply(self, changes: Changes) -> None:
        """Set each variable as it was set there."""
        for variable, value in changes.items():
            if value is not _UNSET:
                token = variable.set(value)
                if token.old_value is Token.MISSING:
                    self._tokens[variable] = token
            elif variable in self._tokens:
                variable.reset(self._tokens.pop(variable))
