"""The requests that a worker makes. One attempt each: when to try again is the engine's decision, not the client's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from spooled._async._session import AsyncSession
from spooled._http._json import decode
from spooled._http._messages import Response
from spooled._http._paths import API, segment
from spooled.config import RetryConfig
from spooled.errors import SpooledError
from spooled.models import ClaimedJob, ClaimJobsResponse, CreateJobResponse, Job, WorkerRegistration
from spooled.worker._log import WorkerLogger
from spooled.worker._options import WorkerOptions

logger = WorkerLogger("spooled.worker")

ONCE = RetryConfig(max_retries=0)


class _Dependencies(msgspec.Struct):
    dependents: list[msgspec.Raw] = []


class _Accepted(msgspec.Struct):
    success: bool = True


class _Registration(WorkerRegistration, frozen=True):
    settle: msgspec.Raw = msgspec.Raw(b"null")


class _SettleOffer(msgspec.Struct):
    max: int


class Ack(msgspec.Struct, frozen=True):
    """One item of acks in batches: a complete with a result as JSON, or a fail with an error text."""

    job_id: str
    lease_id: str
    content: bytes | str


class ItemAnswer(msgspec.Struct):
    """What the endpoint for one job would have answered."""

    status: int
    code: str | None = None
    message: str | None = None
    details: Any = None
    retry_after_secs: int | None = None


class ClaimAnswer(ItemAnswer):
    """What `POST /jobs/claim` would have answered."""

    jobs: list[ClaimedJob] = []


class SettleAnswer(msgspec.Struct):
    """The answers to acks in batches, in the order of the request."""

    completes: list[ItemAnswer] = []
    fails: list[ItemAnswer] = []
    claim: ClaimAnswer | None = None


class WorkerApi:
    """Speaks for one worker id.

    Args:
        options: The worker's options.
        worker_id: The id to register and claim with.
    """

    _session: AsyncSession
    _timeout: float

    def __init__(self, options: WorkerOptions, worker_id: str) -> None:
        self._options = options
        self.worker_id = worker_id
        self.settle_max = 0
        """How many acks the server takes in one request; 0 when it takes single ones only."""
        self._told_long_wait = False

    def open(self, session: AsyncSession) -> None:
        """Say where requests go; called before any is made. The session is closed together with this."""
        self._session = session
        self._timeout = session.config.timeout

    async def _post(self, where: str, into: type[Any], body: object, timeout: float) -> Any:
        return decode(await self._exchange("POST", where, body, timeout), into)

    async def _get(self, where: str, into: type[Any], timeout: float) -> Any:
        return decode(await self._exchange("GET", where, UNSET, timeout), into)

    async def _exchange(self, method: str, where: str, body: object, timeout: float) -> Response:
        try:
            return await self._session.exchange(
                method, where, body=body, timeout=min(timeout, self._timeout), retry=ONCE
            )
        except SpooledError as error:
            self._limit_wait(error)
            raise

    def _limit_wait(self, error: SpooledError) -> None:
        """Bound what the server asks to wait, so that a wrong `Retry-After` does not silence the worker."""
        longest = self._session.config.max_retry_after
        if error.server_wait is None or error.server_wait <= longest:
            return
        if not self._told_long_wait:
            self._told_long_wait = True
            logger.warning(
                "worker %s: the server asks to wait %.0f s; waiting %g s (max_retry_after) now and in future",
                self.worker_id,
                error.server_wait,
                longest,
            )
        error.server_wait = longest

    async def _ack(self, job_id: str, action: str, body: object, timeout: float) -> None:
        """Send what must be answered by the server itself: the page of a proxy is no ack, whatever its status."""
        answer: _Accepted = await self._post(_job(job_id, action), _Accepted, body, timeout)
        if not answer.success:
            error = SpooledError(f"the answer to {action} of job {job_id} is no success", 200, "not_accepted")
            error.foreign = True
            raise error

    async def register(self) -> WorkerRegistration:
        options = self._options
        body = {
            "queue_name": options.queue_name,
            "hostname": options.effective_hostname(),
            "worker_id": self.worker_id,
            "worker_type": options.worker_type,
            "max_concurrency": options.concurrency,
            "metadata": options.metadata,
            "version": options.version,
        }
        registration: _Registration = await self._post(f"{API}/workers/register", _Registration, body, 10.0)
        self.worker_id = registration.id
        self.settle_max = _offered(registration.settle)
        return registration

    async def claim(self, limit: int) -> list[ClaimedJob]:
        body = {"worker_id": self.worker_id, **self._claim_body(limit)}
        response: ClaimJobsResponse = await self._post(
            f"{API}/jobs/claim", ClaimJobsResponse, body, self._claim_timeout
        )
        return response.jobs

    @property
    def _claim_timeout(self) -> float:
        # An answer that takes longer than half a lease brings jobs that are as good as lost.
        return self._options.lease_duration / 2

    def _claim_body(self, limit: int) -> dict[str, Any]:
        return {
            "queue_name": self._options.queue_name,
            "limit": limit,
            "lease_duration_secs": self._options.lease_duration,
        }

    async def settle(self, acks: Sequence[Ack], claim: int, timeout: float) -> SettleAnswer:
        """Send acks in one request, and a claim for so many jobs with them unless that is 0."""
        completes = [
            {"job_id": ack.job_id, "lease_id": ack.lease_id, "result": msgspec.Raw(ack.content)}
            for ack in acks
            if isinstance(ack.content, bytes)
        ]
        fails = [
            {"job_id": ack.job_id, "lease_id": ack.lease_id, "error": ack.content}
            for ack in acks
            if isinstance(ack.content, str)
        ]
        body: dict[str, Any] = {"worker_id": self.worker_id, "completes": completes, "fails": fails}
        if claim:
            body["claim"] = self._claim_body(claim)
            timeout = min(timeout, self._claim_timeout)
        answer: SettleAnswer = await self._post(f"{API}/jobs/settle", SettleAnswer, body, timeout)
        return answer

    async def complete(self, job_id: str, lease_id: str, result: bytes, timeout: float) -> None:
        body = {"worker_id": self.worker_id, "lease_id": lease_id, "result": msgspec.Raw(result)}
        await self._ack(job_id, "complete", body, timeout)

    async def fail(self, job_id: str, lease_id: str, error: str, timeout: float) -> None:
        body = {"worker_id": self.worker_id, "lease_id": lease_id, "error": error}
        await self._ack(job_id, "fail", body, timeout)

    async def heartbeat(self, job_id: str, lease_id: str, timeout: float) -> None:
        body = {
            "worker_id": self.worker_id,
            "lease_id": lease_id,
            "lease_duration_secs": self._options.lease_duration,
        }
        await self._ack(job_id, "heartbeat", body, timeout)

    async def read_job(self, job_id: str, timeout: float) -> Job:
        job: Job = await self._get(f"{API}/jobs/{segment(job_id, 'job_id')}", Job, timeout)
        return job

    async def has_dependents(self, job_id: str, timeout: float) -> bool:
        found: _Dependencies = await self._get(_job(job_id, "dependencies"), _Dependencies, timeout)
        return bool(found.dependents)

    async def create_job(self, body: dict[str, Any], timeout: float) -> str:
        """Create a job and return its id; the body has an idempotency key, so trying again does no harm."""
        created: CreateJobResponse = await self._post(f"{API}/jobs", CreateJobResponse, body, timeout)
        return created.id

    async def cancel_job(self, job_id: str, timeout: float) -> None:
        where = f"{API}/jobs/{segment(job_id, 'job_id')}"
        await self._exchange("DELETE", where, UNSET, timeout)

    async def revive_job(self, job_id: str, timeout: float) -> None:
        """Take a job out of the dead-letter queue."""
        await self._post(_job(job_id, "retry"), type(None), UNSET, timeout)

    async def worker_heartbeat(self, status: str, current_jobs: int) -> None:
        body = {"status": status, "current_jobs": current_jobs}
        answer = await self._exchange("POST", self._worker("heartbeat"), body, 10.0)
        if answer.body.strip():  # by the contract there is none
            decode(answer, _Accepted)

    async def deregister(self, timeout: float) -> None:
        await self._post(self._worker("deregister"), type(None), UNSET, timeout)

    def _worker(self, action: str) -> str:
        return f"{API}/workers/{segment(self.worker_id, 'worker_id')}/{action}"

    async def close(self) -> None:
        await self._session.aclose()


def _job(job_id: str, action: str) -> str:
    return f"{API}/jobs/{segment(job_id, 'job_id')}/{action}"


def _offered(settle: msgspec.Raw) -> int:
    # What a server of another kind means by a member of this name is no reason not to register.
    try:
        return max(0, msgspec.json.decode(settle, type=_SettleOffer).max)
    except msgspec.MsgspecError:
        return 0
