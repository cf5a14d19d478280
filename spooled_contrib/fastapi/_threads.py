"""Plain dependencies of jobs, in threads of their own.

FastAPI runs plain functions in threads that it shares with plain endpoints: jobs that wait in there would leave
endpoints without any. And it waits for them, whatever happens: an application could not end before they do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

THREADS = 100
"""As many as one queue may have jobs at the same time (contract api-v1 §3.7)."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("spooled_job_threads")


def in_own_threads(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function, or plain generator function, as one for coroutines; anything else as it is."""
    if inspect.isgeneratorfunction(function):
        return _generator(function)
    if inspect.isfunction(function) and not (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        return _plain(function)
    # Classes and other objects: FastAPI knows best how to call them.
    return function


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _run(functools.partial(function, *args, **kwargs))

    return call


def _generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        manager = contextmanager(function)(*args, **kwargs)
        value = await _run(_Entering(manager))
        try:
            yield value
        except BaseException as error:
            if not await _run(functools.partial(manager.__exit__, type(error), error, error.__traceback__)):
                raise
        else:
            await _run(functools.partial(manager.__exit__, None, None, None))

    return generate


class _Entering:
    """Enters a context manager in a thread; leaves it again, right there, when nobody waits for it any more."""

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager
        self.abandoned = False

    def __call__(self) -> Any:
        value = self._manager.__enter__()
        if self.abandoned:
            self._manager.__exit__(None, None, None)
        return value


async def _run(function: Callable[[], Any]) -> Any:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    try:
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
    except anyio.get_cancelled_exc_class():
        if isinstance(function, _Entering):
            function.abandoned = True
        raise
