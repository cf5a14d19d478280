"""Jobs in words and types (contract section 3)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from spooled_contrib.server._api import (
    bodies,
    dead_letter_routes,
    job_control,
    job_creation,
    job_leases,
    job_settling,
)
from spooled_contrib.server._api.job_objects import Job
from spooled_contrib.server._api.openapi import replies
from spooled_contrib.server._api.openapi.operation import Empty, Link, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import ORDER_DIR, QUEUE_FILTER, Integer, Text, page

_Orders = Literal[
    "created_at",
    "updated_at",
    "scheduled_at",
    "completed_at",
    "priority",
    "status",
    "queue_name",
    "retry_count",
]
_STATUS = "(pending|scheduled|processing|completed|failed|deadletter|cancelled)"
_Statuses = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_STATUS}(,{_STATUS})*$"})]
_JOBS = (
    *QUEUE_FILTER,
    Query("q", Text, "Part of a queue name or job type, or the start of an id; case does not matter"),
    Query("job_type", Text, "payload.job_type, exactly"),
    Query("created_after", bodies.Time, "Inclusive; RFC 3339 with an offset"),
    Query("created_before", bodies.Time, "Exclusive; RFC 3339 with an offset"),
    Query("tag", Text, "An element or key of tags"),
    Query("order_by", _Orders, "created_at unless told"),
    Query("order_dir", ORDER_DIR, "desc unless told"),
    *page(),
)
_CLAIMED: Final = {"id": "$response.body#/jobs/0/id"}
_LEASE: Final = {
    "worker_id": "$request.body#/worker_id",
    "lease_id": "$response.body#/jobs/0/lease_id",
}
_CREATION_ERRORS = (403, 413)
_ACK_ERRORS = (409,)

OPERATIONS: Final[dict[str, Operation]] = {
    "POST /api/v1/jobs": Operation(
        about="Create a job",
        body=job_creation.NewJobBody,
        replies={201: job_creation.CreateReply, 200: job_creation.CreateReply},
        errors=_CREATION_ERRORS,
        links={
            "get": Link("GET /api/v1/jobs/{id}", {"id": "$response.body#/id"}),
            "history": Link("GET /api/v1/jobs/{id}/history", {"id": "$response.body#/id"}),
            "cancel": Link("DELETE /api/v1/jobs/{id}", {"id": "$response.body#/id"}),
            "claim": Link(
                "POST /api/v1/jobs/claim",
                body={"queue_name": "$request.body#/queue_name", "worker_id": "worker"},
            ),
        },
    ),
    "POST /api/v1/jobs/bulk": returns(
        "Create up to 100 jobs of one queue, all or none",
        job_creation.BulkReply,
        body=job_creation.BulkBody,
        errors=_CREATION_ERRORS,
    ),
    "POST /api/v1/jobs/claim": returns(
        "Lease the next jobs of a queue; an empty list when there are none",
        job_leases.ClaimReply,
        body=job_leases.ClaimBody,
        errors=(403,),
        links={
            "complete": Link("POST /api/v1/jobs/{id}/complete", _CLAIMED, {**_LEASE, "result": 1}),
            "fail": Link("POST /api/v1/jobs/{id}/fail", _CLAIMED, {**_LEASE, "error": "it failed"}),
            "heartbeat": Link("POST /api/v1/jobs/{id}/heartbeat", _CLAIMED, _LEASE),
        },
    ),
    "POST /api/v1/jobs/{id}/complete": returns(
        "Acknowledge a leased job", replies.SuccessReply, body=job_leases.CompleteBody, errors=_ACK_ERRORS
    ),
    "POST /api/v1/jobs/{id}/fail": returns(
        "Report a failure: the job waits for its next attempt, or is dead-lettered",
        replies.SuccessReply,
        body=job_leases.FailBody,
        errors=_ACK_ERRORS,
    ),
    "POST /api/v1/jobs/settle": returns(
        "Acks in batches: settle many leased jobs, each by itself and with an answer of its own, and claim more",
        job_settling.SettleReply,
        body=job_settling.SettleBody,
    ),
    "POST /api/v1/jobs/{id}/heartbeat": returns(
        "Set a lease's end anew, counted from now",
        replies.SuccessReply,
        body=job_leases.JobHeartbeatBody,
        errors=_ACK_ERRORS,
    ),
    "GET /api/v1/jobs": returns(
        "List jobs",
        replies.JobList,
        query=(*_JOBS, Query("status", _Statuses, "One or more, comma separated")),
        pages=True,
    ),
    "GET /api/v1/jobs/stats": returns(
        "Count jobs by status", replies.JobStats, query=QUEUE_FILTER, errors=(404,)
    ),
    "GET /api/v1/jobs/status": returns(
        "The status of up to 100 jobs; unknown ids are left out",
        list[replies.JobStatus],
        query=[Query("ids", str, "Ids, comma separated", required=True)],
    ),
    "GET /api/v1/jobs/{id}": returns("One job", Job),
    "GET /api/v1/jobs/{id}/history": returns(
        "What happened to a job",
        list[replies.HistoryEntry],
        query=(
            Query("order_dir", ORDER_DIR, "asc unless told"),
            Query("limit", Integer, "100 unless told; moved into 1 to 500"),
            Query("offset", Integer, "0 unless told; negative ones are 0"),
        ),
        pages=True,
    ),
    "GET /api/v1/jobs/{id}/dependencies": returns(
        "What a job waits for, and what waits for it", replies.DependenciesReply
    ),
    "DELETE /api/v1/jobs/{id}": returns("Cancel a waiting job", Empty, status=204, errors=(409,)),
    "POST /api/v1/jobs/{id}/retry": returns("Revive a dead job", Job, errors=(409,)),
    "PUT /api/v1/jobs/{id}/priority": returns(
        "Set a waiting job's priority", replies.PriorityReply, body=job_control.PriorityBody
    ),
    "POST /api/v1/jobs/{id}/dependencies": returns(
        "Make a job wait for others", replies.DependenciesAdded, body=job_control.DependenciesBody
    ),
    "GET /api/v1/jobs/dlq": returns("List dead letters", replies.JobList, query=_JOBS, pages=True),
    "POST /api/v1/jobs/dlq/retry": returns(
        "Revive dead letters",
        replies.DeadLettersRetried,
        body=dead_letter_routes.RetryBody,
        errors=(403,),
    ),
    "POST /api/v1/jobs/dlq/purge": returns(
        "Delete dead letters for good",
        replies.DeadLettersPurged,
        body=dead_letter_routes.PurgeBody,
        errors=(403,),
    ),
}
