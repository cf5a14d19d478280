"""The worker's own row on the server: registered, kept alive, and taken off again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

from spooled.errors import SpooledError
from spooled.worker._ack_policy import Decision, Operation, classify, wait_for
from spooled.worker._backoff import Backoff
from spooled.worker._event_dispatcher import EventDispatcher
from spooled.worker._log import WorkerLogger
from spooled.worker._requests import WorkerRequests

logger = WorkerLogger("spooled.worker")

DEREGISTER_TIMEOUT = 5.0
"""Seconds that a stopping worker spends on saying goodbye."""


LONGEST_INTERVAL = 60.0
"""The longest pause in seconds between two heartbeats, whatever the server asks for."""

_WORKER_HEARTBEAT = "heartbeat of the worker"


class WorkerHeartbeat:
    """Registers, beats and deregisters one worker id. Lives on the I/O loop.

    Args:
        requests: Sends them.
        active_jobs: How many jobs to report.
        dispatcher: Told about failures.
        longest_wait: Bound in seconds for what the server asks to wait.
    """

    def __init__(
        self,
        requests: WorkerRequests,
        active_jobs: Callable[[], int],
        dispatcher: EventDispatcher,
        longest_wait: float,
    ) -> None:
        self._requests = requests
        self._active_jobs = active_jobs
        self._event_dispatcher = dispatcher
        self._longest_wait = longest_wait
        self._interval = 10.0
        self._stopping = asyncio.Event()
        self.last_beat_at: float | None = None
        """Wall-clock seconds since the epoch of the last accepted registration or heartbeat."""

    def stop(self) -> None:
        """The worker drains: say so, and give up registering."""
        self._stopping.set()

    async def register(self) -> bool:
        """Register, for as long as it takes. False when a stop was requested first.

        Raises:
            SpooledError: The server refuses for good.
        """
        retries = Backoff(0.5, 15.0)
        before: SpooledError | None = None
        while not self._stopping.is_set():
            try:
                if not await self._unless_stopped(self._register()):
                    return False
            except SpooledError as error:
                if classify(Operation.REGISTER, error, before=before) is Decision.REFUSED:
                    raise
                before = error
                delay, when = wait_for(error, retries.next(), self._longest_wait)
                self._event_dispatcher.trouble(
                    error,
                    f"registering worker {self._requests.worker_id} failed; trying again in {when}",
                    of=Operation.REGISTER,
                )
                await self._pause(delay)
            else:
                return True
        return False

    async def beat(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            if self._stopping.is_set():
                await asyncio.sleep(self._interval)
            else:
                # A stop request cuts the wait short, so that "draining" is told at once.
                await self._pause(self._interval)
            status = "draining" if self._stopping.is_set() else "healthy"
            try:
                await self._requests.report(status, self._active_jobs())
                self.last_beat_at = time.time()
                self._event_dispatcher.recovered(_WORKER_HEARTBEAT)
            except SpooledError as error:
                if classify(Operation.HEARTBEAT, error) is Decision.LOST:
                    await self._register_again()
                else:
                    what = f"heartbeat of worker {self._requests.worker_id} failed"
                    self._event_dispatcher.trouble(error, what, of=_WORKER_HEARTBEAT)
            except Exception:
                logger.exception("heartbeat of worker %s failed unexpectedly", self._requests.worker_id)

    async def deregister(self) -> None:
        """Take the worker off the list; not worth an error when it fails, the server notices by itself."""
        with contextlib.suppress(SpooledError):
            await self._requests.deregister(DEREGISTER_TIMEOUT)

    async def _register_again(self) -> None:
        logger.warning("the server has forgotten worker %s; registering again", self._requests.worker_id)
        try:
            await self._register()
        except SpooledError as error:
            what = f"registering worker {self._requests.worker_id} again failed"
            self._event_dispatcher.trouble(error, what, of=Operation.REGISTER)

    async def _register(self) -> bool:
        registration = await self._requests.register()
        self._event_dispatcher.recovered(Operation.REGISTER)
        self._interval = min(max(1.0, float(registration.heartbeat_interval_secs)), LONGEST_INTERVAL)
        self.last_beat_at = time.time()
        return True

    async def _unless_stopped(self, request: Coroutine[Any, Any, bool]) -> bool:
        """Return the request's answer, or False when a stop was requested before it came."""
        task = asyncio.ensure_future(request)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            return await task if task.done() else False
        finally:
            task.cancel()
            stop.cancel()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
