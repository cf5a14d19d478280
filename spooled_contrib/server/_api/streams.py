"""Server-sent events (realtime contract, sections 1 and 4)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._api.subscriptions import (
    EVENT_NAMES,
    KEY_CHECK_SECONDS,
    WantedNames,
    may_go_on,
    requested,
)
from spooled_contrib.server._events import Subscription
from spooled_contrib.server._rules import queues, reading
from spooled_contrib.server._rules.statuses import CANCELLED, COMPLETED, DEADLETTER, FAILED
from spooled_contrib.server._storage.errors import StorageFailedError
from spooled_contrib.server._times import text

logger = logging.getLogger("spooled.server")

# Intervals of the wire, measured in real seconds: a network's silence has nothing to do with the clock of the jobs.
PING_SECONDS = 15.0
HEALTH_SECONDS = 10.0
JOB_POLL_SECONDS = 2.0
QUEUE_STATS_SECONDS = 5.0
LONGEST_STREAM_SECONDS = 1800.0

_ENDS = frozenset({COMPLETED, FAILED, DEADLETTER, CANCELLED})

CONNECTED = b": connected\n\n"


def frame(kind: str, data: dict[str, Any]) -> bytes:
    """One event: its SSE name, and the envelope that the WebSocket would carry."""
    body = msgspec.json.encode({"type": kind, "data": data})
    return b"event: " + EVENT_NAMES[kind].encode() + b"\ndata: " + body + b"\n\n"


class EventStream(StreamingResponse):
    """Events as they come. It listens from before its first byte is sent until it ends."""

    def __init__(self, call: Call, subscription: Subscription, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(
            _until_failure(chunks), media_type="text/event-stream", headers={"cache-control": "no-cache"}
        )
        self._hub = call.services.hub
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nothing is awaited between the count of open streams and this, so that no crowd can slip through together.
        self._hub.subscribe(self._subscription)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.unsubscribe(self._subscription)


async def _until_failure(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """End a stream that needs the database while there is none; the client connects again."""
    try:
        async for chunk in chunks:
            yield chunk
    except StorageFailedError as error:
        logger.info("a stream was ended: %s", error)


async def organization_events(call: Call) -> EventStream:
    subscription, wanted = requested(call, "stream")
    return EventStream(call, subscription, _organization_stream(call, subscription, wanted))


async def _organization_stream(
    call: Call, subscription: Subscription, wanted: WantedNames
) -> AsyncIterator[bytes]:
    def passes(kind: str) -> bool:
        return wanted is None or EVENT_NAMES[kind] in wanted

    now = asyncio.get_running_loop().time
    await call.services.hub.made_known()
    yield CONNECTED
    end = now() + LONGEST_STREAM_SECONDS
    health_at, spoke_at = now() + HEALTH_SECONDS, now()
    # With a filter on one queue or job, events that belong to none are dropped.
    health = passes("SystemHealth") and subscription.queue_name is None and subscription.job_id is None
    while now() < end:
        wait = min(KEY_CHECK_SECONDS, health_at - now(), spoke_at + PING_SECONDS - now())
        events = await subscription.next_events(max(wait, 0.001))
        if subscription.closed or not await may_go_on(call, subscription):
            return
        chunk = b"".join(frame(event.type, event.data) for event in events if passes(event.type))
        if now() >= health_at:
            health_at = now() + HEALTH_SECONDS
            if health:
                sound = call.services.health.reason is None
                data = {"database": sound, "redis": False, "timestamp": text(call.services.now)}
                chunk += frame("SystemHealth", data)
        if not chunk and now() >= spoke_at + PING_SECONDS:
            chunk = b": ping\n\n"
        if chunk:
            spoke_at = now()
            yield chunk


async def job_events(call: Call) -> EventStream:
    subscription = Subscription(
        call.principal.organization_id, call.principal.queues, job_id=call.parameters[0]
    )
    return EventStream(call, subscription, _job_stream(call, subscription))


async def _job_stream(call: Call, subscription: Subscription) -> AsyncIterator[bytes]:
    now = asyncio.get_running_loop().time
    job_id = call.parameters[0]
    await call.services.hub.made_known()
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
        if subscription.closed or not await may_go_on(call, subscription):
            return


async def queue_events(call: Call) -> EventStream:
    # Nothing is delivered through this subscription; it is how the server ends the stream.
    subscription = Subscription(call.principal.organization_id, frozenset())
    return EventStream(call, subscription, _queue_stream(call, subscription))


async def _queue_stream(call: Call, subscription: Subscription) -> AsyncIterator[bytes]:
    now = asyncio.get_running_loop().time
    name = call.parameters[0]
    await call.services.hub.made_known()
    yield CONNECTED
    end = now() + LONGEST_STREAM_SECONDS
    stats_at = now()
    while now() < end and call.principal.may_use(name):
        if now() >= stats_at:
            stats_at = now() + QUEUE_STATS_SECONDS
            counts = await call.read(lambda tx: queues.live_counts(tx, call.principal, name))
            yield frame("QueueStats", {"queue_name": name, **counts, "timestamp": text(call.services.now)})
        await subscription.next_events(max(0.001, min(KEY_CHECK_SECONDS, stats_at - now())))
        if subscription.closed or not await may_go_on(call, None):
            return


ROUTES = [
    Route("GET", "/api/v1/events", organization_events, "stream"),
    Route("GET", "/api/v1/events/jobs/{id}", job_events, "stream"),
    Route("GET", "/api/v1/events/queues/{name}", queue_events, "stream"),
]
