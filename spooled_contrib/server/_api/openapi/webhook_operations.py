"""Webhooks, outgoing and incoming, in words and types (contract sections 9 and 10)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from spooled_contrib.server._api import bodies, ingest_routes, webhook_bodies
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import page
from spooled_contrib.server._api.openapi.replies import Count

_QueueFilter = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]


class OutgoingWebhook(Struct):
    id: str
    organization_id: str
    name: str
    url: str
    events: list[str]
    format: Literal["json", "slack", "discord", "teams"]
    enabled: bool
    failure_count: Count
    last_triggered_at: datetime | None
    last_status: Literal["success", "failed", "auto_disabled"] | None
    created_at: datetime
    updated_at: datetime


class WebhookTested(Struct):
    success: bool
    status_code: int | None
    response_time_ms: Count
    error: str | None


class Delivery(Struct):
    id: str
    webhook_id: str
    event: str
    payload: Any
    status: Literal["pending", "success", "failed"]
    status_code: int | None
    response_body: str | None
    error: str | None
    attempts: Count
    created_at: datetime
    delivered_at: datetime | None


class DeliveryRetried(Struct):
    success: bool
    message: str


class Ingested(Struct):
    job_id: str
    queue_name: str
    status: str


class InboundDelivery(Struct):
    id: str
    provider: str
    event_type: str
    matched_queue: str | None
    job_id: str | None
    status: Literal["created", "duplicate"] | None
    created_at: datetime


class WebhookToken(Struct):
    webhook_token: str | None
    webhook_url: str


OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/outgoing-webhooks": returns("List webhooks", list[OutgoingWebhook], errors=(403,)),
    "POST /api/v1/outgoing-webhooks": returns(
        "Create a webhook",
        OutgoingWebhook,
        status=201,
        body=webhook_bodies.NewWebhookBody,
        errors=(403,),
    ),
    "GET /api/v1/outgoing-webhooks/{id}": returns("One webhook", OutgoingWebhook, errors=(403,)),
    "PUT /api/v1/outgoing-webhooks/{id}": returns(
        "Change a webhook; what is left out keeps its value",
        OutgoingWebhook,
        body=webhook_bodies.ChangeBody,
        errors=(403,),
    ),
    "DELETE /api/v1/outgoing-webhooks/{id}": returns("Delete a webhook", Empty, status=204, errors=(403,)),
    "POST /api/v1/outgoing-webhooks/{id}/test": returns(
        "Send a test event now", WebhookTested, errors=(403,)
    ),
    "GET /api/v1/outgoing-webhooks/{id}/deliveries": returns(
        "The newest deliveries",
        list[Delivery],
        query=(Query("status", Literal["pending", "success", "failed"], "Only these"), *page(100, 100)),
        errors=(403,),
    ),
    "POST /api/v1/outgoing-webhooks/{id}/retry/{delivery_id}": returns(
        "Deliver once more", DeliveryRetried, errors=(403,)
    ),
    "POST /api/v1/webhooks/{organization_id}/custom": returns(
        "Create a job from outside",
        Ingested,
        body=ingest_routes.IngestBody,
        errors=(401, 413, 429),
    ),
    "GET /api/v1/webhooks/deliveries": returns(
        "What came in",
        list[InboundDelivery],
        query=(
            Query("status", Literal["created", "duplicate"], "Only these"),
            Query("since", bodies.Time, "Inclusive; RFC 3339 with an offset"),
            Query("queue_name", _QueueFilter, "Only of this queue"),
            *page(),
        ),
        errors=(403,),
    ),
    "GET /api/v1/organizations/webhook-token": returns("The token", WebhookToken, errors=(403,)),
    "POST /api/v1/organizations/webhook-token/regenerate": returns(
        "A new token", WebhookToken, errors=(403,)
    ),
    "POST /api/v1/organizations/webhook-token/clear": Operation(
        about="Always refused", replies={}, errors=(403,)
    ),
}
