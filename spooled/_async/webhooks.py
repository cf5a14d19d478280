"""Webhooks: the server tells an address about events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import UNSET, UnsetType

from spooled._async._session import AsyncSession
from spooled._http import _webhook_fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body, query
from spooled.models import (
    InboundDelivery,
    OutgoingWebhook,
    Page,
    RetryDeliveryResponse,
    TestWebhookResponse,
    WebhookDelivery,
)

# In the class, `list` is the method.
_Webhooks = list[OutgoingWebhook]


class AsyncWebhooks:
    """`client.webhooks`. Contract: api-v1 §9. Only an unrestricted key may use these."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self) -> _Webhooks:
        """All webhooks of the organisation.

        Raises:
            AuthorizationError: The key in use is limited to some queues; so in all other methods.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/outgoing-webhooks", list_of(OutgoingWebhook))

    @accepts_dict
    async def create(
        self,
        *,
        name: str,
        url: str,
        events: Sequence[str],
        secret: str | None = None,
        enabled: bool | None = None,
        format: str | None = None,  # noqa: A002 - the field's name
    ) -> OutgoingWebhook:
        """Let an address be told about events.

        Args:
            name: 1 to 100 characters.
            url: An http:// or https:// address of at most 2048 characters. Production servers refuse plain
                http and private addresses.
            events: At least one of `job.created`, `job.started`, `job.completed`, `job.failed`,
                `job.deadlettered`, `job.retried`, `job.cancelled`, `queue.paused`, `queue.resumed`,
                `worker.registered`, `worker.deregistered`, `schedule.triggered`, `workflow.completed`,
                `workflow.failed`.
            secret: Signs each message: `X-Spooled-Signature: sha256=<HMAC of "timestamp.body">`.
            enabled: Default True.
            format: `json` (default), `slack`, `discord` or `teams`.

        Raises:
            ValidationError: A value breaks a rule.
            QuotaExceededError: The plan's number of webhooks is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.WEBHOOK,
            required=("name", "url", "events"),
            name=name,
            url=url,
            events=events,
            secret=secret,
            enabled=enabled,
            format=format,
        )
        return await self._session.call("POST", f"{API}/outgoing-webhooks", OutgoingWebhook, body=sent)

    async def get(self, webhook_id: str) -> OutgoingWebhook:
        """One webhook, without its secret.

        Raises:
            NotFoundError: There is no such webhook.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(webhook_id), OutgoingWebhook)

    @takes_id_and_mapping
    async def update(
        self,
        webhook_id: str,
        *,
        name: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        secret: str | UnsetType | None = UNSET,
        enabled: bool | None = None,
        format: str | None = None,  # noqa: A002 - the field's name
    ) -> OutgoingWebhook:
        """Change a webhook; what is not given keeps its value.

        Args:
            webhook_id: The webhook.
            name: As in `create`; so are `url`, `events` and `format`.
            url: Where messages go from now on.
            events: Replaces the list.
            secret: A new one; None removes it.
            enabled: True also brings back one that the server switched off after 20 failures.
            format: Of messages from now on.

        Raises:
            NotFoundError: There is no such webhook.
            QuotaExceededError: The plan's number of enabled webhooks is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.WEBHOOK,
            name=name,
            url=url,
            events=events,
            secret=None if isinstance(secret, UnsetType) else secret,
            enabled=enabled,
            format=format,
        )
        if secret is None:
            sent["secret"] = None
        return await self._session.call("PUT", _of(webhook_id), OutgoingWebhook, body=sent)

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook.

        Raises:
            NotFoundError: There is no such webhook.
            SpooledError: As every call.
        """
        await self._session.call("DELETE", _of(webhook_id), type(None))

    async def test(self, webhook_id: str) -> TestWebhookResponse:
        """Send a message now and say how that went. An address that refuses is an answer, not an error.

        Raises:
            NotFoundError: There is no such webhook.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{_of(webhook_id)}/test", TestWebhookResponse)

    @takes_id_and_mapping
    async def get_deliveries(
        self,
        webhook_id: str,
        *,
        status: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page[WebhookDelivery]:
        """One page of the messages to a webhook, newest first.

        Args:
            webhook_id: The webhook.
            status: `pending`, `success` or `failed`.
            limit: 1 to 100. Older servers always give the newest 100.
            offset: How many to skip. Default 0.

        Raises:
            NotFoundError: There is no such webhook.
            SpooledError: As every call.
        """
        asked = query(fields.DELIVERY_FILTER, status=status, limit=limit, offset=offset)
        return await self._session.page(f"{_of(webhook_id)}/deliveries", WebhookDelivery, asked)

    async def retry_delivery(self, webhook_id: str, delivery_id: str) -> RetryDeliveryResponse:
        """Send a message again.

        Raises:
            NotFoundError: There is no such webhook or message.
            ValidationError: It has arrived already, or was tried ten times.
            SpooledError: As every call.
        """
        path = f"{_of(webhook_id)}/retry/{segment(delivery_id, 'delivery_id')}"
        return await self._session.call("POST", path, RetryDeliveryResponse)

    @accepts_dict
    async def list_inbound_deliveries(
        self,
        *,
        status: str | None = None,
        since: datetime | None = None,
        queue_name: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page[InboundDelivery]:
        """One page of the messages that came in through `ingest`, newest first. Contract: api-v1 §10.

        Args:
            status: `created` or `duplicate`.
            since: Came in at this moment or later.
            queue_name: Whose job went to this queue.
            limit: 1 to 100. Default 50.
            offset: How many to skip. Default 0.

        Raises:
            NotFoundError: The server is older than this endpoint.
            SpooledError: As every call.
        """
        asked = query(
            fields.INBOUND_FILTER,
            status=status,
            since=since,
            queue_name=queue_name,
            limit=limit,
            offset=offset,
        )
        return await self._session.page(f"{API}/webhooks/deliveries", InboundDelivery, asked)


def _of(webhook_id: str) -> str:
    return f"{API}/outgoing-webhooks/{segment(webhook_id, 'webhook_id')}"
