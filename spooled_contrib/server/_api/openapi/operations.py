"""Every route in words and types. A new route needs one entry here; a test names those that have none."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from spooled_contrib.server._api import (
    api_key_routes,
    auth_routes,
    bodies,
    dead_letter_routes,
    job_control,
    job_creation,
    job_leases,
    organization_routes,
    queue_routes,
    worker_routes,
)
from spooled_contrib.server._api.job_objects import Job
from spooled_contrib.server._api.openapi import account_replies as account
from spooled_contrib.server._api.openapi import replies
from spooled_contrib.server._api.openapi.operation import Empty, Link, Operation, Query, returns

_Integer = Annotated[int, Meta(ge=-(10**18) + 1, le=10**18 - 1)]
_Text = Annotated[str, Meta(max_length=1024, extra_json_schema=bodies.NO_NUL)]
_Id = Annotated[str, Meta(max_length=255, extra_json_schema=bodies.NO_NUL)]
_Order = Literal["asc", "desc"]
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
_Statuses = Annotated[
    str,
    Meta(
        extra_json_schema={
            "pattern": "^(pending|scheduled|processing|completed|failed|deadletter|cancelled)"
            "(,(pending|scheduled|processing|completed|failed|deadletter|cancelled))*$"
        }
    ),
]
_QUEUE: Final = {"name": bodies.QueueName}

_QUEUE_FILTER = (
    Query("queue_name", _Text, "Only this queue"),
    Query("queue", _Text, "Another name of queue_name"),
)
_PAGE = (
    Query("limit", _Integer, "Rows of a page, 50 unless told; moved into 1 to 100"),
    Query("offset", _Integer, "Rows to pass over, 0 unless told; negative ones are 0"),
)
_JOBS = (
    *_QUEUE_FILTER,
    Query("q", _Text, "Part of a queue name or job type, or the start of an id; case does not matter"),
    Query("job_type", _Text, "payload.job_type, exactly"),
    Query("created_after", bodies.Time, "Inclusive; RFC 3339 with an offset"),
    Query("created_before", bodies.Time, "Exclusive; RFC 3339 with an offset"),
    Query("tag", _Text, "An element or key of tags"),
    Query("order_by", _Orders, "created_at unless told"),
    Query("order_dir", _Order, "desc unless told"),
    *_PAGE,
)
_EVENTS = (
    Query("queue", Any, "Only events of this queue; 400 when it cannot be a queue's name"),
    Query("job_id", _Id, "Only events of this job"),
    Query("events", _Text, "Names of events, comma separated; * for all"),
)
_CLAIMED: Final = {"id": "$response.body#/jobs/0/id"}
_LEASE: Final = {
    "worker_id": "$request.body#/worker_id",
    "lease_id": "$response.body#/jobs/0/lease_id",
}
_CREATION_ERRORS = (403, 413)
_ACK_ERRORS = (409,)

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /health": returns("Whether the database answers; 200 even when it does not", replies.HealthReply),
    "GET /health/live": returns("The process answers", Empty),
    "GET /health/ready": Operation(about="Requests can be served", replies={200: Empty, 503: Empty}),
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
        "Count jobs by status", replies.JobStats, query=_QUEUE_FILTER, errors=(404,)
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
            Query("order_dir", _Order, "asc unless told"),
            Query("limit", _Integer, "100 unless told; moved into 1 to 500"),
            Query("offset", _Integer, "0 unless told; negative ones are 0"),
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
    "GET /api/v1/queues": returns("List queues", list[replies.QueueSummary]),
    "GET /api/v1/queues/{name}": returns("A queue's configuration", replies.QueueConfig, path=_QUEUE),
    "DELETE /api/v1/queues/{name}": returns(
        "Delete a queue's configuration, with all of its jobs if asked",
        Empty,
        status=204,
        path=_QUEUE,
        query=[Query("delete_jobs", Literal["true", "false"], "false unless told")],
        errors=(403, 409),
    ),
    "PUT /api/v1/queues/{name}/config": returns(
        "Configure a queue; what is left out keeps its value",
        replies.QueueConfig,
        path=_QUEUE,
        body=queue_routes.ConfigBody,
        errors=(403, 413, 415),
    ),
    "GET /api/v1/queues/{name}/stats": returns(
        "A queue's numbers; zeros when it is unknown", replies.QueueStats, path=_QUEUE
    ),
    "POST /api/v1/queues/{name}/pause": returns(
        "Stop claims",
        replies.QueuePaused,
        path=_QUEUE,
        body=queue_routes.PauseBody,
        body_is_optional=True,
        errors=(403,),
    ),
    "POST /api/v1/queues/{name}/resume": returns(
        "Let claims go on", replies.QueueResumed, path=_QUEUE, errors=(403,)
    ),
    "POST /api/v1/workers/register": returns(
        "Register a worker, or renew its registration",
        replies.WorkerRegistered,
        status=201,
        body=worker_routes.RegisterBody,
        errors=(403, 409),
    ),
    "GET /api/v1/workers": returns("List workers", list[replies.WorkerSummary]),
    "GET /api/v1/workers/{id}": returns("One worker", replies.Worker),
    "POST /api/v1/workers/{id}/heartbeat": returns(
        "A worker lives", Empty, body=worker_routes.WorkerHeartbeatBody
    ),
    "POST /api/v1/workers/{id}/deregister": returns("A worker leaves", Empty, status=204),
    "POST /api/v1/organizations": returns(
        "Create an organization and its first API key",
        account.OrganizationCreated,
        status=201,
        body=organization_routes.NewOrganizationBody,
        errors=(403, 409, 429),
        extra_security=("adminKey",),
    ),
    "GET /api/v1/organizations": returns("The caller's organization", list[account.OrganizationSummary]),
    "GET /api/v1/organizations/usage": returns(
        "What is used of each limit", account.UsageReply, errors=(403,)
    ),
    "GET /api/v1/organizations/{id}": returns("One organization, the caller's own", account.Organization),
    "GET /api/v1/api-keys": returns("List API keys", list[account.ApiKey], errors=(403,)),
    "POST /api/v1/api-keys": returns(
        "Create an API key; it is shown this once",
        account.ApiKeyCreated,
        status=201,
        body=api_key_routes.NewKeyBody,
        errors=(403,),
    ),
    "GET /api/v1/api-keys/{id}": returns("One API key", account.ApiKey, errors=(403,)),
    "PUT /api/v1/api-keys/{id}": returns(
        "Change an API key", account.ApiKey, body=api_key_routes.ChangeBody, errors=(403,)
    ),
    "DELETE /api/v1/api-keys/{id}": returns("Revoke an API key", Empty, status=204, errors=(403,)),
    "POST /api/v1/auth/login": returns(
        "Exchange an API key for tokens",
        account.LoginReply,
        body=auth_routes.LoginBody,
        errors=(401, 429),
    ),
    "POST /api/v1/auth/refresh": returns(
        "A new access token", account.RefreshReply, body=auth_routes.RefreshBody, errors=(401,)
    ),
    "POST /api/v1/auth/logout": returns(
        "End a login", Empty, status=204, body=auth_routes.LogoutBody, body_is_optional=True
    ),
    "GET /api/v1/auth/me": returns("Who the access token speaks for", account.MeReply),
    "POST /api/v1/auth/validate": returns(
        "Whether a token is valid", account.ValidateReply, body=auth_routes.ValidateBody
    ),
    "GET /api/v1/events": returns(
        "Events of the organization, as they happen",
        str,
        query=_EVENTS,
        media_type="text/event-stream",
        errors=(403,),
    ),
    "GET /api/v1/events/jobs/{id}": returns(
        "A job's status, until it ends", str, media_type="text/event-stream"
    ),
    "GET /api/v1/events/queues/{name}": returns(
        "A queue's counters, every five seconds", str, media_type="text/event-stream"
    ),
    "GET /api/v1/ws": returns(
        "The same events over a WebSocket", Empty, status=101, query=_EVENTS, errors=(403, 426)
    ),
}
