"""Server-sent events (realtime contract, sections 1 and 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from starlette.responses import StreamingResponse

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._events import Subscription
from spooled_contrib.server._rules import queues, reading
from spooled_contrib.server._rules.names import is_queue_name
from spooled_contrib.server._rules.statuses import CANCELLED, COMPLETED, DEADLETTER, FAILED
from spooled_contrib.server._times import text

# Intervals of the wire, measured in real seconds: a network's silence has nothing to do with the clock of the jobs.
PING_SECONDS = 15.0
HEALTH_SECONDS = 10.0
KEY_CHECK_SECONDS = 2.0
JOB_POLL_SECONDS = 2.0
QUEUE_STATS_SECONDS = 5.0
LONGEST_STREAM_SECONDS = 1800.0

STREAMS_PER_ORGANIZATION = 100

EVENT_NAMES: Final = {
    "JobStatusChange": "job.status",
    "JobCreated": "job.created",
    "JobCompleted": "job.completed",
    "JobFailed": "job.failed",
    "QueueStats": "queue.stats",
    "SystemHealth": "system.health",
    "Error": "error",
}
_CANONICAL = {"job.status_changed": "job.status"}
_ENDS = frozenset({COMPLETED, FAILED, DEADLETTER, CANCELLED})

CONNECTED = b": connected\n\n"


def frame(kind: str, data: dict[str, Any]) -> bytes:
    """One event: its SSE name, and the envelope that the WebSocket would carry."""
    body = msgspec.json.encode({"type": kind, "data": data})
    return b"event: " + EVENT_NAMES[kind].encode() + b"\ndata: " + body + b"\n\n"


async def organization_events(call: Call) -> StreamingResponse:
    queue_name = call.query.get("queue")
    if queue_name is not None:
        # "*" is a name like any other here: it is matched literally, and no queue has it.
        if queue_name != "*" and not is_queue_name(queue_name):
            raise refuse.bad_request("queue must be a queue name")
        call.principal.require_queue(queue_name)
    if call.services.hub.count(call.principal.organization_id) >= STREAMS_PER_ORGANIZATION:
        raise refuse.RefusalError(
            429, "RATE_LIMIT_EXCEEDED", f"The organization has {STREAMS_PER_ORGANIZATION} streams open"
        )
    subscription = Subscription(
        call.principal.organization_id,
        call.principal.queues,
        queue_name=queue_name,
        job_id=call.text("job_id", 255),
    )
    return _stream(_organization_stream(call, subscription, _wanted_names(call)))


def _wanted_names(call: Call) -> frozenset[str] | None:
    names = call.text("events", 1024)
    if names is None:
        return None
    wanted = {part.strip().lower() for part in names.split(",")}
    return None if "*" in wanted else frozenset(_CANONICAL.get(name, name) for name in wanted)


async def _organization_stream(
    call: Call, subscription: Subscription, wanted: frozenset[str] | None
) -> AsyncIterator[bytes]:
    def passes(kind: str) -> bool:
        return wanted is None or EVENT_NAMES[kind] in wanted

    hub, now = call.services.hub, asyncio.get_running_loop().time
    hub.subscribe(subscription)
    try:
        await hub.made_known()
        yield CONNECTED
        end = now() + LONGEST_STREAM_SECONDS
        health_at, spoke_at = now() + HEALTH_SECONDS, now()
        # With a filter on one queue or job, events that belong to none are dropped.
        health = passes("SystemHealth") and subscription.queue_name is None and subscription.job_id is None
        while now() < end:
            wait = min(KEY_CHECK_SECONDS, health_at - now(), spoke_at + PING_SECONDS - now())
            events = await subscription.next_events(max(wait, 0.001))
            if subscription.closed or not await _may_go_on(call, subscription):
                return
            chunk = b"".join(frame(event.type, event.data) for event in events if passes(event.type))
            if now() >= health_at:
                health_at = now() + HEALTH_SECONDS
                if health:
                    data = {"database": True, "redis": False, "timestamp": text(call.services.now)}
                    chunk += frame("SystemHealth", data)
            if not chunk and now() >= spoke_at + PING_SECONDS:
                chunk = b": ping\n\n"
            if chunk:
                spoke_at = now()
                yield chunk
    finally:
        hub.unsubscribe(subscription)


async def job_events(call: Call) -> StreamingResponse:
    subscription = Subscription(
        call.principal.organization_id, call.principal.queues, job_id=call.parameters[0], silent_too=True
    )
    return _stream(_job_stream(call, subscription))


async def _job_stream(call: Call, subscription: Subscription) -> AsyncIterator[bytes]:
    hub, now = call.services.hub, asyncio.get_running_loop().time
    job_id = call.parameters[0]
    hub.subscribe(subscription)
    try:
        await hub.made_known()
        yield CONNECTED
        end = now() + LONGEST_STREAM_SECONDS
        status = ""
        while now() < end:
            try:
                row = await call.read(lambda tx: reading.get_job(tx, call.principal, job_id))
            except refuse.RefusalError:
                if status:
                    yield frame("Error", {"message": "Job not found", "timestamp": text(call.services.now)})
                return
            if row[3] != status:
                yield frame(
                    "JobStatusChange",
                    {
                        "job_id": job_id,
                        "queue_name": row[2],
                        "old_status": status,
                        "new_status": row[3],
                        "timestamp": text(call.services.now),
                    },
                )
                status = row[3]
            else:
                yield b": keepalive\n\n"
            if status in _ENDS:
                return
            # The contract polls; a change that is announced here is seen at once.
            await subscription.next_events(JOB_POLL_SECONDS)
            if subscription.closed or not await _may_go_on(call, subscription):
                return
    finally:
        hub.unsubscribe(subscription)


async def queue_events(call: Call) -> StreamingResponse:
    # Nothing is delivered through this subscription; it is how the server ends the stream.
    subscription = Subscription(call.principal.organization_id, frozenset(), silent_too=True)
    return _stream(_queue_stream(call, subscription))


async def _queue_stream(call: Call, subscription: Subscription) -> AsyncIterator[bytes]:
    hub, now = call.services.hub, asyncio.get_running_loop().time
    name = call.parameters[0]
    hub.subscribe(subscription)
    try:
        await hub.made_known()
        yield CONNECTED
        end = now() + LONGEST_STREAM_SECONDS
        stats_at = now()
        while now() < end and call.principal.may_use(name):
            if now() >= stats_at:
                stats_at = now() + QUEUE_STATS_SECONDS
                counts = await call.read(lambda tx: queues.live_counts(tx, call.principal, name))
                yield frame(
                    "QueueStats", {"queue_name": name, **counts, "timestamp": text(call.services.now)}
                )
            await subscription.next_events(max(0.001, min(KEY_CHECK_SECONDS, stats_at - now())))
            if subscription.closed or not await _may_go_on(call, None):
                return
    finally:
        hub.unsubscribe(subscription)


async def _may_go_on(call: Call, subscription: Subscription | None) -> bool:
    """Whether the credential is still good; its present scope replaces the one from the start."""
    try:
        key = await call.services.gate.authenticate(call.bearer)
    except refuse.RefusalError:
        return False
    call.principal = key.principal
    if subscription is not None:
        subscription.queues = key.principal.queues
    return True


def _stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"cache-control": "no-cache"})


ROUTES = [
    Route("GET", "/api/v1/events", organization_events, "stream"),
    Route("GET", "/api/v1/events/jobs/{id}", job_events, "stream"),
    Route("GET", "/api/v1/events/queues/{name}", queue_events, "stream"),
]
