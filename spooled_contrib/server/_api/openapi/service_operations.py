"""Health and realtime in words and types (contract section 2, and the realtime contract)."""

from __future__ import annotations

from typing import Any, Final

from spooled_contrib.server._api.openapi import replies
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import Id, Text

_EVENTS = (
    Query("queue", Any, "Only events of this queue; 400 when it cannot be a queue's name"),
    Query("job_id", Id, "Only events of this job"),
    Query("events", Text, "Names of events, comma separated; * for all"),
)

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /health": returns("Whether the database answers; 200 even when it does not", replies.HealthReply),
    "GET /health/live": returns("The process answers", Empty),
    "GET /health/ready": Operation(about="Requests can be served", replies={200: Empty}, errors=(503,)),
    "GET /metrics": returns(
        "What Prometheus reads",
        str,
        media_type="text/plain; version=0.0.4; charset=utf-8",
        errors=(401,),
        extra_security=("metricsToken",),
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
