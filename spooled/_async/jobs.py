"""Jobs: enqueue, look at, change, claim, ack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from spooled._async._session import AsyncSession
from spooled._async.dead_letters import AsyncDeadLetters
from spooled._async.job_lists import AsyncJobLists
from spooled._http import _fields as fields
from spooled._http._acks import accepted, complete_landed, fail_landed
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import ListOf, body, query
from spooled.errors import ConflictError, NotFoundError
from spooled.models import (
    AckResponse,
    BoostPriorityResponse,
    BulkEnqueueResponse,
    ClaimItem,
    ClaimJobsResponse,
    CompleteItem,
    CreateJobResponse,
    FailItem,
    Job,
    JobStats,
    JobStatusInfo,
    SettleResponse,
)

# In the class, `list` is the method.
_Statuses = list[JobStatusInfo]
_IDS = {"ids": ListOf(0, 100, fields.ID, "job ids")}


class AsyncJobs(AsyncJobLists):
    """`client.jobs`. Contract: api-v1 §3.

    Attributes:
        dlq: The dead-letter queue.
    """

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session)
        self.dlq = AsyncDeadLetters(session)

    @accepts_dict
    async def create(
        self,
        *,
        queue_name: str,
        payload: object,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        scheduled_at: datetime | timedelta | None = None,
        expires_at: datetime | timedelta | None = None,
        idempotency_key: str | None = None,
        tags: object = None,
        parent_job_id: str | None = None,
        completion_webhook: str | None = None,
        completion_webhook_secret: str | None = None,
    ) -> CreateJobResponse:
        """Put a job into a queue. Contract: api-v1 §3.2.

        Args:
            queue_name: 1 to 100 letters, digits, `-`, `_`, `.`; the queue comes into being with its first job.
            payload: What the worker gets: anything with a JSON form, None included; at most 1 MiB.
            priority: -100 to 100, larger first. Default 0.
            max_retries: Executions after the first failed one, 0 to 100. Default: the queue's, else 3.
            timeout_seconds: How long one execution may take, 1 to 86400. Default: the queue's, else 300.
            scheduled_at: Not before: an aware datetime, or a timedelta from now.
            expires_at: Not after: an unclaimed job is deleted then.
            idempotency_key: At most 255 characters. A second job with the same key in the organisation is not
                created; the answer names the first one. With a key, a lost answer is retried safely.
            tags: A mapping or a list of text, to filter lists by; at most 64 KiB. Workers do not get it.
            parent_job_id: Runs after this job of the same queue has completed.
            completion_webhook: Address that is told when the job completed or died.
            completion_webhook_secret: Signs that message; at most 255 characters.

        Returns:
            The job's id, and `created=False` if the idempotency key was known.

        Raises:
            ValidationError: A value breaks a rule.
            PayloadTooLargeError: The plan allows less than 1 MiB.
            QuotaExceededError: The plan's number of jobs or queues is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.JOB,
            required=("queue_name", "payload"),
            queue_name=queue_name,
            payload=payload,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            scheduled_at=scheduled_at,
            expires_at=expires_at,
            idempotency_key=idempotency_key,
            tags=tags,
            parent_job_id=parent_job_id,
            completion_webhook=completion_webhook,
            completion_webhook_secret=completion_webhook_secret,
        )
        replay = idempotency_key is not None
        return await self._session.call("POST", f"{API}/jobs", CreateJobResponse, body=sent, replay=replay)

    @accepts_dict
    async def create_and_get(
        self,
        *,
        queue_name: str,
        payload: object,
        priority: int | None = None,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        scheduled_at: datetime | timedelta | None = None,
        expires_at: datetime | timedelta | None = None,
        idempotency_key: str | None = None,
        tags: object = None,
        parent_job_id: str | None = None,
        completion_webhook: str | None = None,
        completion_webhook_secret: str | None = None,
    ) -> Job:
        """As `create`, and then read the job: two requests.

        Raises:
            SpooledError: As `create` and `get`.
        """
        made = await self.create(
            queue_name=queue_name,
            payload=payload,
            priority=priority,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            scheduled_at=scheduled_at,
            expires_at=expires_at,
            idempotency_key=idempotency_key,
            tags=tags,
            parent_job_id=parent_job_id,
            completion_webhook=completion_webhook,
            completion_webhook_secret=completion_webhook_secret,
        )
        return await self.get(made.id)

    @accepts_dict
    async def bulk_enqueue(
        self,
        *,
        queue_name: str,
        jobs: Iterable[Mapping[str, Any]],
        default_priority: int | None = None,
        default_max_retries: int | None = None,
        default_timeout_seconds: int | None = None,
    ) -> BulkEnqueueResponse:
        """Put up to 100 jobs into a queue with one request. Contract: api-v1 §3.3.

        Args:
            queue_name: As in `create`.
            jobs: 1 to 100 mappings with `payload` and, if wanted, `priority`, `idempotency_key`,
                `scheduled_at`. All payloads together: at most 2 MiB.
            default_priority: For jobs without one, -100 to 100. Default 0.
            default_max_retries: For all of them, 0 to 100. Default: the queue's, else 3.
            default_timeout_seconds: For all of them, 1 to 86400. Default: the queue's, else 300.

        Returns:
            What became of each job. Look at `failed`: some may be refused while the call succeeds.

        Raises:
            ValidationError: A value breaks a rule; `details` lists everything that does.
            QuotaExceededError: The jobs would pass a cap of the plan; none was created.
            SpooledError: As every call.
        """
        sent = body(
            fields.BULK,
            required=("queue_name", "jobs"),
            queue_name=queue_name,
            jobs=jobs,
            default_priority=default_priority,
            default_max_retries=default_max_retries,
            default_timeout_seconds=default_timeout_seconds,
        )
        return await self._session.call(
            "POST", f"{API}/jobs/bulk", BulkEnqueueResponse, body=sent, replay=fields.all_keyed(sent)
        )

    async def get(self, job_id: str) -> Job:
        """Everything about one job. Contract: api-v1 §3.5.

        Raises:
            NotFoundError: There is no such job, or the key may not see it.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(job_id), Job)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job that no worker has yet. Contract: api-v1 §3.6.

        Raises:
            ConflictError: It is running or over. A running job cannot be cancelled.
            NotFoundError: There is no such job.
            SpooledError: As every call.
        """
        await self._session.call("DELETE", _of(job_id), type(None))

    async def retry(self, job_id: str) -> Job:
        """Give a dead job all its retries again. Contract: api-v1 §3.6.

        Raises:
            ConflictError: It is neither `deadletter` nor `failed`.
            NotFoundError: There is no such job.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(job_id)}/retry", Job)

    async def boost_priority(self, job_id: str, priority: int) -> BoostPriorityResponse:
        """Set the priority of a job that waits. Contract: api-v1 §3.6.

        Args:
            job_id: The job.
            priority: The new value (not an increment), -100 to 100.

        Raises:
            NotFoundError: There is no such job, or it does not wait any more.
            SpooledError: As every call.
        """
        sent = body(fields.JOB, required=("priority",), priority=priority)
        return await self._session.call("PUT", f"{_of(job_id)}/priority", BoostPriorityResponse, body=sent)

    async def get_stats(self, queue_name: str | None = None) -> JobStats:
        """Return how many jobs there are in each state. Contract: api-v1 §3.5.

        Args:
            queue_name: Of this queue only. Default: all the key may see.

        Raises:
            NotFoundError: The key may not see this queue.
            SpooledError: As every call.
        """
        asked = query(fields.JOB_FILTER, queue_name=queue_name)
        return await self._session.call("GET", f"{API}/jobs/stats", JobStats, query=asked)

    async def batch_status(self, ids: Sequence[str]) -> _Statuses:
        """Return the states of up to 100 jobs with one request. Contract: api-v1 §3.5.

        Args:
            ids: Job ids. An empty list asks nothing and gives an empty list.

        Returns:
            In no particular order, and without the ids nobody knows.

        Raises:
            ValidationError: More than 100 ids.
            SpooledError: As every call.
        """
        asked = query(_IDS, required=("ids",), ids=ids)
        if not asked[0][1]:
            return []
        return await self._session.call("GET", f"{API}/jobs/status", list_of(JobStatusInfo), query=asked)

    @accepts_dict
    async def claim(
        self,
        *,
        queue_name: str,
        worker_id: str,
        limit: int | None = None,
        lease_duration_secs: int | None = None,
    ) -> ClaimJobsResponse:
        """Take jobs that are due, under a lease. Contract: api-v1 §3.7, lifecycle §2.

        Answers at once, also with nothing. Never replayed after a lost answer: the jobs in it stay leased until
        the lease ends, which costs each of them one retry.

        Args:
            queue_name: The queue.
            worker_id: Who claims, 1 to 255 characters; need not be registered.
            limit: How many at most, 1 to 100. Default 1.
            lease_duration_secs: 5 to 3600. Default 30. Send heartbeats to keep the lease longer.

        Raises:
            AuthorizationError: The key may not use this queue.
            SpooledError: As every call.
        """
        sent = body(
            fields.CLAIM,
            required=("queue_name", "worker_id"),
            queue_name=queue_name,
            worker_id=worker_id,
            limit=limit,
            lease_duration_secs=lease_duration_secs,
        )
        return await self._session.call("POST", f"{API}/jobs/claim", ClaimJobsResponse, body=sent)

    @takes_id_and_mapping
    async def complete(
        self, job_id: str, *, worker_id: str, lease_id: str, result: object = None
    ) -> AckResponse:
        """Report success. Contract: api-v1 §3.7.

        Retried when the answer is lost; an earlier attempt that turns out to have landed counts as success.

        Args:
            job_id: The claimed job.
            worker_id: Who claimed it.
            lease_id: From the claim.
            result: Anything with a JSON form, kept on the job.

        Raises:
            LeaseExpiredError: The lease is over; the job is not this worker's any more.
            NotFoundError: The same, after the server has given the job back.
            ConflictError: The job is completed already.
            SpooledError: As every call.
        """
        sent = body(
            fields.LEASE,
            required=("worker_id", "lease_id"),
            worker_id=worker_id,
            lease_id=lease_id,
            result=result,
        )
        try:
            answer = await self._session.call(
                "POST", f"{_of(job_id)}/complete", AckResponse, body=sent, replay=True
            )
        except ConflictError as error:
            if complete_landed(error):
                return AckResponse()
            raise
        return accepted(answer, f"complete of job {job_id}")

    @takes_id_and_mapping
    async def fail(self, job_id: str, *, worker_id: str, lease_id: str, error: str) -> AckResponse:
        """Report failure; the server retries the job later or buries it. Contract: api-v1 §3.7, lifecycle §4.

        Retried when the answer is lost; an earlier attempt that turns out to have landed counts as success.

        Args:
            job_id: The claimed job.
            worker_id: Who claimed it.
            lease_id: From the claim.
            error: What went wrong, 1 to 2048 characters.

        Raises:
            LeaseExpiredError: The lease is over; the job is not this worker's any more.
            NotFoundError: The same, after the server has given the job back.
            SpooledError: As every call.
        """
        sent = body(
            fields.LEASE,
            required=("worker_id", "lease_id", "error"),
            worker_id=worker_id,
            lease_id=lease_id,
            error=error,
        )
        try:
            answer = await self._session.call(
                "POST", f"{_of(job_id)}/fail", AckResponse, body=sent, replay=True
            )
        except NotFoundError as refused:
            if fail_landed(refused):
                return AckResponse()
            raise
        return accepted(answer, f"fail of job {job_id}")

    @takes_id_and_mapping
    async def heartbeat(
        self, job_id: str, *, worker_id: str, lease_id: str, lease_duration_secs: int | None = None
    ) -> None:
        """Keep a lease: it then ends `lease_duration_secs` from now. Contract: api-v1 §3.7.

        Args:
            job_id: The claimed job.
            worker_id: Who claimed it.
            lease_id: From the claim.
            lease_duration_secs: 5 to 3600. Default 30, also when the claim asked for more.

        Raises:
            LeaseExpiredError: The lease is over; the job is not this worker's any more.
            NotFoundError: The same, after the server has given the job back.
            SpooledError: As every call.
        """
        sent = body(
            fields.LEASE,
            required=("worker_id", "lease_id"),
            worker_id=worker_id,
            lease_id=lease_id,
            lease_duration_secs=lease_duration_secs,
        )
        answer = await self._session.call(
            "POST", f"{_of(job_id)}/heartbeat", AckResponse, body=sent, replay=True
        )
        accepted(answer, f"heartbeat of job {job_id}")

    @accepts_dict
    async def settle(
        self,
        *,
        worker_id: str,
        completes: Sequence[CompleteItem] = (),
        fails: Sequence[FailItem] = (),
        claim: ClaimItem | None = None,
    ) -> SettleResponse:
        """Complete and fail many jobs in one request, each under its own lease and with its own answer.

        Beyond the contract: only for servers that offered it when the worker was registered
        (`WorkerRegistration.settle_max`). See docs/acks-in-batches.md. Never replayed.

        Args:
            worker_id: Who claimed the jobs.
            completes: Jobs that are done; at most `settle_max` together with `fails`.
            fails: Jobs that failed.
            claim: A claim to make after them.

        Raises:
            NotFoundError: The server knows no such request.
            SpooledError: As every call. What is wrong with one item is in its answer.
        """
        sent: dict[str, object] = {"worker_id": worker_id, "completes": completes, "fails": fails}
        if claim is not None:
            sent["claim"] = claim
        return await self._session.call("POST", f"{API}/jobs/settle", SettleResponse, body=sent)


def _of(job_id: str) -> str:
    return f"{API}/jobs/{segment(job_id, 'job_id')}"
