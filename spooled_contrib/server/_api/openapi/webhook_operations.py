"""Webhooks, outgoing and inbound, in words and types (contract sections 8, 9 and 10)."""

from __future__ import annotations

from typing import Final, Literal

from spooled_contrib.server._api import bodies, ingest_routes, webhook_bodies
from spooled_contrib.server._api.openapi import webhook_replies as replies
from spooled_contrib.server._api.openapi.operation import Empty, Link, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import ShortText, page

_ID: Final = {"id": "$response.body#/id"}
_ONLY_UNRESTRICTED = (403,)

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/outgoing-webhooks": returns(
        "List outgoing webhooks", list[replies.OutgoingWebhook], errors=_ONLY_UNRESTRICTED
    ),
    "POST /api/v1/outgoing-webhooks": returns(
        "Have events sent to a URL",
        replies.OutgoingWebhook,
        status=201,
        body=webhook_bodies.NewWebhookBody,
        errors=_ONLY_UNRESTRICTED,
        links={
            "get": Link("GET /api/v1/outgoing-webhooks/{id}", _ID),
            "deliveries": Link("GET /api/v1/outgoing-webhooks/{id}/deliveries", _ID),
            "delete": Link("DELETE /api/v1/outgoing-webhooks/{id}", _ID),
        },
    ),
    "GET /api/v1/outgoing-webhooks/{id}": returns(
        "One outgoing webhook", replies.OutgoingWebhook, errors=_ONLY_UNRESTRICTED
    ),
    "PUT /api/v1/outgoing-webhooks/{id}": returns(
        "Change an outgoing webhook; what is left out keeps its value, and a null `secret` clears it",
        replies.OutgoingWebhook,
        body=webhook_bodies.ChangeBody,
        errors=_ONLY_UNRESTRICTED,
    ),
    "DELETE /api/v1/outgoing-webhooks/{id}": returns(
        "Delete an outgoing webhook with its log", Empty, status=204, errors=_ONLY_UNRESTRICTED
    ),
    "POST /api/v1/outgoing-webhooks/{id}/test": returns(
        "Send an event of trial now; 200 also when it did not arrive",
        replies.WebhookTested,
        errors=_ONLY_UNRESTRICTED,
    ),
    "GET /api/v1/outgoing-webhooks/{id}/deliveries": returns(
        "What was sent, the newest first",
        list[replies.WebhookDelivery],
        query=(
            Query("status", Literal["pending", "success", "failed"], "Only those of this status"),
            *page(100),
        ),
        errors=_ONLY_UNRESTRICTED,
    ),
    "POST /api/v1/outgoing-webhooks/{id}/retry/{delivery_id}": returns(
        "Send once more what failed; 400 when it arrived, or was tried too often",
        replies.DeliveryRetried,
        errors=_ONLY_UNRESTRICTED,
    ),
    "POST /api/v1/webhooks/{organization_id}/custom": returns(
        "Make a job of what another system sends",
        replies.Ingested,
        body=ingest_routes.IngestBody,
        errors=(401, 413),
        security=("webhookToken",),
    ),
    "GET /api/v1/webhooks/deliveries": returns(
        "What came in, the newest first",
        list[replies.IngestDelivery],
        query=(
            Query("status", Literal["created", "duplicate"], "Only those of this status"),
            Query("since", bodies.Time, "Inclusive; RFC 3339 with an offset"),
            Query("queue_name", ShortText, "Only those that named this queue"),
            *page(),
        ),
        errors=_ONLY_UNRESTRICTED,
    ),
    "GET /api/v1/organizations/webhook-token": returns(
        "The token that lets other systems send jobs in", replies.WebhookToken, errors=_ONLY_UNRESTRICTED
    ),
    "POST /api/v1/organizations/webhook-token/regenerate": returns(
        "Make another token; the old one is worth nothing from now on",
        replies.WebhookToken,
        errors=_ONLY_UNRESTRICTED,
    ),
    "POST /api/v1/organizations/webhook-token/clear": Operation(
        about="Always refused: regenerate the token instead", replies={}, errors=_ONLY_UNRESTRICTED
    ),
}
