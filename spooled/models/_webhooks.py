"""Webhooks in both directions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from spooled.models._model import Model


class OutgoingWebhook(Model, frozen=True):
    """An address that is told about events. The secret is never returned.

    Attributes:
        events: Names such as `job.completed`; a newer server may know more.
        format: `json`, `slack`, `discord` or `teams`.
        last_status: `success`, `failed` or `auto_disabled`; None before the first delivery.
    """

    id: str
    name: str = ""
    url: str = ""
    events: list[str] = []
    format: str = "json"
    enabled: bool = True
    failure_count: int = 0
    organization_id: str = ""
    last_triggered_at: datetime | None = None
    last_status: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class TestWebhookResponse(Model, frozen=True):
    """Answer to `webhooks.test`. `success` False is an answer too: the address did not accept the message."""

    __test__ = False  # pytest collects classes with this name

    success: bool
    status_code: int | None = None
    response_time_ms: int = 0
    error: str | None = None


class WebhookDelivery(Model, frozen=True):
    """A message to a webhook. `status` is `pending`, `success` or `failed`."""

    id: str
    webhook_id: str = ""
    event: str = ""
    payload: Any = None
    status: str = ""
    status_code: int | None = None
    response_body: str | None = None
    error: str | None = None
    attempts: int = 0
    created_at: datetime | None = None
    delivered_at: datetime | None = None


class RetryDeliveryResponse(Model, frozen=True):
    """Answer to `webhooks.retry_delivery`."""

    success: bool
    message: str = ""


class InboundDelivery(Model, frozen=True):
    """A message that came in through `ingest`. `status` is `created` or `duplicate`."""

    id: str
    provider: str = ""
    event_type: str = ""
    matched_queue: str | None = None
    job_id: str | None = None
    status: str | None = None
    created_at: datetime | None = None


class IngestResponse(Model, frozen=True):
    """Answer to `ingest.custom`: the job as it is stored, which for a known idempotency key is the first one."""

    job_id: str = ""
    queue_name: str = ""
    status: str = ""

    @classmethod
    def from_json(cls, body: bytes) -> IngestResponse:
        """Very old servers answer with nothing."""
        return msgspec.json.decode(body, type=cls) if body else cls()
