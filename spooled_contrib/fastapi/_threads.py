"""Plain dependencies of jobs, in threads of their own.

FastAPI runs plain functions in threads that it shares with plain endpoints: jobs that wait in there would leave
endpoints without any. And it waits for them, whatever happens: an application could not end before they do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context, copy_context
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from spooled_contrib.fastapi._context import Carrier, Changes, changes_since

THREADS = 100
"""As many as one queue may have jobs at the same time (contract api-v1 §3.7)."""

T = TypeVar("T")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("spooled_job_threads")


def in_own_threads(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function, or plain generator function, as one for coroutines; anything else as it is."""
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
        def in_thread() -> tuple[Any, Changes]:
            before = copy_context()
            return function(*args, **kwargs), changes_since(before)

        value, changes = await _run(in_thread)
        Carrier().apply(changes)
        return value

    return call


def _generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        manager = _InOneContext(contextmanager(function)(*args, **kwargs))
        carrier = Carrier()
        value, changes = await _run(manager.enter)
        carrier.apply(changes)
        before = copy_context()

        async def leave(error: BaseException | None) -> bool:
            swallowed: bool
            swallowed, changes = await _run(functools.partial(manager.leave, error, changes_since(before)))
            carrier.apply(changes)
            return swallowed

        try:
            yield value
        except BaseException as error:
            if not await leave(error):
                raise
        else:
            await leave(None)

    return generate


class _InOneContext:
    """Enters and leaves a context manager, in threads, in the same context: its tokens are good in that one only.

    When nobody waits for the entering any more, it is left again, right there.
    """

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager
        self._carrier = Carrier()
        self._context: Context
        self.abandoned = False

    def enter(self) -> tuple[Any, Changes]:
        self._context = copy_context()
        value = self._context.run(self._manager.__enter__)
        if self.abandoned:
            self._context.run(self._manager.__exit__, None, None, None)
        return value, self._context.run(changes_since, copy_context())

    def leave(self, error: BaseException | None, changes: Changes) -> tuple[bool, Changes]:
        self._context.run(self._carrier.apply, changes)
        before = self._context.copy()
        arguments = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        swallowed = self._context.run(self._manager.__exit__, *arguments)
        return bool(swallowed), self._context.run(changes_since, before)


async def _run(function: Callable[[], T]) -> T:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    try:
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
    except anyio.get_cancelled_exc_class():
        owner = getattr(function, "__self__", None)
        if isinstance(owner, _InOneContext):
            owner.abandoned = True
        raise
