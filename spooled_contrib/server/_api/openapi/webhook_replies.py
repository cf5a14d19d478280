"""The same as `replies`, for webhooks in both directions (contract sections 8, 9 and 10)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from spooled_contrib.server._api.openapi.replies import Count

HttpStatus = Annotated[int, Meta(ge=100, le=999)]


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
    status_code: HttpStatus | None
    response_time_ms: Count
    error: str | None


class WebhookDelivery(Struct):
    id: str
    webhook_id: str
    event: str
    payload: dict[str, Any]
    status: Literal["pending", "success", "failed"]
    status_code: HttpStatus | None
    response_body: str | None
    error: str | None
    attempts: Count
    created_at: datetime
    delivered_at: datetime | None


class DeliveryRetried(Struct):
    success: bool
    message: str


class Ingested(Struct):
    """The job as it is stored: of a known idempotency key, the one that has it."""

    job_id: str
    queue_name: str
    status: str


class IngestDelivery(Struct):
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
