"""Login sessions: JWTs in exchange for an API key."""

from __future__ import annotations

from spooled._async._session import AsyncSession
from spooled._http import _fields as fields
from spooled._http._parameters import accepts_dict
from spooled._http._paths import API
from spooled._http._rules import body, query
from spooled.models import (
    CheckEmailResponse,
    LoginResponse,
    Me,
    RefreshResponse,
    StartEmailLoginResponse,
    ValidateTokenResponse,
)


class AsyncAuth:
    """`client.auth`. Contract: api-v1 §8."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @accepts_dict
    async def login(self, *, api_key: str) -> LoginResponse:
        """Exchange an API key for a pair of tokens. The client itself goes on with what it has.

        Args:
            api_key: At least 10 characters.

        Raises:
            AuthenticationError: The key is unknown, expired or revoked.
            RateLimitError: More than 5 logins a minute with one key.
            SpooledError: As every call.
        """
        sent = body(fields.TOKENS, required=("api_key",), api_key=api_key)
        return await self._session.call("POST", f"{API}/auth/login", LoginResponse, body=sent)

    @accepts_dict
    async def refresh(self, *, refresh_token: str) -> RefreshResponse:
        """Get a new access token. The refresh token stays valid.

        Raises:
            AuthenticationError: The refresh token is expired or revoked.
            SpooledError: As every call.
        """
        sent = body(fields.TOKENS, required=("refresh_token",), refresh_token=refresh_token)
        return await self._session.call("POST", f"{API}/auth/refresh", RefreshResponse, body=sent)

    async def logout(self, refresh_token: str | None = None) -> None:
        """Revoke the login session of the access token in use.

        Args:
            refresh_token: Named in the request; the session's tokens are all revoked anyway.

        Raises:
            AuthenticationError: The client uses an API key, not an access token.
            ServerError: 503, this server cannot revoke tokens.
            SpooledError: As every call.
        """
        sent = body(fields.TOKENS, refresh_token=refresh_token)
        await self._session.call("POST", f"{API}/auth/logout", type(None), body=sent)

    async def me(self) -> Me:
        """Return who the access token belongs to.

        Raises:
            AuthenticationError: The client uses an API key, not an access token.
            SpooledError: As every call.
        """
        return await self._session.call("GET", f"{API}/auth/me", Me)

    @accepts_dict
    async def validate(self, *, token: str) -> ValidateTokenResponse:
        """Return whether a token is good. A bad one is an answer, not an error.

        Raises:
            SpooledError: As every call.
        """
        sent = body(fields.TOKENS, required=("token",), token=token)
        return await self._session.call("POST", f"{API}/auth/validate", ValidateTokenResponse, body=sent)

    async def start_email_login(self, email: str) -> StartEmailLoginResponse:
        """Send a mail with a link to log in to the dashboard.

        Args:
            email: Whose address.

        Raises:
            RateLimitError: Too many mails.
            SpooledError: As every call.
        """
        sent = body(fields.LOGIN, required=("email",), email=email)
        return await self._session.call("POST", f"{API}/auth/email/start", StartEmailLoginResponse, body=sent)

    async def check_email(self, email: str) -> CheckEmailResponse:
        """Return whether somebody has signed up with an address.

        Args:
            email: The address.

        Raises:
            SpooledError: As every call.
        """
        asked = query(fields.LOGIN, required=("email",), email=email)
        return await self._session.call("GET", f"{API}/auth/check-email", CheckEmailResponse, query=asked)
