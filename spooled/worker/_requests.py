"""The requests of a worker, one attempt each: acks and claims alone, or many in one where the server offers that.

In batches, one request is under way at a time, so that what ends meanwhile goes together in the next. A claim that is
made while acks are about to go rides on them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from spooled._async._session import AsyncSession
from spooled._async.jobs import AsyncJobs
from spooled._async.workers import AsyncWorkers
from spooled._async.workflow_jobs import AsyncWorkflowJobs
from spooled.errors import SpooledError, create_error_from_response
from spooled.errors import TimeoutError as NoAnswerError
from spooled.models import (
    ClaimedJob,
    ClaimItem,
    CompleteItem,
    FailItem,
    Job,
    SettledClaim,
    SettledItem,
    SettleResponse,
    WorkerRegistration,
)
from spooled.worker._lease_table import Lease
from spooled.worker._log import WorkerLogger
from spooled.worker._options import WorkerOptions
from spooled.worker._pacing import BatchPacer, Tempo

logger = WorkerLogger("spooled.worker")

T = TypeVar("T")

ATTEMPT_TIMEOUT = 10.0
"""Seconds for one attempt. Short, because the lease is renewed meanwhile and another attempt follows."""

BATCH_BYTES = 2**20
"""Bytes of results and errors in one request; the server takes twice as much."""

_NO_ENDPOINT = frozenset({404, 405, 501})
"""Statuses that say that there is no such endpoint (any more)."""

_UNREADABLE = frozenset({400, 409, 413, 422})
"""Statuses that say that something in a batch makes the whole unreadable."""


@dataclass(slots=True, eq=False)
class _Item:
    """An ack that waits for the next request."""

    ack: CompleteItem | FailItem
    size: int
    answer: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, eq=False)
class _Claim:
    """A claim that rides on the next request."""

    limit: int
    answer: asyncio.Future[list[ClaimedJob]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class WorkerRequests:
    """Makes single attempts through the client's resources. What an answer means, and what follows, others decide.

    Args:
        options: The worker's options.
        tempo: Says how many acks may be under way, and learns how long they take.

    Attributes:
        worker_id: The id to register and claim with; the server's word counts once it has registered.
        jobs: For what is asked about single jobs; each attempt may take `ATTEMPT_TIMEOUT`.
        dependencies: Of jobs on each other.
    """

    jobs: AsyncJobs
    dependencies: AsyncWorkflowJobs
    _session: AsyncSession
    _claims: AsyncJobs
    _workers: AsyncWorkers

    def __init__(self, options: WorkerOptions, tempo: Tempo) -> None:
        self._options = options
        self.worker_id = options.new_worker_id()
        self._settle_max = 0
        self._tempo = tempo
        self._under_way = 0
        self._places: deque[asyncio.Future[None]] = deque()
        self._pacer = BatchPacer()
        self._gathered: deque[_Item] = deque()
        self._claim: _Claim | None = None
        self._flushing: asyncio.Handle | None = None
        self._flushing_soon = False
        self._closed = False
        self._batches: set[asyncio.Task[None]] = set()

    def open(self, session: AsyncSession) -> None:
        """Say where requests go; called before any is made. The session is closed together with this."""
        self._session = session
        brief = session.with_timeout(ATTEMPT_TIMEOUT)
        self.jobs, self.dependencies, self._workers = (
            AsyncJobs(brief),
            AsyncWorkflowJobs(brief),
            AsyncWorkers(brief),
        )
        # An answer that takes longer than half a lease brings jobs that are as good as lost.
        self._claims = AsyncJobs(session.with_timeout(self._options.lease_duration / 2))

    # --- the worker -----------------------------------------------------------------------------------------

    async def register(self) -> WorkerRegistration:
        """Register, and take the server's word for the worker's id.

        Raises:
            SpooledError: The server has refused it, or has not answered.
        """
        options = self._options
        registration = await self._workers.register(
            queue_name=options.queue_name,
            hostname=options.effective_hostname(),
            worker_id=self.worker_id,
            worker_type=options.worker_type,
            max_concurrency=options.concurrency,
            metadata=options.metadata,
            version=options.version,
        )
        self.worker_id = registration.id
        self._settle_max = registration.settle_max
        return registration

    async def report(self, status: str, current_jobs: int) -> None:
        """Send a heartbeat of the worker.

        Raises:
            SpooledError: The server has refused it, or has not answered.
        """
        await self._workers.heartbeat(self.worker_id, status=status, current_jobs=current_jobs)

    async def deregister(self, timeout: float) -> None:
        """Take the worker off the server's list, within so many seconds.

        Raises:
            SpooledError: The server has refused it, or has not answered.
        """
        await AsyncWorkers(self._session.with_timeout(timeout)).deregister(self.worker_id)

    # --- jobs -----------------------------------------------------------------------------------------------

    async def heartbeat(self, lease: Lease, timeout: float) -> None:
        """Renew a lease, within so many seconds.

        Raises:
            SpooledError: The server has refused it, or has not answered.
        """
        try:
            async with asyncio.timeout(timeout):
                await self.jobs.heartbeat(
                    lease.job_id,
                    worker_id=self.worker_id,
                    lease_id=lease.lease_id,
                    lease_duration_secs=self._options.lease_duration,
                )
        except TimeoutError:
            raise NoAnswerError(f"no answer to a heartbeat within {timeout:.1f} s") from None

    async def send(self, lease: Lease, content: bytes | str) -> None:
        """Make one attempt at an ack: a complete with a result as JSON, or a fail with an error text.

        Raises:
            SpooledError: The server has not accepted it, or has not answered.
        """
        ack: CompleteItem | FailItem
        if isinstance(content, str):
            ack = FailItem(lease.job_id, lease.lease_id, content)
        else:
            ack = CompleteItem(lease.job_id, lease.lease_id, msgspec.Raw(content))
        if not self._settle_max or len(content) > BATCH_BYTES:
            await self._send_alone(ack)
            return
        item = _Item(ack, len(content))
        self._gathered.append(item)
        self._flush_soon()
        await item.answer

    async def read_job(self, job_id: str) -> Job:
        """Return the job as it is now.

        Raises:
            SpooledError: It is not there, or the server has not answered.
        """
        return await self.jobs.get(job_id)

    async def claim(self, limit: int) -> list[ClaimedJob]:
        """Ask for jobs: with the next acks, when those are about to be sent, else at once.

        Raises:
            SpooledError: The server has not given any, or has not answered.
        """
        now = asyncio.get_running_loop().time()
        if (
            not self._gathered
            or self._claim is not None
            or not self._pacer.may_send(now, len(self._gathered))
        ):
            return await self._claim_alone(limit)
        self._claim = claim = _Claim(limit)
        self._flush_soon()
        return await claim.answer

    async def close(self) -> None:
        """Give up what is under way and what has gathered."""
        self._closed = True
        if self._flushing is not None:
            self._flushing.cancel()
        for item in self._gathered:
            item.answer.cancel()
        self._gathered.clear()
        if self._claim is not None:
            self._claim.answer.cancel()
            self._claim = None
        for task in tuple(self._batches):
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    async def close_session(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    # --- one in a request -----------------------------------------------------------------------------------

    async def _claim_alone(self, limit: int) -> list[ClaimedJob]:
        answer = await self._claims.claim(
            queue_name=self._options.queue_name,
            worker_id=self.worker_id,
            limit=limit,
            lease_duration_secs=self._options.lease_duration,
        )
        return answer.jobs

    async def _send_alone(self, ack: CompleteItem | FailItem) -> None:
        loop = asyncio.get_running_loop()
        await self._enter()
        try:
            sent_at = loop.time()
            worker_id, lease_id = self.worker_id, ack.lease_id
            if isinstance(ack, FailItem):
                await self.jobs.fail(ack.job_id, worker_id=worker_id, lease_id=lease_id, error=ack.error)
            else:
                await self.jobs.complete(
                    ack.job_id, worker_id=worker_id, lease_id=lease_id, result=ack.result
                )
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
        loop = asyncio.get_running_loop()
        if self._flushing_soon:
            return
        if self._pacer.may_send(loop.time(), len(self._gathered)):
            if self._flushing is not None:
                self._flushing.cancel()
            self._flushing = loop.call_soon(self._flush)
            self._flushing_soon = True
        elif self._flushing is None:
            # A batch that is not answered holds up nothing: the next follows it after a while.
            self._flushing = loop.call_later(self._pacer.patience(loop.time()), self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._flushing_soon = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._gathered and self._pacer.may_send(now, len(self._gathered)):
            items = self._take()
            if not items:
                break
            claim, self._claim = self._claim, None
            self._pacer.sent(now)
            task = loop.create_task(self._send_together(items, claim))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
        if self._gathered:
            self._flush_soon()

    def _take(self) -> list[_Item]:
        """Take as many of the gathered acks as fit into a request, in their order."""
        items: list[_Item] = []
        size = 0
        while self._gathered and len(items) < max(1, self._settle_max):
            if self._gathered[0].answer.done():
                self._gathered.popleft()  # its sender has given up
                continue
            size += self._gathered[0].size
            if items and size > BATCH_BYTES:
                break
            items.append(self._gathered.popleft())
        return items

    async def _send_together(self, items: list[_Item], claim: _Claim | None) -> None:
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            _hand_out(await self._settle(items, claim), items, claim)
            self._tempo.acked(loop.time() - sent_at)
        except SpooledError as error:
            if not self._is_about_the_batch(error):
                _fail_all(error, items, claim)
            else:
                await self._send_each_alone(error, items, claim)
        except BaseException as error:
            _fail_all(error, items, claim)
            raise
        finally:
            self._pacer.answered()
            if self._gathered and not self._closed:
                self._flush_soon()

    async def _settle(self, items: list[_Item], claim: _Claim | None) -> SettleResponse:
        options = self._options
        riding = None
        resource = self.jobs
        if claim is not None:
            riding = ClaimItem(options.queue_name, claim.limit, options.lease_duration)
            if options.lease_duration / 2 < ATTEMPT_TIMEOUT:
                resource = self._claims
        return await resource.settle(
            worker_id=self.worker_id,
            completes=[item.ack for item in items if isinstance(item.ack, CompleteItem)],
            fails=[item.ack for item in items if isinstance(item.ack, FailItem)],
            claim=riding,
        )

    def _is_about_the_batch(self, error: SpooledError) -> bool:
        """Tell whether the same acks may be taken one by one, each with an answer that is about it.

        A key that is refused is refused for each of them too, and an outage is one for all.
        """
        return error.status_code in _NO_ENDPOINT or (error.status_code in _UNREADABLE and not error.foreign)

    async def _send_each_alone(self, error: SpooledError, items: list[_Item], claim: _Claim | None) -> None:
        """Send what is refused as a batch: the server knows none, or something in it makes the whole unreadable.

        No answer to the whole says what becomes of one of them.
        """
        if error.status_code in _NO_ENDPOINT and self._settle_max:
            # Until the next registration, whoever said so: a server of another kind may answer without a word.
            self._settle_max = 0
            logger.info("the server takes no acks in batches any more (%s); sending each by itself", error)
        attempts = [_resolve(item.answer, self._send_alone(item.ack)) for item in items]
        if claim is not None:
            attempts.append(_resolve(claim.answer, self._claim_alone(claim.limit)))
        await asyncio.gather(*attempts, return_exceptions=True)


def _hand_out(answer: SettleResponse, items: list[_Item], claim: _Claim | None) -> None:
    """Give each its own answer.

    Raises:
        SpooledError: These are not the answers to what was asked.
    """
    completes = [item for item in items if isinstance(item.ack, CompleteItem)]
    fails = [item for item in items if isinstance(item.ack, FailItem)]
    if (len(answer.completes), len(answer.fails)) != (len(completes), len(fails)):
        raise _no_answer("the answer to acks in batches has another number of items than the request")
    for item, one in (*zip(completes, answer.completes, strict=True), *zip(fails, answer.fails, strict=True)):
        _settle(item.answer, None, one)
    if claim is not None:
        given = answer.claim or SettledClaim(0)
        _settle(claim.answer, given.jobs, given)


def _settle(future: asyncio.Future[T], result: T, answer: SettledItem) -> None:
    if future.done():
        return
    if answer.status == 200:
        future.set_result(result)
    elif answer.status < 400:
        future.set_exception(_no_answer(f"the answer to one of several acks has the status {answer.status}"))
    else:
        wait = answer.retry_after_secs
        headers = {} if wait is None else {"retry-after": str(wait)}
        body = {"code": answer.code, "message": answer.message, "details": answer.details}
        future.set_exception(create_error_from_response(answer.status, body, headers=headers))


def _no_answer(text: str) -> SpooledError:
    """Return an error that decides nothing: the same may be sent again."""
    error = SpooledError(text, 200, "not_accepted")
    error.foreign = True
    return error


def _fail_all(error: BaseException, items: Sequence[_Item], claim: _Claim | None) -> None:
    futures: list[asyncio.Future[Any]] = [item.answer for item in items]
    if claim is not None:
        futures.append(claim.answer)
    for future in futures:
        if future.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(error)


async def _resolve(future: asyncio.Future[T], attempt: Coroutine[Any, Any, T]) -> None:
    try:
        result = await attempt
    except asyncio.CancelledError:
        future.cancel()
        raise
    except BaseException as error:
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
