"""Workflows: jobs that wait for each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spooled.models._model import Model


class WorkflowJobId(Model, frozen=True):
    """Which job a key of the request became. The server does not keep the key."""

    key: str
    job_id: str


class CreateWorkflowResponse(Model, frozen=True):
    """Answer to `workflows.create`. `job_ids` is in the order of the request."""

    workflow_id: str
    job_ids: list[WorkflowJobId] = []
    status: str = "pending"


class Workflow(Model, frozen=True):
    """A workflow in a list. `status` is `pending`, `running`, `completed`, `failed` or `cancelled`."""

    id: str
    name: str = ""
    description: str | None = None
    status: str = ""
    total_jobs: int = 0
    completed_jobs: int = 0
    failed_jobs: int = 0
    progress_percent: float = 0.0
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metadata: Any = None


class WorkflowJobError(Model, frozen=True):
    """Why a job of a workflow failed."""

    type: str = "JobError"
    message: str = ""
    stack: str | None = None


class WorkflowJob(Model, frozen=True):
    """A job of a workflow. `attempt` counts its failures, `timeout_ms` is milliseconds.

    `key`, `depends_on` and `dependency_mode` are what `workflows.create` was given; None where the server does not keep
    them (contract api-v1 §7): then the answer to `create` says which key became which job.
    """

    id: str
    organization_id: str = ""
    queue: str = ""
    job_type: str = "job"
    payload: Any = None
    status: str = ""
    priority: int = 0
    attempt: int = 0
    max_retries: int = 0
    backoff_type: str = "exponential"
    timeout_ms: int | None = None
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    next_retry_at: datetime | None = None
    result: Any = None
    error: WorkflowJobError | None = None
    metadata: Any = None
    workflow_id: str | None = None
    parent_job_id: str | None = None
    key: str | None = None
    depends_on: list[str] | None = None
    dependency_mode: str | None = None

    @property
    def queue_name(self) -> str:
        """The queue, by the name that it has elsewhere."""
        return self.queue

    @property
    def timeout_seconds(self) -> int | None:
        """`timeout_ms` in whole seconds; None when there is no limit."""
        return None if self.timeout_ms is None else self.timeout_ms // 1000


class WorkflowJobStatus(Model, frozen=True):
    """How one job of a workflow is doing."""

    id: str
    status: str
    queue_name: str = ""
    attempt: int = 0
    error: str | None = None
    key: str | None = None
    progress: float | None = None

    @property
    def job_id(self) -> str:
        """The job's id, by the name that it has elsewhere."""
        return self.id


class WorkflowDependency(Model, frozen=True):
    """The child runs after the parent."""

    parent_job_id: str
    child_job_id: str
    dependency_type: str = ""


class WorkflowProgress(Model, frozen=True):
    """Jobs by state. `failed` counts dead and cancelled ones too, `pending` scheduled ones."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    pending: int = 0
    processing: int = 0


class WorkflowDetail(Model, frozen=True):
    """A workflow with its jobs. Its counters are those of a `Workflow` in a list."""

    id: str
    organization_id: str = ""
    name: str = ""
    description: str | None = None
    status: str = ""
    jobs: list[WorkflowJob] = []
    dependencies: list[WorkflowDependency] = []
    progress: WorkflowProgress = WorkflowProgress()
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metadata: Any = None

    @property
    def total_jobs(self) -> int:
        """How many jobs it has."""
        return self.progress.total

    @property
    def completed_jobs(self) -> int:
        """How many of them have completed."""
        return self.progress.completed

    @property
    def failed_jobs(self) -> int:
        """How many of them are dead or cancelled."""
        return self.progress.failed

    @property
    def progress_percent(self) -> float:
        """Completed jobs of a hundred; 0.0 for a workflow without jobs."""
        return self.progress.completed / self.progress.total * 100.0 if self.progress.total else 0.0


class DependentJob(Model, frozen=True):
    """One end of a dependency."""

    job_id: str
    queue_name: str = ""
    status: str = ""


class JobDependencies(Model, frozen=True):
    """What a job waits for, and what waits for it. `dependency_mode` is `all` or `any`."""

    job_id: str
    dependencies: list[DependentJob] = []
    dependents: list[DependentJob] = []
    dependencies_met: bool = True
    dependency_mode: str | None = None


class AddDependenciesResponse(Model, frozen=True):
    """Answer to `workflows.jobs.add_dependencies`."""

    dependencies_added: int = 0
    dependencies_met: bool = False
    job_id: str | None = None
