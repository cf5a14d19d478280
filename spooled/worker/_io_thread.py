"""The thread on which engines do their I/O, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from spooled.daemon_loops import held_at_exit
from spooled.worker._completion import Completion
from spooled.worker._log import WorkerLogger

logger = WorkerLogger("spooled.worker")

Main = Callable[[], Coroutine[Any, Any, None]]


def engine_loop() -> asyncio.AbstractEventLoop:
    """Return a loop for a thread of one's own, as the engines of workers have it: the fastest that is installed."""
    return new_io_loop(fast=True)


def new_io_loop(*, fast: bool) -> asyncio.AbstractEventLoop:
    """Return uvloop's where it is installed and speed is wanted, else asyncio's own. The user's loop stays as it is."""
    if fast and importlib.util.find_spec("uvloop") is not None:
        from spooled.worker._fast_loop import FastLoop

        return FastLoop()
    return asyncio.new_event_loop()


class IoThread:
    """Runs coroutines on a new loop in a daemon thread, until the last of them has ended.

    Args:
        name: The thread's name.
        loop: The loop to run; closed at the end.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._mains: list[tuple[Main, Completion]] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def add(self, main: Main, ending: Completion) -> None:
        """Have `main` run, and `ending` finish with it; called before `start`."""
        self._mains.append((main, ending))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> bool:
        """Close the loop of a thread that was not started. False when it was."""
        if self._thread.ident is not None:
            return False
        self.loop.close()
        return True

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call on the loop, soon. Does nothing once the thread has ended. Safe in signal handlers."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        # The last one to end is told so only after the loop was closed.
        last: tuple[Completion, BaseException | None] | None = None
        running = len(self._mains)

        async def follow(main: Main, ending: Completion) -> None:
            nonlocal last, running
            error: BaseException | None = None
            try:
                await main()
            except BaseException as raised:
                error = raised
            running -= 1
            if running:
                ending.finish(error)
            else:
                last = ending, error

        async def run_all() -> None:
            await asyncio.gather(*(follow(main, ending) for main, ending in self._mains))

        failed: BaseException | None = None
        try:
            with held_at_exit(self.loop):
                self.loop.run_until_complete(run_all())
        except BaseException as error:
            failed = error
            logger.critical("the worker's I/O loop ended unexpectedly", exc_info=error)
        finally:
            try:
                _close(self.loop)
            except Exception:
                logger.exception("closing the worker's I/O loop failed")
            if last is not None:
                last[0].finish(last[1])
            for _, ending in self._mains:
                if not ending.finished:
                    ending.finish(failed)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
