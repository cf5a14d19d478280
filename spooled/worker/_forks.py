"""The end of processes that a handler forks and lets return."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn


def end_forks(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a plain handler so that a child process that it forked ends where the handler ends.

    A child has none of the worker's threads. One that returned from its handler would wait for ever for the next
    job, and its acks would go through the parent's sockets.
    """

    def run(ctx: Any) -> Any:
        pid = os.getpid()
        try:
            value = handler(ctx)
        except BaseException as error:
            if os.getpid() != pid:
                _end(error)
            raise
        if os.getpid() != pid:
            _end(None)
        return value

    return run


def end_forks_async(handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Wrap a coroutine handler; see `end_forks`."""

    async def run(ctx: Any) -> Any:
        pid = os.getpid()
        try:
            value = await handler(ctx)
        except BaseException as error:
            if os.getpid() != pid:
                _end(error)
            raise
        if os.getpid() != pid:
            _end(None)
        return value

    return run


def _end(error: BaseException | None) -> NoReturn:
    """End this process without the clean-up that is the parent's, as `multiprocessing` does."""
    code: object = 0
    try:
        if isinstance(error, SystemExit):
            code = 0 if error.code is None else error.code
            if not isinstance(code, int):
                sys.stderr.write(f"{code}\n")
                code = 1
        elif error is not None:
            traceback.print_exception(error)
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else 1)
