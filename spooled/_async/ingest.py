"""Jobs out of other people's webhooks."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _webhook_fields as fields
from spooled._http._parameters import accepts_dict_and_token
from spooled._http._paths import API, segment
from spooled._http._rules import Text, body
from spooled.models import IngestResponse

_TOKEN = {"webhook_token": Text(1, 1000, secret=True)}


class AsyncIngest:
    """`client.ingest`. Contract: api-v1 §10."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict_and_token
    async def custom(
        self,
        org_id: str,
        *,
        queue_name: str,
        payload: object,
        event_type: str | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        webhook_token: str | None = None,
    ) -> IngestResponse:
        """Create a job in the way an outside service does, who has a webhook token and no API key.

        Args:
            org_id: Whose queue it is.
            queue_name: The queue. Some names, such as `default`, are refused here.
            payload: What the worker gets; anything with a JSON form, at most 2 MiB and what the plan allows.
            event_type: At most 100 characters, for the log of deliveries. Default: `custom`.
            idempotency_key: As in `jobs.create`.
            priority: -100 to 100. Default 0.
            webhook_token: The organisation's, see `organizations.get_webhook_token`. Default: none is sent,
                for clients whose `headers` option holds it.

        Raises:
            AuthenticationError: The token is missing or wrong, or the organisation has none.
            NotFoundError: There is no such organisation.
            QuotaExceededError: The plan's number of jobs is reached.
            SpooledError: As every call.
        """
        sent = body(
            fields.INGEST,
            required=("queue_name", "payload"),
            queue_name=queue_name,
            payload=payload,
            event_type=event_type,
            idempotency_key=idempotency_key,
            priority=priority,
        )
        body(_TOKEN, webhook_token=webhook_token)
        return await self._session.call(
            "POST",
            f"{API}/webhooks/{segment(org_id, 'org_id')}/custom",
            IngestResponse,
            body=sent,
            replay=idempotency_key is not None,
            headers=None if webhook_token is None else {"x-webhook-token": webhook_token},
        )
