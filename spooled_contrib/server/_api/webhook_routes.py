"""Outgoing webhooks (contract section 9). Closed to keys that are limited to queues."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from msgspec import Raw

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import webhook_bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import attempts, deliveries, webhooks
from spooled_contrib.server._storage import Row, Tx
from spooled_contrib.server._times import moment

TEST_EVENT = "webhook.test"


async def list_webhooks(call: Call) -> Reply:
    organization_id = _organization(call)
    rows = await call.read(lambda tx: webhooks.list_webhooks(tx, organization_id))
    return json_reply([_webhook(row) for row in rows])


async def create_webhook(call: Call) -> Reply:
    organization_id = _organization(call)
    new, limits = await webhook_bodies.new(call), call.limits
    return json_reply(
        _webhook(await call.write(lambda tx: webhooks.create(tx, organization_id, limits, new))), 201
    )


async def get_webhook(call: Call) -> Reply:
    organization_id, webhook_id = _organization(call), call.parameters[0]
    return json_reply(_webhook(await call.read(lambda tx: webhooks.get(tx, organization_id, webhook_id))))


async def change_webhook(call: Call) -> Reply:
    organization_id, webhook_id = _organization(call), call.parameters[0]
    change, limits = await webhook_bodies.change(call), call.limits
    row = await call.write(lambda tx: webhooks.change(tx, organization_id, limits, webhook_id, change))
    return json_reply(_webhook(row))


async def delete_webhook(call: Call) -> Reply:
    organization_id, webhook_id = _organization(call), call.parameters[0]
    await call.write(lambda tx: webhooks.delete(tx, organization_id, webhook_id))
    return Reply(NO_CONTENT)


async def test_webhook(call: Call) -> Reply:
    """Send a `webhook.test` now and tell what came of it. It is not logged and does not count as a failure."""
    organization_id, webhook_id = _organization(call), call.parameters[0]
    row = await call.read(lambda tx: webhooks.get(tx, organization_id, webhook_id))
    delivery_id = str(uuid.uuid4())
    data = {"webhook_id": webhook_id, "message": "This is a test of the webhook"}
    delivery = attempts.Delivery(
        id=delivery_id,
        claim="",
        webhook_id=webhook_id,
        url=row[3],
        secret=row[12],
        format=row[5],
        event=TEST_EVENT,
        payload=deliveries.envelope(delivery_id, TEST_EVENT, call.services.now, data),
        attempt=1,
    )
    started = time.perf_counter()
    outcome = await call.services.sender.send(delivery)
    return json_reply(
        {
            "success": outcome.error is None,
            "status_code": outcome.status_code,
            "response_time_ms": round((time.perf_counter() - started) * 1000),
            "error": outcome.error,
        }
    )


async def list_deliveries(call: Call) -> Reply:
    organization_id, webhook_id = _organization(call), call.parameters[0]
    status = call.text("status", 20)
    if status is not None and status not in deliveries.STATUSES:
        raise refuse.invalid("status", f"must be one of {', '.join(sorted(deliveries.STATUSES))}")
    limit = call.integer("limit", 100, 1, 100)
    offset = call.integer("offset", 0, 0, 2**31)

    def read(tx: Tx) -> list[Row]:
        webhooks.get(tx, organization_id, webhook_id)
        return deliveries.list_deliveries(tx, webhook_id, status, limit, offset)

    return json_reply([_delivery(row) for row in await call.read(read)])


async def retry_delivery(call: Call) -> Reply:
    organization_id = _organization(call)
    webhook_id, delivery_id = call.parameters

    def retry(tx: Tx) -> str:
        webhooks.get(tx, organization_id, webhook_id)
        return deliveries.retry(tx, webhook_id, delivery_id)

    return json_reply({"success": True, "message": await call.write(retry)})


def _organization(call: Call) -> str:
    call.principal.require_unrestricted()
    return call.principal.organization_id


def _webhook(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "organization_id": row[1],
        "name": row[2],
        "url": row[3],
        "events": json.loads(row[4]),
        "format": row[5],
        "enabled": bool(row[6]),
        "failure_count": row[7],
        "last_triggered_at": moment(row[8]),
        "last_status": row[9],
        "created_at": moment(row[10]),
        "updated_at": moment(row[11]),
    }


def _delivery(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "webhook_id": row[1],
        "event": row[2],
        "payload": Raw(row[3].encode()),
        "status": row[4],
        "status_code": row[5],
        "response_body": row[6],
        "error": row[7],
        "attempts": row[8],
        "created_at": moment(row[9]),
        "delivered_at": moment(row[10]),
    }


ROUTES = [
    Route("GET", "/api/v1/outgoing-webhooks", list_webhooks),
    Route("POST", "/api/v1/outgoing-webhooks", create_webhook),
    Route("GET", "/api/v1/outgoing-webhooks/{id}", get_webhook),
    Route("PUT", "/api/v1/outgoing-webhooks/{id}", change_webhook),
    Route("DELETE", "/api/v1/outgoing-webhooks/{id}", delete_webhook),
    Route("POST", "/api/v1/outgoing-webhooks/{id}/test", test_webhook),
    Route("GET", "/api/v1/outgoing-webhooks/{id}/deliveries", list_deliveries),
    Route("POST", "/api/v1/outgoing-webhooks/{id}/retry/{delivery_id}", retry_delivery),
]
