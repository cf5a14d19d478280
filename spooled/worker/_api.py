"""The requests that a worker makes. One attempt each: when to try again is the engine's decision, not the client's."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from spooled._async._session import AsyncSession
from spooled._http._paths import API, segment
from spooled.config import RetryConfig
from spooled.models import ClaimedJob, ClaimJobsResponse, CreateJobResponse, Job, WorkerRegistration
from spooled.worker._options import WorkerOptions

ONCE = RetryConfig(max_retries=0)


class _Dependencies(msgspec.Struct):
    dependents: list[msgspec.Raw] = []


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

    def open(self, session: AsyncSession) -> None:
        """Say where requests go; called before any is made. The session is closed together with this."""
        self._session = session
        self._timeout = session.config.timeout

    def _post(self, where: str, into: type[Any], body: object, timeout: float) -> Any:
        return self._session.call(
            "POST", where, into, body=body, timeout=min(timeout, self._timeout), retry=ONCE
        )

    def _get(self, where: str, into: type[Any], timeout: float) -> Any:
        return self._session.call("GET", where, into, timeout=min(timeout, self._timeout), retry=ONCE)

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
        registration: WorkerRegistration = await self._post(
            f"{API}/workers/register", WorkerRegistration, body, 10.0
        )
        self.worker_id = registration.id
        return registration

    async def claim(self, limit: int) -> list[ClaimedJob]:
        body = {
            "queue_name": self._options.queue_name,
            "worker_id": self.worker_id,
            "limit": limit,
            "lease_duration_secs": self._options.lease_duration,
        }
        # An answer that takes longer than half a lease brings jobs that are as good as lost.
        timeout = self._options.lease_duration / 2
        response: ClaimJobsResponse = await self._post(f"{API}/jobs/claim", ClaimJobsResponse, body, timeout)
        return response.jobs

    async def complete(self, job_id: str, lease_id: str, result: bytes, timeout: float) -> None:
        body = {"worker_id": self.worker_id, "lease_id": lease_id, "result": msgspec.Raw(result)}
        await self._post(_job(job_id, "complete"), type(None), body, timeout)

    async def fail(self, job_id: str, lease_id: str, error: str, timeout: float) -> None:
        body = {"worker_id": self.worker_id, "lease_id": lease_id, "error": error}
        await self._post(_job(job_id, "fail"), type(None), body, timeout)

    async def heartbeat(self, job_id: str, lease_id: str, timeout: float) -> None:
        body = {
            "worker_id": self.worker_id,
            "lease_id": lease_id,
            "lease_duration_secs": self._options.lease_duration,
        }
        await self._post(_job(job_id, "heartbeat"), type(None), body, timeout)

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
        await self._session.call("DELETE", where, type(None), timeout=min(timeout, self._timeout), retry=ONCE)

    async def revive_job(self, job_id: str, timeout: float) -> None:
        """Take a job out of the dead-letter queue."""
        await self._post(_job(job_id, "retry"), type(None), UNSET, timeout)

    async def worker_heartbeat(self, status: str, current_jobs: int) -> None:
        body = {"status": status, "current_jobs": current_jobs}
        await self._post(self._worker("heartbeat"), type(None), body, 10.0)

    async def deregister(self, timeout: float) -> None:
        await self._post(self._worker("deregister"), type(None), UNSET, timeout)

    def _worker(self, action: str) -> str:
        return f"{API}/workers/{segment(self.worker_id, 'worker_id')}/{action}"

    async def close(self) -> None:
        await self._session.aclose()


def _job(job_id: str, action: str) -> str:
    return f"{API}/jobs/{segment(job_id, 'job_id')}/{action}"
