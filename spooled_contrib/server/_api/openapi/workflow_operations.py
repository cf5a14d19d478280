"""Workflows in words and types (contract section 7)."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api import workflow_routes
from spooled_contrib.server._api.openapi import schedule_replies as replies
from spooled_contrib.server._api.openapi.operation import Link, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import page

_ID: Final = {"id": "$response.body#/workflow_id"}

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/workflows": returns(
        "List workflows, the newest first",
        list[replies.WorkflowSummary],
        query=(
            Query("status", str, "Only those of this status; one that does not exist is ignored"),
            *page(),
        ),
    ),
    "POST /api/v1/workflows": returns(
        "Create jobs that wait for each other, all or none",
        replies.WorkflowCreated,
        body=workflow_routes.NewWorkflowBody,
        errors=(403, 413),
        links={
            "get": Link("GET /api/v1/workflows/{id}", _ID),
            "cancel": Link("POST /api/v1/workflows/{id}/cancel", _ID),
            "retry": Link("POST /api/v1/workflows/{id}/retry", _ID),
        },
    ),
    "GET /api/v1/workflows/{id}": returns("One workflow with its jobs", replies.Workflow),
    "POST /api/v1/workflows/{id}/cancel": returns(
        "Cancel a workflow and its jobs that wait; those that run go on", replies.WorkflowSummary
    ),
    "POST /api/v1/workflows/{id}/retry": returns(
        "Run a failed workflow again; 400 when it has not failed", replies.WorkflowSummary, errors=(403,)
    ),
}
