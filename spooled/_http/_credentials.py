"""Which credential a request carries, and the headers that follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from spooled.config import ClientConfig


class Credentials:
    """The current bearer and the request headers made from it.

    The header mappings are the same objects until the bearer changes, so that transports can keep what they
    derived from them.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self.refresh_token = config.refresh_token if config.auto_refresh_token else None
        self.bearer: str | None = None
        self.headers: Mapping[str, str] = {}
        self.headers_with_body: Mapping[str, str] = {}
        self.use(config.access_token or config.api_key)

    def use(self, bearer: str | None) -> None:
        """Send `bearer` from now on."""
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

    def can_refresh(self) -> bool:
        """Whether a 401 can be answered with a new access token."""
        return self.refresh_token is not None

    def hide(self, body: bytes) -> bytes:
        """`body` without our secrets, for error texts: a debugging proxy may echo the request."""
        for secret in (self.bearer, self.refresh_token, self._config.admin_key):
            if secret:
                body = body.replace(secret.encode(), b"***")
        return body
