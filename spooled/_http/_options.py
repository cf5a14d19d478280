"""The options of a client, for type checkers and for its constructor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from spooled.config import CircuitBreakerConfig, ClientConfig, RetryConfig, known_options


class Options(TypedDict, total=False):
    """Keyword arguments of a client that become fields of `ClientConfig`."""

    access_token: str | None
    refresh_token: str | None
    admin_key: str | None
    base_url: str | None
    timeout: float | None
    connect_timeout: float | None
    retry: RetryConfig | Mapping[str, Any] | None
    max_retry_after: float | None
    max_connections: int | None
    max_response_bytes: int | None
    headers: Mapping[str, str] | None
    user_agent: str | None
    auto_refresh_token: bool | None
    debug: bool | None
    circuit_breaker: CircuitBreakerConfig | Mapping[str, Any] | None
    ws_url: str | None
    grpc_address: str | None


def config_of(api_key: str | None, config: ClientConfig | None, options: Options) -> ClientConfig:
    """Return the configuration that a client's arguments mean.

    Raises:
        TypeError: An option is unknown.
        ConfigurationError: An option or environment variable has a bad value.
    """
    given = cast("dict[str, Any]", dict(options))
    if api_key is not None:
        given["api_key"] = api_key
    if config is None:
        return ClientConfig.resolve(**given)
    if not isinstance(config, ClientConfig):
        raise TypeError(f"config must be a ClientConfig, got {type(config).__name__}")
    known_options(given)
    changes = {name: value for name, value in given.items() if value is not None}
    return config.replace(**changes) if changes else config
