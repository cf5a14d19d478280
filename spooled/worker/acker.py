"""The ack loop: an ack is sent again and again until the server has accepted it, or the lease is gone.

Workers and the kombu transport ack through one of these, so there is one rule for what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from spooled.errors import NotFoundError, RateLimitError, SpooledError
from spooled.models import Job
from spooled.worker._ack_policy import (
    Decision,
    Operation,
    classify,
    decides_nothing,
    is_own_ack,
    may_have_arrived,
    wait_for,
)
from spooled.worker._backoff import Backoff
from spooled.worker.leases import Lease, LeaseKeeper

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts, growing."""


class AckSender(Protocol):
    """Makes single attempts."""

    async def send(self, lease: Lease, content: bytes | str) -> None:
        """Complete a job with a result as JSON, or fail it with an error text.

        Raises:
            SpooledError: The server has not accepted it, or has not answered.
        """

    async def read_job(self, job_id: str) -> Job:
        """Return the job as it is now.

        Raises:
            SpooledError: It is not there, or the server has not answered.
        """


@dataclass(frozen=True, slots=True)
class Acked:
    """The end of an ack.

    Attributes:
        outcome: `accepted`; `lost`: the lease is gone, so the job is run again or is done; or `refused`: the server
            will never take this one, but may take another.
        attempts: Requests that were sent.
        error: The answer when it is not accepted.
    """

    outcome: Literal["accepted", "lost", "refused"]
    attempts: int
    error: SpooledError | None = None


class Acker:
    """Sends acks until they are decided. Lives on one event loop.

    Args:
        sender: Makes single attempts.
        keeper: Renews the leases; one whose ack is accepted is released.
        longest_wait: Bound in seconds for what the server asks to wait.
        on_trouble: Called with what failed and is tried again, and a text that says what and when.
        on_accepted: Called when the server has taken an ack.
    """

    def __init__(
        self,
        sender: AckSender,
        keeper: LeaseKeeper,
        *,
        longest_wait: float,
        on_trouble: Callable[[SpooledError, str], None],
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self._sender = sender
        self._keeper = keeper
        self._longest_wait = longest_wait
        self._on_trouble = on_trouble
        self._on_accepted = on_accepted
        self._waiting: set[object] = set()
        self.limited = 0
        """Attempts that wait because the server limits rates. Nothing else should be asked of it meanwhile."""

    @property
    def failing(self) -> int:
        """Acks that have failed and are tried again."""
        return len(self._waiting)

    async def ack(self, lease: Lease, content: bytes | str, *, beyond_lease: bool = False) -> Acked:
        """Send an ack until it is decided.

        Args:
            lease: Of the job.
            content: The result as JSON to complete it with, or the error text to fail it with.
            beyond_lease: Go on when the lease has run out without an answer: the server may have been away itself, and
                still take it. Default: give up then.
        """
        operation = Operation.FAIL if isinstance(content, str) else Operation.COMPLETE
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        attempts = 0
        replay = False
        before: SpooledError | None = None
        mark = object()
        try:
            while True:
                attempts += 1
                try:
                    await self._sender.send(lease, content)
                except SpooledError as error:
                    decision = classify(operation, error, replay=replay, before=before)
                    if decision is Decision.DONE and not await self._is_own_ack(lease, operation, content):
                        decision = Decision.LOST
                    before, replay = error, replay or may_have_arrived(error)
                    expired = not beyond_lease and lease.expires_at <= asyncio.get_running_loop().time()
                    if decision is Decision.REFUSED:
                        return Acked("refused", attempts, error)
                    if decision is Decision.LOST or (decision is Decision.AGAIN and expired):
                        return Acked("lost", attempts, error)
                    if decision is Decision.AGAIN:
                        self._waiting.add(mark)
                        await self.wait(error, backoff, f"{operation} of job {lease.job_id} failed")
                        continue
                self._keeper.release(lease)
                self._on_accepted()
                return Acked("accepted", attempts)
        finally:
            self._waiting.discard(mark)

    async def repeat(
        self, attempt: Callable[[], Coroutine[Any, Any, T]], what: str, *, give_up: Callable[[], bool]
    ) -> T:
        """Make attempts at something else until one succeeds or is decided.

        Args:
            attempt: Called for each.
            what: What it is, for the log.
            give_up: Asked after each attempt that decided nothing.

        Raises:
            SpooledError: The server has refused it, or it was given up.
        """
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                return await attempt()
            except SpooledError as error:
                if not decides_nothing(error) or give_up():
                    raise
                await self.wait(error, backoff, f"{what} failed")

    async def wait(self, error: SpooledError, backoff: Backoff, what: str) -> None:
        """Sit out the pause after a failed attempt, and what the server asks to wait."""
        delay, when = wait_for(error, backoff.next(), self._longest_wait)
        self._on_trouble(error, f"{what}; trying again in {when}")
        limited = isinstance(error, RateLimitError)
        self.limited += limited
        try:
            await asyncio.sleep(delay)
        finally:
            self.limited -= limited

    async def _is_own_ack(self, lease: Lease, operation: Operation, content: bytes | str) -> bool:
        """Look who has settled the job. When that cannot be found out, it was us: most likely it was."""
        try:
            job = await self._sender.read_job(lease.job_id)
        except SpooledError as error:
            if isinstance(error, NotFoundError) and not error.foreign:
                return False
            self._on_trouble(error, f"looking at job {lease.job_id} failed; taking its {operation} as done")
            return True
        sent = content if isinstance(content, str) else None
        return is_own_ack(operation, job, lease_id=lease.lease_id, error=sent)
