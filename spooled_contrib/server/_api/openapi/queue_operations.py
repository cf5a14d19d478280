"""Queues and workers in words and types (contract sections 4 and 5)."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api import bodies, queue_routes, worker_routes
from spooled_contrib.server._api.openapi import replies
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import BOOLEAN

_QUEUE: Final = {"name": bodies.QueueName}

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/queues": returns("List queues", list[replies.QueueSummary]),
    "GET /api/v1/queues/{name}": returns("A queue's configuration", replies.QueueConfig, path=_QUEUE),
    "DELETE /api/v1/queues/{name}": returns(
        "Delete a queue's configuration, with all of its jobs if asked",
        Empty,
        status=204,
        path=_QUEUE,
        query=[Query("delete_jobs", BOOLEAN, "false unless told")],
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
}
