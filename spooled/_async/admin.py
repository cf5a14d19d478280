"""Administration of a whole server. Needs the server's admin key: `admin_key=` or SPOOLED_ADMIN_KEY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body, query
from spooled.models import (
    AdminOrganization,
    AdminOrganizationList,
    AdminStats,
    CreatedApiKey,
    CreateOrganizationResponse,
    PlanLimits,
)

_Plans = list[PlanLimits]


class AsyncAdmin:
    """`client.admin`. Contract: api-v1 §11. The admin key is sent with every request of a client that has one."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
    async def list_organizations(
        self,
        *,
        search: str | None = None,
        plan_tier: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> AdminOrganizationList:
        """One page of all organisations.

        Args:
            search: Part of the name or slug. Ignored by servers that do not know it.
            plan_tier: With this plan. Ignored by servers that do not know it.
            sort_by: A field, such as `created_at` or `name`.
            sort_order: `asc` or `desc`.
            limit: 1 to 100. Default 50.
            offset: How many to skip. Default 0.

        Raises:
            AuthorizationError: The admin key is missing or wrong; so in all other methods.
            ValidationError: The server does not sort by this.
            SpooledError: As every call.
        """
        asked = query(
            fields.ADMIN_FILTER,
            search=search,
            plan_tier=plan_tier,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return await self._session.call(
            "GET", f"{API}/admin/organizations", AdminOrganizationList, query=asked
        )

    async def get_organization(self, org_id: str) -> AdminOrganization:
        """One organisation.

        Raises:
            NotFoundError: There is no such organisation.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(org_id), AdminOrganization)

    @accepts_dict
    async def create_organization(
        self, *, name: str, slug: str, billing_email: str | None = None, plan_tier: str | None = None
    ) -> CreateOrganizationResponse:
        """Make an organisation. The answer is the only place where its first API key can be read.

        Args:
            name: 1 to 100 characters.
            slug: 1 to 100 of `a-z`, `0-9`, `-`, with no `-` at an end; unique.
            billing_email: Where bills go.
            plan_tier: `free`, `starter`, `pro` or `enterprise`. Default: the server's.

        Raises:
            ConflictError: The slug or the address is taken.
            SpooledError: As every call.
        """
        sent = body(
            fields.ADMIN_ORGANIZATION,
            required=("name", "slug"),
            name=name,
            slug=slug,
            billing_email=billing_email,
            plan_tier=plan_tier,
        )
        return await self._session.call(
            "POST", f"{API}/admin/organizations", CreateOrganizationResponse, body=sent
        )

    @takes_id_and_mapping
    async def update_organization(
        self,
        org_id: str,
        *,
        name: str | None = None,
        billing_email: str | None = None,
        plan_tier: str | UnsetType | None = UNSET,
        settings: object = None,
        custom_limits: object = UNSET,
    ) -> AdminOrganization:
        """Change an organisation; what is not given keeps its value.

        Args:
            org_id: The organisation.
            name: 1 to 100 characters.
            billing_email: Where bills go.
            plan_tier: `free`, `starter`, `pro` or `enterprise`. None: the server's own choice.
            settings: A mapping; at most 64 KiB.
            custom_limits: A mapping of limits that replace the plan's, such as `{"max_queues": 5}`; at most
                64 KiB. None removes them all.

        Raises:
            NotFoundError: There is no such organisation.
            SpooledError: As every call.
        """
        sent = body(
            fields.ADMIN_ORGANIZATION,
            name=name,
            billing_email=billing_email,
            plan_tier=None if isinstance(plan_tier, UnsetType) else plan_tier,
            settings=settings,
            custom_limits=None if isinstance(custom_limits, UnsetType) else custom_limits,
        )
        for name, value in (("plan_tier", plan_tier), ("custom_limits", custom_limits)):
            if value is None:
                sent[name] = None
        return await self._session.call("PATCH", _of(org_id), AdminOrganization, body=sent)

    async def delete_organization(self, org_id: str, hard: bool = False) -> None:
        """Close an organisation: its keys stop to work.

        Args:
            org_id: The organisation.
            hard: Also delete everything it has. This cannot be undone.

        Raises:
            NotFoundError: There is no such organisation.
            SpooledError: As every call.
        """
        asked = [("hard_delete", "true")] if hard else []
        await self._session.call("DELETE", _of(org_id), type(None), query=asked)

    @takes_id_and_mapping
    async def create_api_key(
        self,
        org_id: str,
        *,
        name: str,
        queues: Sequence[str] | None = None,
        rate_limit: int | None = None,
        expires_at: datetime | timedelta | None = None,
    ) -> CreatedApiKey:
        """Make a key for an organisation. The parameters are those of `api_keys.create`.

        Raises:
            NotFoundError: There is no such organisation.
            SpooledError: As every call.
        """
        sent = body(
            fields.API_KEY,
            required=("name",),
            name=name,
            queues=queues,
            rate_limit=rate_limit,
            expires_at=expires_at,
        )
        return await self._session.call("POST", f"{_of(org_id)}/api-keys", CreatedApiKey, body=sent)

    async def reset_usage(self, org_id: str) -> None:
        """Set an organisation's count of today's jobs to zero.

        Raises:
            NotFoundError: There is no such organisation.
            SpooledError: As every call.
        """
        await self._session.call("POST", f"{_of(org_id)}/reset-usage", type(None))

    async def get_stats(self) -> AdminStats:
        """Numbers about the whole server.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/admin/stats", AdminStats)

    async def list_plans(self) -> _Plans:
        """Return what each plan allows.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/admin/plans", list_of(PlanLimits))


def _of(org_id: str) -> str:
    return f"{API}/admin/organizations/{segment(org_id, 'org_id')}"
