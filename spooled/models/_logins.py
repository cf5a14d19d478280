"""Login sessions and their tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from spooled.models._model import Model
from spooled.models._organizations import OrganizationSummary

T = TypeVar("T")


class LoginResponse(Model, frozen=True):
    """A login session. `expires_in` and `refresh_expires_in` are seconds."""

    access_token: str
    refresh_token: str | None = None
    token_type: str = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = 86_400
    refresh_expires_in: int | None = None

    def __repr__(self) -> str:
        return f"LoginResponse(access_token='***', refresh_token='***', expires_in={self.expires_in})"


class RefreshResponse(Model, frozen=True):
    """A renewed access token. `expires_in` is seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = 86_400

    def __repr__(self) -> str:
        return f"RefreshResponse(access_token='***', expires_in={self.expires_in})"


class Me(Model, frozen=True):
    """Who the access token belongs to."""

    organization_id: str
    api_key_id: str = ""
    queues: list[str] = []
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    organization: OrganizationSummary | None = None


class ValidateTokenResponse(Model, frozen=True):
    """Whether a token is good, and what it says."""

    valid: bool
    error: str | None = None
    claims: dict[str, Any] | None = None

    @property
    def organization_id(self) -> str | None:
        """The organization that the token is for; None when it is not valid."""
        return self._claim("org_id", str)

    @property
    def api_key_id(self) -> str | None:
        """The API key that it was made with; None when it is not valid."""
        return self._claim("api_key_id", str)

    @property
    def queues(self) -> list[str] | None:
        """The queues that it may use; None when it is not valid."""
        return self._claim("queues", list)

    @property
    def expires_at(self) -> datetime | None:
        """When it ends, in UTC; None when it is not valid."""
        seconds = self._claim("exp", int)
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    def _claim(self, name: str, kind: type[T]) -> T | None:
        value = (self.claims or {}).get(name)
        return value if isinstance(value, kind) else None


class CheckEmailResponse(Model, frozen=True):
    """Whether somebody has signed up with an address. None: the server does not say."""

    exists: bool
    available: bool | None = None
    signup_enabled: bool | None = None
    has_organizations: bool | None = None


class StartEmailLoginResponse(Model, frozen=True):
    """A mail with a link to log in is on its way. `expires_in` is seconds."""

    message: str = ""
    email_sent_to: str | None = None
    expires_in: int | None = None
