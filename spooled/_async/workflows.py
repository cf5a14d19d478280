"""Workflows: jobs that wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spooled._async._session import AsyncSession
from spooled._async.workflow_jobs import AsyncWorkflowJobs
from spooled._http import _schedule_fields as fields
from spooled._http._parameters import accepts_dict
from spooled._http._paths import API, segment
from spooled._http._rules import body, query
from spooled.models import CreateWorkflowResponse, Page, Workflow, WorkflowDetail


class AsyncWorkflows:
    """`client.workflows`. Contract: api-v1 §7.

    Attributes:
        jobs: The jobs of workflows, and what they wait for.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self.jobs = AsyncWorkflowJobs(session)

    @accepts_dict
    async def list(
        self, *, status: str | None = None, limit: int | None = None, offset: int | None = None
    ) -> Page[Workflow]:
        """One page of the workflows, newest first.

        Args:
            status: `pending`, `running`, `completed`, `failed` or `cancelled`.
            limit: 1 to 100. Default 50.
            offset: How many to skip. Default 0.

        Raises:
            SpooledError: As every call.
        """
        asked = query(fields.WORKFLOW_FILTER, status=status, limit=limit, offset=offset)
        return await self._session.page(f"{API}/workflows", Workflow, asked)

    @accepts_dict
    async def create(
        self,
        *,
        name: str,
        jobs: Iterable[Mapping[str, Any]],
        description: str | None = None,
        metadata: object = None,
    ) -> CreateWorkflowResponse:
        """Create jobs that wait for each other: all of them, or none.

        Args:
            name: 1 to 255 letters, digits, spaces, `-_.:()`.
            jobs: 1 to 100 mappings with `key` (1 to 100 letters, digits, `-`, `_`; unique), `queue_name`,
                `payload` and, if wanted, `depends_on` (keys of jobs that have to complete first),
                `dependency_mode` (`all`, the default, or `any` of them), `priority`, `max_retries`,
                `timeout_seconds` and `expires_at`, which mean what they mean in `jobs.create`.
            description: At most 1000 characters.
            metadata: Kept with the workflow; anything with a JSON form.

        Returns:
            The ids. Keep what belongs to which key: the server does not.

        Raises:
            ValidationError: A value breaks a rule, or the dependencies go in a circle.
            AuthorizationError: `FEATURE_DISABLED`, the plan has no workflows.
            QuotaExceededError: A cap of the plan would be passed.
            SpooledError: As every call.
        """
        sent = body(
            fields.WORKFLOW,
            required=("name", "jobs"),
            name=name,
            jobs=jobs,
            description=description,
            metadata=metadata,
        )
        return await self._session.call("POST", f"{API}/workflows", CreateWorkflowResponse, body=sent)

    async def get(self, workflow_id: str) -> WorkflowDetail:
        """Return a workflow with its jobs.

        Raises:
            NotFoundError: There is no such workflow, or the key may not see it.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(workflow_id), WorkflowDetail)

    async def cancel(self, workflow_id: str) -> Workflow:
        """Cancel a workflow and its jobs that wait.

        Raises:
            NotFoundError: There is no such workflow.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(workflow_id)}/cancel", Workflow)

    async def retry(self, workflow_id: str) -> Workflow:
        """Give the failed jobs of a failed workflow all their retries again.

        Raises:
            NotFoundError: There is no such workflow.
            ValidationError: It has not failed.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(workflow_id)}/retry", Workflow)


def _of(workflow_id: str) -> str:
    return f"{API}/workflows/{segment(workflow_id, 'workflow_id')}"
