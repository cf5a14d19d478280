"""The claim loop: asks for jobs of one queue whenever there is room for them.

Workers and the kombu transport claim through one of these, so there is one rule for when to ask again.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from spooled.errors import SpooledError
from spooled.worker._ack_policy import Decision, Operation, classify, wait_for
from spooled.worker._log import WorkerLogger
from spooled.worker._pacing import ClaimPacer

logger = WorkerLogger("spooled.worker")


class ClaimSource(Protocol):
    """Makes single claims, and takes what they bring."""

    def room(self) -> int:
        """Return how many jobs could be taken now; 0 means wait until `Claimer.freed` is called."""

    async def gather(self) -> None:
        """Wait a moment when more room is about to come, so that one claim does for several jobs."""

    async def claim(self, limit: int) -> int:
        """Claim up to so many jobs, take them, and return how many came.

        Raises:
            SpooledError: The claim was refused, or not answered.
        """

    def claim_failed(self, error: Exception, when: str, *, refused: bool) -> None:
        """Know of a claim that failed.

        Args:
            error: What failed.
            when: In how many seconds the next one follows, in words.
            refused: The server has said for the second time that it will not take claims like this one.
        """


class Claimer:
    """Claims until told to stop. Lives on one event loop, and so do the calls of its methods.

    Args:
        source: Makes the claims.
        poll_interval: The longest pause in seconds while the queue is empty.
        longest_wait: Bound in seconds for what the server asks to wait.
    """

    def __init__(self, source: ClaimSource, poll_interval: float, *, longest_wait: float) -> None:
        self._source = source
        self._longest_wait = longest_wait
        self._pacer = ClaimPacer(poll_interval)
        self._stopping = False
        self._freed = asyncio.Event()
        self._woken = asyncio.Event()
        self._at_once = False
        self._last_failure: SpooledError | None = None

    @property
    def failures(self) -> int:
        """Claims that failed in a row."""
        return self._pacer.failures

    def stop(self) -> None:
        """Claim no more. A claim in flight is not cut off: its jobs are leased to us already."""
        self._stopping = True
        self._freed.set()
        self._woken.set()

    def freed(self) -> None:
        """There may be more room than before."""
        self._freed.set()

    def wake(self) -> None:
        """There may be work; do not wait for the end of the pause."""
        self._at_once = True
        self._woken.set()

    def announced(self) -> None:
        """There is a new job, if no other worker has taken it; look as soon as the pacer finds right."""
        self._woken.set()

    def set_push_active(self, active: bool) -> None:
        """Poll rarely, because all new jobs are announced (True), or as the poll interval says (False)."""
        self._pacer.set_push_active(active)
        if not active:
            self.wake()

    async def run(self) -> None:
        """Claim until `stop` is called, or the task is cancelled."""
        while not self._stopping:
            if not self._source.room():
                self._freed.clear()
                await self._freed.wait()
                continue
            await self._sit_out_the_pause()
            try:
                await self._claim()
            except Exception as error:
                # A bug of ours must not end the worker while its state says "running".
                self._pacer.failed()
                when = f"{self._pacer.pause:.1f} s"
                logger.exception("claiming failed unexpectedly; next try in %s", when)
                self._source.claim_failed(error, when, refused=False)

    async def _sit_out_the_pause(self) -> None:
        """Wait before the next claim, for as long as the pacer says or until it is woken."""
        now = asyncio.get_running_loop().time
        until = now() + self._pacer.pause
        while not self._stopping and (left := until - now()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._woken.wait()
            except TimeoutError:
                return
            self._woken.clear()
            if self._at_once:
                self._at_once = False
                self._pacer.wake()
            else:
                self._pacer.announced()
            until = min(until, now() + self._pacer.pause)

    async def _claim(self) -> None:
        await self._source.gather()
        asked = self._source.room()
        if not asked or self._stopping:
            return
        # What wakes from here on may come too late for this claim; it cuts the pause after it short.
        self._woken.clear()
        self._at_once = False
        try:
            got = await self._source.claim(asked)
        except SpooledError as error:
            refused = classify(Operation.CLAIM, error, before=self._last_failure) is Decision.REFUSED
            self._last_failure = error
            wait = error.server_wait
            self._pacer.failed(None if wait is None else min(wait, self._longest_wait))
            _, when = wait_for(error, self._pacer.pause, self._longest_wait)
            self._source.claim_failed(error, when, refused=refused)
        else:
            self._last_failure = None
            self._pacer.claimed(asked, got)
