"""Workflows in words and types (contract section 7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from spooled_contrib.server._api import workflow_routes
from spooled_contrib.server._api.openapi.operation import Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import page
from spooled_contrib.server._api.openapi.replies import Count

Status = Literal["pending", "running", "completed", "failed", "cancelled"]


class CreatedStep(Struct):
    key: str
    job_id: str


class WorkflowCreated(Struct):
    workflow_id: str
    job_ids: list[CreatedStep]
    status: Status


class WorkflowSummary(Struct):
    id: str
    name: str
    description: str | None
    status: Status
    total_jobs: Count
    completed_jobs: Count
    failed_jobs: Count
    progress_percent: float
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    metadata: Any


class StepError(Struct):
    type: Literal["JobError"]
    message: str
    stack: None


class WorkflowJob(Struct):
    id: str
    organization_id: str
    queue: str
    job_type: str
    payload: Any
    status: str
    priority: int
    attempt: Count
    max_retries: Count
    backoff_type: str
    timeout_ms: Count | None
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    next_retry_at: datetime | None
    result: Any
    error: StepError | None
    metadata: Any
    workflow_id: str | None
    parent_job_id: str | None


class WorkflowEdge(Struct):
    parent_job_id: str
    child_job_id: str
    dependency_type: Literal["all", "any"]


class WorkflowProgress(Struct):
    total: Count
    completed: Count
    failed: Count
    pending: Count
    processing: Count


class Workflow(Struct):
    id: str
    organization_id: str
    name: str
    description: str | None
    status: Status
    jobs: list[WorkflowJob]
    dependencies: list[WorkflowEdge]
    progress: WorkflowProgress
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    metadata: Any


OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/workflows": returns(
        "List workflows, newest first",
        list[WorkflowSummary],
        query=(Query("status", Any, "Only of this status; one that does not exist is ignored"), *page()),
    ),
    "POST /api/v1/workflows": returns(
        "Create jobs that wait for each other, all or none",
        WorkflowCreated,
        body=workflow_routes.NewWorkflowBody,
        errors=(403, 413),
    ),
    "GET /api/v1/workflows/{id}": returns("One workflow, its jobs and its edges", Workflow),
    "POST /api/v1/workflows/{id}/cancel": returns("Cancel a workflow and its waiting jobs", WorkflowSummary),
    "POST /api/v1/workflows/{id}/retry": returns("Revive a failed workflow", WorkflowSummary),
}
