"""Organisations and what they use of their plan."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body, query
from spooled.errors import UnsupportedOperationError
from spooled.models import (
    CheckSlugResponse,
    CreateOrganizationResponse,
    GenerateSlugResponse,
    Organization,
    OrganizationMember,
    OrganizationSummary,
    OrganizationUsage,
    WebhookToken,
)

# In the class, `list` is the method.
_Organizations = list[OrganizationSummary]
_Members = list[OrganizationMember]


class AsyncOrganizations:
    """`client.organizations`. Contract: api-v1 §8."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
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
        """Return the caller's own organisations.

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
        return await self._session.call("GET", _of(organization_id), Organization)

    @takes_id_and_mapping
    async def update(
        self,
        organization_id: str,
        *,
        name: str | None = None,
        billing_email: str | None = None,
        settings: object = None,
    ) -> Organization:
        """Change an organisation; what is not given keeps its value.

        Args:
            organization_id: The organisation.
            name: 1 to 100 characters.
            billing_email: Where bills go.
            settings: A mapping that replaces the settings; at most 64 KiB.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            NotFoundError: There is no such organisation, or it is not the caller's.
            SpooledError: As every call.
        """
        sent = body(fields.ORGANIZATION, name=name, billing_email=billing_email, settings=settings)
        return await self._session.call("PUT", _of(organization_id), Organization, body=sent)

    async def delete(self, organization_id: str) -> None:
        """Close an organisation: its keys stop to work.

        Raises:
            ConflictError: It has active jobs, workers or schedules.
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        await self._session.call("DELETE", _of(organization_id), type(None))

    async def get_members(self, organization_id: str) -> _Members:
        """Return the people in an organisation.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{_of(organization_id)}/members", list_of(OrganizationMember))

    async def get_usage(self) -> OrganizationUsage:
        """Return how much of the plan is in use.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/organizations/usage", OrganizationUsage)

    async def check_slug(self, slug: str) -> CheckSlugResponse:
        """Return whether a slug can be had. A malformed one is an answer, not an error.

        Args:
            slug: 1 to 255 characters.

        Raises:
            RateLimitError: More than 60 a minute or 300 an hour from one address.
            SpooledError: As every call.
        """
        asked = query(fields.SLUG_NAME, required=("slug",), slug=slug)
        return await self._session.call(
            "GET", f"{API}/organizations/check-slug", CheckSlugResponse, query=asked
        )

    async def generate_slug(self, name: str) -> GenerateSlugResponse:
        """Return a free slug for a name.

        Args:
            name: 1 to 200 characters.

        Raises:
            SpooledError: As every call.
        """
        sent = body(fields.SLUG_NAME, required=("name",), name=name)
        return await self._session.call(
            "POST", f"{API}/organizations/generate-slug", GenerateSlugResponse, body=sent, replay=True
        )

    async def get_webhook_token(self) -> WebhookToken:
        """Return what outside services need for `ingest`.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/organizations/webhook-token", WebhookToken)

    async def regenerate_webhook_token(self) -> WebhookToken:
        """Make a new token. The old one stops to work at once.

        Raises:
            AuthorizationError: The key in use is limited to some queues.
            SpooledError: As every call.
        """
        return await self._session.call("POST", f"{API}/organizations/webhook-token/regenerate", WebhookToken)

    async def clear_webhook_token(self) -> None:
        """No server can do this; nothing is sent.

        Raises:
            UnsupportedOperationError: Always.
        """
        raise UnsupportedOperationError(
            "a webhook token cannot be removed",
            hint="Use organizations.regenerate_webhook_token(): it makes the old token useless.",
        )


def _of(organization_id: str) -> str:
    return f"{API}/organizations/{segment(organization_id, 'organization_id')}"
