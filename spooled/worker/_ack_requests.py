"""Single attempts of acks and claims: each in a request of its own, or many in one where the server offers that."""

from __future__ import annotations

import asyncio
from collections import deque

from spooled.errors import PayloadTooLargeError, SpooledError, ValidationError, create_error_from_response
from spooled.models import ClaimedJob
from spooled.models import ClaimJobsResponse
from spooled.worker._api import Ack, SettleAnswer, WorkerApi
from spooled.worker._lease_table import Lease
from spooled.worker._log import WorkerLogger
from spooled.worker._pacing import BatchPacer, Tempo

logger = WorkerLogger("spooled.worker")

ATTEMPT_TIMEOUT = 10.0
"""Seconds for one attempt. Short, because the lease is renewed meanwhile and another attempt follows."""

BATCH_BYTES = 2**20
"""Bytes of results and errors in one request; the server takes twice as much."""


class AckRequests:
    """Makes single attempts. When to try again, and what an answer means, is decided elsewhere.

    Args:
        api: Sends the requests.
        tempo: Says how many may be under way, and learns how long they take.
    """

    def __init__(self, api: WorkerApi, tempo: Tempo) -> None:
        self._api = api
        self._tempo = tempo
        self._under_way = 0
        self._places: deque[asyncio.Future[None]] = deque()
        self._pacer = BatchPacer()
        self._gathered: deque[tuple[Ack, asyncio.Future[None]]] = deque()
        self._claim: tuple[int, asyncio.Future[list[ClaimedJob]]] | None = None
        self._flushing: asyncio.Handle | None = None
        self._batches: set[asyncio.Task[None]] = set()

    async def send(self, lease: Lease, content: bytes | str) -> None:
        """Make one attempt: a complete with a result as JSON, or a fail with an error text.

        Raises:
            SpooledError: The server has not accepted it, or has not answered.
        """
        ack = Ack(lease.job_id, lease.lease_id, content)
        if self._api.settle_max and len(content) <= BATCH_BYTES:
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._gathered.append((ack, answer))
            self._flush_soon()
            await answer
        else:
            await self._send_alone(ack)

    async def claim(self, limit: int) -> list[ClaimedJob]:
        """Ask for jobs: with the next acks, when those are about to be sent, else at once.

        Raises:
            SpooledError: The server has not given any, or has not answered.
        """
        now = asyncio.get_running_loop().time()
        if not self._gathered or self._claim is not None or not self._pacer.may_send(now, len(self._gathered)):
            return await self._api.claim(limit)
        answer: asyncio.Future[list[ClaimedJob]] = asyncio.get_running_loop().create_future()
        self._claim = (limit, answer)
        self._flush_soon()
        return await answer

    async def close(self) -> None:
        """Give up what is under way."""
        if self._flushing is not None:
            self._flushing.cancel()
        for task in tuple(self._batches):
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    # --- one in a request -----------------------------------------------------------------------------------

    async def _send_alone(self, ack: Ack) -> None:
        loop = asyncio.get_running_loop()
        await self._enter()
        try:
            sent_at = loop.time()
            if isinstance(ack.content, str):
                await self._api.fail(ack.job_id, ack.lease_id, ack.content, ATTEMPT_TIMEOUT)
            else:
                await self._api.complete(ack.job_id, ack.lease_id, ack.content, ATTEMPT_TIMEOUT)
            self._tempo.acked(loop.time() - sent_at)
        finally:
            self._under_way -= 1
            self._let_in()

    async def _enter(self) -> None:
        """Wait for a place, in the order of the calls."""
        if not self._places and self._under_way < self._tempo.acks_at_once():
            self._under_way += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._places.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._under_way -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._places and self._under_way < self._tempo.acks_at_once():
            place = self._places.popleft()
            if not place.done():
                self._under_way += 1
                place.set_result(None)

    # --- many in a request ----------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Send what has gathered at the end of this turn of the loop: what ends together goes together."""
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._gathered and self._pacer.may_send(now, len(self._gathered)):
            taken = self._take()
            claim, self._claim = self._claim, None
            if not taken and claim is None:
                return
            self._pacer.sent(now)
            task = loop.create_task(self._send_together(taken, claim))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
        if self._gathered:
            # One that is not answered holds up nothing: the next follows it after a while.
            self._flushing = loop.call_later(self._pacer.patience(now), self._flush)

    def _take(self) -> list[tuple[Ack, asyncio.Future[None]]]:
        """Take as many of the gathered acks as fit into a request, in their order."""
        taken: list[tuple[Ack, asyncio.Future[None]]] = []
        size = 0
        while self._gathered and len(taken) < max(1, self._api.settle_max):
            ack, answer = self._gathered[0]
            size += len(ack.content)
            if taken and size > BATCH_BYTES:
                break
            self._gathered.popleft()
            if not answer.done():
                taken.append((ack, answer))
        return taken

    async def _send_together(
        self,
        taken: list[tuple[Ack, asyncio.Future[None]]],
        claim: tuple[int, asyncio.Future[list[ClaimedJob]]] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            answer = await self._api.settle(
                [ack for ack, _ in taken], 0 if claim is None else claim[0], ATTEMPT_TIMEOUT
            )
            _hand_out(answer, taken, claim)
            self._tempo.acked(loop.time() - sent_at)
        except SpooledError as error:
            if _is_about_the_batch(error):
                await self._send_each_alone(error, taken, claim)
            else:
                _fail_all(error, taken, claim)
        except BaseException as error:
            _fail_all(error, taken, claim)
            raise
        finally:
            self._pacer.answered()
            if self._gathered:
                if self._flushing is not None:
                    self._flushing.cancel()
                self._flush()

    async def _send_each_alone(
        self,
        error: SpooledError,
        taken: list[tuple[Ack, asyncio.Future[None]]],
        claim: tuple[int, asyncio.Future[list[ClaimedJob]]] | None,
    ) -> None:
        """Send what a server refuses as a batch: it knows none, or something in it makes the whole unreadable."""
        if error.status_code in _UNKNOWN and self._api.settle_max:
            self._api.settle_max = 0
            logger.info("the server takes no acks in batches any more (%s); sending each by itself", error)

        async def alone(ack: Ack, answer: asyncio.Future[None]) -> None:
            try:
                await self._send_alone(ack)
            except SpooledError as refused:
                if not answer.done():
                    answer.set_exception(refused)
            else:
                if not answer.done():
                    answer.set_result(None)

        async def claim_alone(limit: int, answer: asyncio.Future[list[ClaimedJob]]) -> None:
            try:
                jobs = await self._api.claim(limit)
            except SpooledError as refused:
                if not answer.done():
                    answer.set_exception(refused)
            else:
                if not answer.done():
                    answer.set_result(jobs)

        each = [alone(ack, answer) for ack, answer in taken]
        await asyncio.gather(*each, *(() if claim is None else (claim_alone(*claim),)))
