"""Workers (contract section 5)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server._api import bodies, job_settling
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_objects import raw
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import workers
from spooled_contrib.server._rules.names import check_hostname, check_queue_name, check_worker_id
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 10

Text50 = Annotated[str, Meta(max_length=50, extra_json_schema=bodies.NO_NUL)]


HostName = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^[\p{L}\p{N}_]([\p{L}\p{N}_.\-]*[\p{L}\p{N}_])?$",
        }
    ),
]
WorkerId = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": 128, "pattern": r"^[A-Za-z0-9._\-]+$"})
]


class RegisterBody(Struct):
    queue_name: bodies.QueueName
    hostname: HostName
    worker_id: WorkerId | None = None
    worker_type: Text50 | None = None
    max_concurrency: Annotated[int, Meta(ge=1, le=100)] | None = None
    metadata: Raw = bodies.NULL
    version: Text50 | None = None


class WorkerHeartbeatBody(Struct):
    current_jobs: Annotated[int, Meta(ge=0, le=1000)]
    status: Literal["healthy", "degraded", "draining", "offline"] | None = None
    metadata: Raw = bodies.NULL


_register = Decoder(RegisterBody)
_heartbeat = Decoder(WorkerHeartbeatBody)


async def register(call: Call) -> Reply:
    body = await call.json(_register)
    check_queue_name(body.queue_name)
    check_hostname(body.hostname)
    if body.worker_id is not None:
        check_worker_id(body.worker_id)
    bodies.check_text(body.worker_type, "worker_type")
    bodies.check_text(body.version, "version")
    metadata = bodies.json_text(body.metadata, "metadata", bodies.MAX_JSON_MEMBER)
    worker = workers.NewWorker(
        queue_name=body.queue_name,
        hostname=body.hostname,
        worker_id=body.worker_id,
        worker_type=body.worker_type,
        max_concurrency=body.max_concurrency or 5,
        metadata="{}" if metadata is None else metadata[0],
        version=body.version,
    )
    principal, limits = call.principal, call.limits
    worker_id = await call.write(lambda tx: workers.register(tx, principal, limits, worker))
    answer: dict[str, Any] = {
        "id": worker_id,
        "queue_name": body.queue_name,
        "lease_duration_secs": LEASE_SECONDS,
        "heartbeat_interval_secs": HEARTBEAT_SECONDS,
    }
    if call.services.settings.ack_batches:
        answer["settle"] = {"max": job_settling.MAX_ITEMS}
    return json_reply(answer, 201)


async def heartbeat(call: Call) -> Reply:
    body = await call.json(_heartbeat)
    metadata = bodies.json_text(body.metadata, "metadata", bodies.MAX_JSON_MEMBER)
    text = None if metadata is None else metadata[0]
    principal, worker_id = call.principal, call.parameters[0]
    await call.write(
        lambda tx: workers.heartbeat(tx, principal, worker_id, body.current_jobs, body.status, text)
    )
    return Reply(200)


async def deregister(call: Call) -> Reply:
    principal, worker_id = call.principal, call.parameters[0]
    await call.write(lambda tx: workers.deregister(tx, principal, worker_id))
    return Reply(NO_CONTENT)


async def list_workers(call: Call) -> Reply:
    principal = call.principal
    rows = await call.read(lambda tx: workers.list_workers(tx, principal))
    return json_reply([_summary(row) for row in rows])


async def get_worker(call: Call) -> Reply:
    principal, worker_id = call.principal, call.parameters[0]
    row = await call.read(lambda tx: workers.get_worker(tx, principal, worker_id))
    return json_reply(
        {
            **_summary(row),
            "organization_id": row[1],
            "queue_names": [row[2]],
            "worker_type": row[4],
            "metadata": raw(row[9]),
            "version": row[10],
            "registered_at": moment(row[11]),
            "updated_at": moment(row[12]),
        }
    )


def _summary(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "queue_name": row[2],
        "hostname": row[3],
        "status": row[7],
        "current_jobs": row[6],
        "max_concurrency": row[5],
        "last_heartbeat": moment(row[8]),
        "jobs_processed": row[13],
        "jobs_failed": row[14],
    }


ROUTES = [
    Route("POST", "/api/v1/workers/register", register),
    Route("GET", "/api/v1/workers", list_workers),
    Route("GET", "/api/v1/workers/{id}", get_worker),
    Route("POST", "/api/v1/workers/{id}/heartbeat", heartbeat),
    Route("POST", "/api/v1/workers/{id}/deregister", deregister),
]
