"""The jobs of workflows, and what jobs wait for."""

from __future__ import annotations

from collections.abc import Sequence

from spooled._async._session import AsyncSession
from spooled._http import _schedule_fields as fields
from spooled._http._parameters import takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body
from spooled.errors import NotFoundError
from spooled.models import (
    AddDependenciesResponse,
    JobDependencies,
    WorkflowDetail,
    WorkflowJob,
    WorkflowJobStatus,
)

# In the class, `list` is the method.
_Jobs = list[WorkflowJob]
_Statuses = list[WorkflowJobStatus]


class AsyncWorkflowJobs:
    """`client.workflows.jobs`. Contract: api-v1 §7 and §3.5.

    The API has no request for one job of a workflow: `list`, `get` and `get_status` read the whole workflow.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self, workflow_id: str) -> _Jobs:
        """All jobs of a workflow.

        Raises:
            NotFoundError: There is no such workflow.
            SpooledError: As every call.
        """
        path = f"{API}/workflows/{segment(workflow_id, 'workflow_id')}"
        return (await self._session.call("GET", path, WorkflowDetail)).jobs

    async def get(self, workflow_id: str, job_id: str) -> WorkflowJob:
        """One job of a workflow.

        Raises:
            NotFoundError: There is no such workflow, or it has no such job.
            SpooledError: As every call.
        """
        segment(job_id, "job_id")
        for job in await self.list(workflow_id):
            if job.id == job_id:
                return job
        raise NotFoundError(f"workflow {workflow_id} has no job {job_id}", 404)

    async def get_status(self, workflow_id: str) -> _Statuses:
        """Return how each job of a workflow is doing.

        Raises:
            NotFoundError: There is no such workflow.
            SpooledError: As every call.
        """
        return [
            WorkflowJobStatus(
                id=job.id,
                status=job.status,
                queue_name=job.queue,
                attempt=job.attempt,
                error=None if job.error is None else job.error.message,
            )
            for job in await self.list(workflow_id)
        ]

    async def get_dependencies(self, job_id: str) -> JobDependencies:
        """Return what a job waits for, and what waits for it.

        Raises:
            NotFoundError: There is no such job.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(job_id), JobDependencies)

    @takes_id_and_mapping
    async def add_dependencies(
        self, job_id: str, *, dependency_job_ids: Sequence[str], dependency_mode: str | None = None
    ) -> AddDependenciesResponse:
        """Let a job wait for other jobs, too. Those that would close a circle are left out by the server.

        Args:
            job_id: The job that is to wait.
            dependency_job_ids: 1 to 100 ids of jobs that have to complete first.
            dependency_mode: `all` (default) or `any` of them; also for those it has already.

        Raises:
            NotFoundError: One of the jobs does not exist.
            SpooledError: As every call.
        """
        sent = body(
            fields.DEPENDENCIES,
            dependency_mode=dependency_mode,
            dependency_job_ids=dependency_job_ids,
            required=("dependency_job_ids",),
        )
        sent["depends_on"] = sent.pop("dependency_job_ids")
        return await self._session.call("POST", _of(job_id), AddDependenciesResponse, body=sent, replay=True)


def _of(job_id: str) -> str:
    return f"{API}/jobs/{segment(job_id, 'job_id')}/dependencies"
