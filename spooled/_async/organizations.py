"""Organisations and what they use of their plan."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import takes_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body
from spooled.models import (
    CreateOrganizationResponse,
    Organization,
    OrganizationSummary,
    OrganizationUsage,
)

# In the class, `list` is the method.
_Organizations = list[OrganizationSummary]


class AsyncOrganizations:
    """`client.organizations`. Contract: api-v1 §8."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @takes_mapping
    async def create(
        self, *, name: str, slug: str, billing_email: str | None = None
    ) -> CreateOrganizationResponse:
        """Make an organisation. The answer is the only place where its first API key can be read.

        Args:
            name: 1 to 100 characters.
            slug: 1 to 100 of `a-z`, `0-9`, `-`, with no `-` at an end; unique.
            billing_email: Where bills go.

        Raises:
            ConflictError: The slug or the address is taken.
            AuthorizationError: Registration is closed and no valid admin_key is configured.
            SpooledError: As every call.
        """
        sent = body(
            fields.ORGANIZATION,
            required=("name", "slug"),
            name=name,
            slug=slug,
            billing_email=billing_email,
        )
        return await self._session.call("POST", f"{API}/organizations", CreateOrganizationResponse, body=sent)

    async def list(self) -> _Organizations:
        """The caller's own organisations.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/organizations", list_of(OrganizationSummary))

    async def get(self, organization_id: str) -> Organization:
        """Everything about one organisation.

        Raises:
            NotFoundError: There is no such organisation, or it is not the caller's.
            SpooledError: As every call.
        """
        path = f"{API}/organizations/{segment(organization_id, 'organization_id')}"
        return await self._session.call("GET", path, Organization)

    async def get_usage(self) -> OrganizationUsage:
        """How much of the plan is in use.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/organizations/usage", OrganizationUsage)
