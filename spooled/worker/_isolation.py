"""The context variables of jobs: each job gets a copy of its own of what was set where the worker was started."""

from __future__ import annotations

import decimal
import sys
from contextvars import Context, copy_context


class JobScopes:
    """Makes the context (`contextvars`) of each job, a copy of the one in which this object was made.

    Args:
        on_loop: Whether jobs run on the event loop that is running here, and not in threads.
    """

    def __init__(self, *, on_loop: bool) -> None:
        self._base = copy_context()
        if not on_loop:
            _leave_loop(self._base)
        # The variable of `decimal` holds an object that is changed in place, so copies of a context share it.
        self._decimal = next((one for one in self._base.values() if isinstance(one, decimal.Context)), None)

    def new(self) -> Context:
        """Return a fresh context for one job. May be called from any thread."""
        scope = self._base.copy()
        if self._decimal is not None:
            scope.run(decimal.setcontext, self._decimal.copy())
        return scope


def _leave_loop(context: Context) -> None:
    """Take out of a context that a loop is running, which anyio would believe in a thread, too."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
