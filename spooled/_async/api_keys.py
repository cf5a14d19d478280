"""API keys. Only an unrestricted key may use these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._json import list_of
from spooled._http._parameters import accepts_dict, takes_id_and_mapping
from spooled._http._paths import API, segment
from spooled._http._rules import body
from spooled.models import ApiKey, CreatedApiKey

# In the class, `list` is the method.
_ApiKeys = list[ApiKey]


class AsyncApiKeys:
    """`client.api_keys`. Contract: api-v1 §8."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self) -> _ApiKeys:
        """All keys of the organisation.

        Raises:
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/api-keys", list_of(ApiKey))

    @accepts_dict
    async def create(
        self,
        *,
        name: str,
        queues: Sequence[str] | None = None,
        rate_limit: int | None = None,
        expires_at: datetime | timedelta | None = None,
    ) -> CreatedApiKey:
        """Make a key. The answer is the only place where it can be read.

        Args:
            name: 1 to 100 letters, digits, spaces, `-_.()`.
            queues: What it may use, up to 50. Default: everything.
            rate_limit: Requests a minute, 1 to 10000. Default: the plan's.
            expires_at: When it stops to work: an aware datetime, or a timedelta from now. Default: never.

        Raises:
            QuotaExceededError: The plan's number of keys is reached.
            AuthorizationError: The key in use is limited to some queues.
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
        return await self._session.call("POST", f"{API}/api-keys", CreatedApiKey, body=sent)

    async def get(self, key_id: str) -> ApiKey:
        """One key, without the secret.

        Raises:
            NotFoundError: There is no such key.
            SpooledError: As every call.
        """
        return await self._session.call("GET", _of(key_id), ApiKey)

    @takes_id_and_mapping
    async def update(
        self,
        key_id: str,
        *,
        name: str | None = None,
        queues: Sequence[str] | None = None,
        rate_limit: int | None = None,
        is_active: bool | None = None,
    ) -> ApiKey:
        """Change a key; what is not given keeps its value.

        Args:
            key_id: The key's id, not the key.
            name: As in `create`.
            queues: As in `create`.
            rate_limit: As in `create`.
            is_active: False switches it off.

        Raises:
            NotFoundError: There is no such key.
            SpooledError: As every call.
        """
        sent = body(fields.API_KEY, name=name, queues=queues, rate_limit=rate_limit, is_active=is_active)
        return await self._session.call("PUT", _of(key_id), ApiKey, body=sent)

    async def delete(self, key_id: str) -> None:
        """Revoke a key and every token made with it.

        Raises:
            NotFoundError: There is no such key.
            SpooledError: As every call.
        """
        await self._session.call("DELETE", _of(key_id), type(None))


def _of(key_id: str) -> str:
    return f"{API}/api-keys/{segment(key_id, 'key_id')}"
