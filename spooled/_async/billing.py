"""Billing: the plan, and the page where it is paid."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._parameters import accepts_dict
from spooled._http._paths import API
from spooled._http._rules import body
from spooled.models import BillingPortal, BillingStatus


class AsyncBilling:
    """`client.billing`. Contract: api-v1 §11."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_status(self) -> BillingStatus:
        """Return the plan and its subscription.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/billing/status", BillingStatus)

    @accepts_dict
    async def create_portal(self, *, return_url: str) -> BillingPortal:
        """Open a page where a person can change the subscription.

        Args:
            return_url: Where the page's way out leads to, an http:// or https:// address.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            ValidationError: The organisation is not a customer yet.
            SpooledError: As every call.
        """
        sent = body(fields.BILLING, required=("return_url",), return_url=return_url)
        return await self._session.call("POST", f"{API}/billing/portal", BillingPortal, body=sent)
