"""Workers: register, report, look at."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._acks import accepted
from spooled._http._json import decode, list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body
from spooled.models import AckResponse, Worker, WorkerRegistration, WorkerSummary

# In the class, `list` is the method.
_Workers = list[WorkerSummary]


class AsyncWorkers:
    """`client.workers`. Contract: api-v1 §5. Claiming does not need a registration; it is for being seen."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self) -> _Workers:
        """Up to 100 workers, the latest heartbeat first, offline ones included.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/workers", list_of(WorkerSummary))

    async def get(self, worker_id: str) -> Worker:
        """Everything about one worker.

        Raises:
            NotFoundError: There is no such worker.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(worker_id), Worker)

    @accepts_dict
    async def register(
        self,
        *,
        queue_name: str,
        hostname: str,
        worker_id: str | None = None,
        worker_type: str | None = None,
        max_concurrency: int | None = None,
        metadata: object = None,
        version: str | None = None,
    ) -> WorkerRegistration:
        """Announce a worker; with the id of a known one, bring that up to date.

        Args:
            queue_name: What it works on.
            hostname: ASCII letters, digits, `.`, `-`, `_`, at most 255, no `.` or `-` at an end.
            worker_id: ASCII letters, digits, `.`, `_`, `-`, at most 128. Default: the server makes one.
            worker_type: At most 50 characters.
            max_concurrency: Jobs at a time, 1 to 100. Default 5. For display only.
            metadata: A mapping for display, at most 64 KiB.
            version: At most 50 characters.

        Raises:
            ConflictError: The id belongs to another organisation.
            QuotaExceededError: The plan's number of workers is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.REGISTRATION,
            required=("queue_name", "hostname"),
            queue_name=queue_name,
            hostname=hostname,
            worker_id=worker_id,
            worker_type=worker_type,
            max_concurrency=max_concurrency,
            metadata=metadata,
            version=version,
        )
        return await self._session.call("POST", f"{API}/workers/register", WorkerRegistration, body=sent)

    @takes_id_and_mapping
    async def heartbeat(
        self, worker_id: str, *, current_jobs: int, status: str | None = None, metadata: object = None
    ) -> None:
        """Show that a worker lives. Does not extend the leases of its jobs.

        Args:
            worker_id: The worker.
            current_jobs: How many jobs it runs, 0 to 1000.
            status: `healthy`, `degraded`, `draining` or `offline`.
            metadata: Replaces what was registered, at most 64 KiB.

        Raises:
            NotFoundError: The server does not know it (any more): register again.
            SpooledError: As every call.
        """
        sent = body(
            fields.WORKER_HEARTBEAT,
            required=("current_jobs",),
            current_jobs=current_jobs,
            status=status,
            metadata=metadata,
        )
        answer = await self._session.exchange("POST", f"{_of(worker_id)}/heartbeat", body=sent, replay=True)
        # By the contract there is no body. The page of a proxy is no heartbeat, whatever its status.
        if answer.body.strip():
            accepted(decode(answer, AckResponse), f"heartbeat of worker {worker_id}")

    async def deregister(self, worker_id: str) -> None:
        """Sign a worker off. Ack its jobs first.

        Raises:
            NotFoundError: There is no such worker.
            SpooledError: As every call.
        """
        await self._session.call("POST", f"{_of(worker_id)}/deregister", type(None))


def _of(worker_id: str) -> str:
    return f"{API}/workers/{segment(worker_id, 'worker_id')}"
