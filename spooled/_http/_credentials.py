"""Which credential a request carries, and the headers that follow from it."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping

import msgspec

from spooled.config import ClientConfig

_MARGIN = 60.0


class _Claims(msgspec.Struct):
    exp: float | None = None


class Credentials:
    """The current bearer and the request headers made from it.

    The header mappings are the same objects until the bearer changes, so that transports can keep what they
    derived from them.

    Args:
        config: The credentials to begin with.
        now: Unix time in seconds. Default: the system's.

    Attributes:
        bearer: The API key or access token that is sent.
        refresh_token: Renews the access token; None when nothing does.
        good_until: Unix time from which a new access token should be used; None when unknown.
    """

    def __init__(self, config: ClientConfig, now: float | None = None) -> None:
        self._config = config
        self.refresh_token = config.refresh_token if config.auto_refresh_token else None
        self.bearer: str | None = None
        self.headers: Mapping[str, str] = {}
        self.headers_with_body: Mapping[str, str] = {}
        self.good_until: float | None = None
        self.use(config.access_token or config.api_key, time.time() if now is None else now)

    def use(self, bearer: str | None, now: float) -> None:
        """Send `bearer` from `now` on (Unix time in seconds)."""
        headers = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": self._config.user_agent,
            **{name.lower(): value for name, value in self._config.headers.items()},
        }
        if bearer is not None:
            headers["authorization"] = f"Bearer {bearer}"
        if self._config.admin_key is not None:
            headers["x-admin-key"] = self._config.admin_key
        self.headers = headers
        self.headers_with_body = {**headers, "content-type": "application/json"}
        self.bearer = bearer
        ends = _end_of(bearer)
        # A minute before the end, or a tenth of a short life: a token must not be renewed for every call.
        self.good_until = None if ends is None else ends - min(_MARGIN, max(ends - now, 0.0) / 10)

    def due(self, now: float) -> bool:
        """Return whether the access token should be renewed before it is used again."""
        return self.good_until is not None and now >= self.good_until and self.can_refresh()

    def can_refresh(self) -> bool:
        """Return whether a 401 can be answered with a new access token."""
        return self.refresh_token is not None

    def hide(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """`body` without our secrets, for error texts: a debugging proxy may echo the request.

        Args:
            body: What the server answered.
            headers: What was sent with the request.
        """
        secrets = {self.bearer, self.refresh_token, self._config.admin_key}
        secrets.add(headers.get("authorization", "").removeprefix("Bearer "))
        secrets.add(headers.get("x-webhook-token"))
        for secret in secrets:
            if secret:
                body = body.replace(secret.encode(), b"***")
        return body


def _end_of(token: str | None) -> float | None:
    """When a JWT says that it ends; None for an API key, or a token that does not say."""
    if token is None or not token.startswith("eyJ"):
        return None
    claims = token.split(".")[1:2]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(claims[0] + "=="), type=_Claims).exp
    except (IndexError, ValueError):  # msgspec's errors and base64's are ValueErrors
        return None
