"""API keys."""

from __future__ import annotations

from datetime import datetime

from spooled.models._model import Model


class ApiKey(Model, frozen=True):
    """An API key without the key itself. `queues` empty or with `*` means unrestricted."""

    id: str
    name: str = ""
    key_prefix: str | None = None
    queues: list[str] = []
    rate_limit: int | None = None
    is_active: bool = True
    created_at: datetime | None = None
    last_used: datetime | None = None
    expires_at: datetime | None = None


class CreatedApiKey(Model, frozen=True):
    """A new API key. `key` is shown only here, and not in the repr."""

    id: str
    key: str
    name: str = ""
    queues: list[str] = []
    created_at: datetime | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"CreatedApiKey(id={self.id!r}, key='***', name={self.name!r}, queues={self.queues!r})"
