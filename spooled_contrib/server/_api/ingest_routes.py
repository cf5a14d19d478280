"""Inbound webhooks: the endpoint, its log, and the token that opens it (contract sections 8 and 10)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_creation import Priority, Text255, job_type
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._keys import new_webhook_token
from spooled_contrib.server._rules import creation, ingest, organizations
from spooled_contrib.server._rules.names import check_queue_name
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import moment

RESERVED_QUEUES = frozenset({"admin", "system", "internal", "root", "default"})


_reserved = "|".join("".join(f"[{char.upper()}{char}]" for char in name) for name in sorted(RESERVED_QUEUES))
IngestQueue = Annotated[
    bodies.QueueName, Meta(extra_json_schema={"not": {"pattern": rf"^({_reserved})$|\.\."}})
]
EventType = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]


class IngestBody(Struct):
    queue_name: IngestQueue
    payload: Raw
    event_type: EventType | None = None
    idempotency_key: Text255 | None = None
    priority: Priority | None = None


_ingest = Decoder(IngestBody)


async def ingest_job(call: Call) -> Reply:
    """200 also for a new job: what is answered is the row as it is stored."""
    organization_id = call.parameters[0]
    sent = call.header(b"x-webhook-token")
    token = None if sent is None else sent.decode("latin-1")
    # Before the body is read: a stranger must not be able to make the server parse two megabytes.
    await call.read(lambda tx: ingest.check_token(tx, organization_id, token))
    body = await call.json(_ingest)
    check_queue_name(body.queue_name)
    if body.queue_name.lower() in RESERVED_QUEUES or ".." in body.queue_name:
        raise refuse.invalid("queue_name", f"{body.queue_name!r} is not open to webhooks")
    bodies.check_text(body.event_type, "event_type")
    bodies.check_text(body.idempotency_key, "idempotency_key")
    payload, value = bodies.required_json_text(body.payload, "payload", bodies.MAX_BODY)
    job = creation.NewJob(
        queue_name=body.queue_name,
        payload=payload,
        job_type=job_type(value),
        priority=body.priority or 0,
        idempotency_key=body.idempotency_key,
    )
    limits, event_type = call.services.limits_of(organization_id), body.event_type or ingest.PROVIDER

    def write(tx: Tx) -> Row:
        ingest.check_token(tx, organization_id, token)
        return ingest.ingest(tx, organization_id, limits, job, event_type)

    row = await call.write(write)
    return json_reply({"job_id": row[0], "queue_name": row[1], "status": row[2]})


async def list_deliveries(call: Call) -> Reply:
    call.principal.require_unrestricted()
    status = call.text("status", 20)
    if status is not None and status not in ingest.STATUSES:
        raise refuse.invalid("status", f"must be one of {', '.join(sorted(ingest.STATUSES))}")
    wanted = ingest.DeliveryFilter(
        status=status,
        since=call.time("since"),
        queue_name=call.text("queue_name", 100),
        limit=call.integer("limit", 50, 1, 100),
        offset=call.integer("offset", 0, 0, 2**31),
    )
    organization_id = call.principal.organization_id
    rows = await call.read(lambda tx: ingest.list_deliveries(tx, organization_id, wanted))
    return json_reply(
        [
            {
                "id": row[0],
                "provider": row[1],
                "event_type": row[2],
                "matched_queue": row[3],
                "job_id": row[4],
                "status": row[5],
                "created_at": moment(row[6]),
            }
            for row in rows
        ]
    )


async def get_token(call: Call) -> Reply:
    call.principal.require_unrestricted()
    organization_id = call.principal.organization_id
    token = await call.read(lambda tx: organizations.webhook_token(tx, organization_id))
    return json_reply(_token(call, token))


async def regenerate_token(call: Call) -> Reply:
    call.principal.require_unrestricted()
    organization_id, token = call.principal.organization_id, new_webhook_token()
    await call.write(lambda tx: organizations.set_webhook_token(tx, organization_id, token))
    return json_reply(_token(call, token))


async def clear_token(call: Call) -> Reply:
    call.principal.require_unrestricted()
    raise refuse.bad_request("A webhook token cannot be cleared; regenerate it to shut out who has it")


def _token(call: Call, token: str | None) -> dict[str, Any]:
    host = (call.header(b"host") or b"localhost").decode("latin-1")
    path = f"/api/v1/webhooks/{call.principal.organization_id}/custom"
    return {"webhook_token": token, "webhook_url": f"{call.scope['scheme']}://{host}{path}"}


ROUTES = [
    Route("POST", "/api/v1/webhooks/{organization_id}/custom", ingest_job, "public"),
    Route("GET", "/api/v1/webhooks/deliveries", list_deliveries),
    Route("GET", "/api/v1/organizations/webhook-token", get_token),
    Route("POST", "/api/v1/organizations/webhook-token/regenerate", regenerate_token),
    Route("POST", "/api/v1/organizations/webhook-token/clear", clear_token),
]
