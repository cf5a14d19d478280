"""What a client can be told: options, their environment variables, defaults and rules.

An argument wins over its environment variable, which wins over the default. An empty variable counts as
unset.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from spooled._http import _option_rules as rules
from spooled._http._nearest import did_you_mean
from spooled._version import __version__
from spooled.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.spooled.cloud"
DEFAULT_USER_AGENT = f"spooled-python/{__version__} (spooled for Python)"

_BEARERS = frozenset({"api_key", "access_token", "refresh_token"})


@dataclasses.dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often and how patiently a failed request is sent again.

    Attributes:
        max_retries: Attempts after the first, 0 to 10. 0 switches retries off.
        base_delay: Seconds before the first retry.
        max_delay: Longest wait in seconds between two attempts. A `Retry-After` of the server may be longer.
        factor: Growth of the wait from one retry to the next.
        jitter: Lengthen each wait by a random 0 to 25 %, so that clients do not come back in step.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    max_delay: float = 30.0
    factor: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        rules.integer("retry.max_retries", self.max_retries, 0, 10)
        rules.number("retry.base_delay", self.base_delay, 0.0)
        rules.number("retry.max_delay", self.max_delay, 0.0)
        rules.number("retry.factor", self.factor, 1.0)
        rules.boolean("retry.jitter", self.jitter)


@dataclasses.dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """Accepted so that code for the official SDK runs unchanged; it has no effect.

    This client has no circuit breaker: one that opens on failing claims would also refuse the acks and
    heartbeats of jobs that are running, and lose their results.
    """

    enabled: bool = True
    failure_threshold: int = 5
    success_threshold: int = 3
    timeout: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class CircuitBreakerStats:
    """What a circuit breaker would say. There is none, so it never opens."""

    state: str = "closed"
    failure_count: int = 0
    success_count: int = 0
    last_failure_time: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientConfig:
    """The options of a client. Frozen; `replace()` makes a changed copy.

    Made directly it is exactly what it says; `ClientConfig.resolve()` also reads the environment.

    Attributes:
        api_key: `sp_live_...` or `sp_test_...`. SPOOLED_API_KEY.
        access_token: JWT that is sent instead of the API key. SPOOLED_ACCESS_TOKEN.
        refresh_token: Renews `access_token` when the server refuses it. SPOOLED_REFRESH_TOKEN.
        admin_key: Sent as `X-Admin-Key`. SPOOLED_ADMIN_KEY.
        base_url: Where the server is, without `/api/v1`. SPOOLED_BASE_URL.
        timeout: Seconds one attempt may take in total, connecting and reading included. SPOOLED_TIMEOUT.
        connect_timeout: Seconds of it that connecting may take. SPOOLED_CONNECT_TIMEOUT.
        retry: See `RetryConfig`. SPOOLED_RETRY_MAX_RETRIES, _BASE_DELAY, _MAX_DELAY, _FACTOR, _JITTER.
        max_retry_after: Longest `Retry-After` in seconds that a call waits out; a longer one raises the
            `RateLimitError` at once, because waiting less than the server asked is never right. A worker waits so
            long and asks again. SPOOLED_MAX_RETRY_AFTER.
        max_connections: Connections one client opens at most. SPOOLED_MAX_CONNECTIONS.
        max_response_bytes: The largest answer in bytes that is taken, before and after decompression; a larger one
            is a `NetworkError` that is not tried again. Default: 64 MiB. SPOOLED_MAX_RESPONSE_BYTES.
        headers: Added to every request. SPOOLED_HEADERS (a JSON object).
        user_agent: SPOOLED_USER_AGENT.
        auto_refresh_token: Whether a 401 uses `refresh_token`. SPOOLED_AUTO_REFRESH_TOKEN.
        debug: Log every request to the logger `spooled.http` at level DEBUG. SPOOLED_DEBUG.
        circuit_breaker: No effect, see `CircuitBreakerConfig`.
        ws_url: Where WebSockets connect to. Default: `base_url`'s server. SPOOLED_WS_URL.
        grpc_address: Accepted for the official SDK's sake; no part of this package uses it.
            SPOOLED_GRPC_ADDRESS.
    """

    api_key: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    admin_key: str | None = None
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 30.0
    connect_timeout: float = 10.0
    retry: RetryConfig = dataclasses.field(default_factory=RetryConfig)
    max_retry_after: float = 60.0
    max_connections: int = 100
    max_response_bytes: int = 64 * 1024 * 1024
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    user_agent: str = DEFAULT_USER_AGENT
    auto_refresh_token: bool = True
    debug: bool = False
    circuit_breaker: CircuitBreakerConfig = dataclasses.field(default_factory=CircuitBreakerConfig)
    ws_url: str | None = None
    grpc_address: str | None = None

    def __post_init__(self) -> None:
        settle = object.__setattr__  # the dataclass is frozen for everyone else
        for name in ("api_key", "access_token", "refresh_token", "admin_key"):
            settle(self, name, rules.credential(name, getattr(self, name)))
        settle(self, "base_url", rules.base_url(self.base_url))
        settle(self, "ws_url", rules.ws_url(self.ws_url))
        rules.number("timeout", self.timeout, 0.0, above=True)
        rules.number("connect_timeout", self.connect_timeout, 0.0, above=True)
        rules.number("max_retry_after", self.max_retry_after, 0.0)
        rules.integer("max_connections", self.max_connections, 1, 100_000)
        rules.integer("max_response_bytes", self.max_response_bytes, 1024, 2**40)
        rules.boolean("auto_refresh_token", self.auto_refresh_token)
        rules.boolean("debug", self.debug)
        settle(self, "retry", _section("retry", RetryConfig, self.retry))
        settle(
            self, "circuit_breaker", _section("circuit_breaker", CircuitBreakerConfig, self.circuit_breaker)
        )
        settle(self, "headers", rules.headers(self.headers))
        rules.header_text("user_agent", self.user_agent)

    @classmethod
    def resolve(cls, **options: Any) -> ClientConfig:
        """Return the configuration that these options and the environment make together.

        An option that is None counts as not given. When a credential is given, the environment's other
        bearer credentials are left alone: `api_key=` is not overruled by a SPOOLED_ACCESS_TOKEN.

        Raises:
            TypeError: An option is unknown.
            ConfigurationError: A value is refused; the message names the option or the variable.
        """
        given = {name: value for name, value in known_options(options).items() if value is not None}
        found = {
            name: value
            for name, value in _environment().items()
            if name not in given and not (name in _BEARERS and given.keys() & _BEARERS)
        }
        try:
            return cls(**found, **given)
        except ConfigurationError as error:
            option = error.details[0]["field"] if error.details else ""
            if option in given or option.split(".")[0] in given:
                raise
            variable = _variable(option)
            raise rules.refusal(option, f"environment variable {variable}: {error.message}") from None

    def replace(self, **overrides: Any) -> ClientConfig:
        """Return a copy with these options changed. A new credential replaces the old ones, whatever their kind."""
        changes = dict(known_options(overrides))
        if changes.keys() & _BEARERS:
            changes = dict.fromkeys(_BEARERS) | changes
        return dataclasses.replace(self, **changes)

    def require_credentials(self) -> None:
        """Refuse a configuration nobody can be authenticated with.

        Raises:
            ConfigurationError: None of api_key, access_token, admin_key is set.
        """
        if self.api_key is None and self.access_token is None and self.admin_key is None:
            raise ConfigurationError(
                "no credentials: none of api_key, access_token, admin_key is set",
                hint="Pass api_key=... or set the environment variable SPOOLED_API_KEY.",
            )

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in rules.SECRETS:
                value = rules.mask(value)
            elif field.name == "headers":
                # Anything may be in there, an Authorization of a proxy included.
                value = dict.fromkeys(value, "***")
            shown.append(f"{field.name}={value!r}")
        return f"ClientConfig({', '.join(shown)})"


def known_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`options`, when each of them exists.

    Raises:
        TypeError: One does not; the message names the closest that does.
    """
    names = {field.name for field in dataclasses.fields(ClientConfig)}
    for name in options:
        if name not in names:
            raise TypeError(f"unknown option {name!r}. {did_you_mean(name, names)}")
    return options


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, read in _READERS.items():
        value = _read(_variable(name), read)
        if value is not None:
            found[name] = value
    retry: dict[str, Any] = {}
    for name, read in _RETRY_READERS.items():
        value = _read(_variable(f"retry.{name}"), read)
        if value is not None:
            retry[name] = value
    if retry:
        found["retry"] = retry
    return found


def _variable(option: str) -> str:
    return "SPOOLED_" + option.upper().replace(".", "_")


def _read(variable: str, read: Callable[[str], Any]) -> Any:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return read(text)
    except ValueError:
        wanted = _WANTED[read]
        # Headers may hold credentials.
        shown = "" if read is _json_object else f", got {text!r}"
        raise ConfigurationError(
            f"environment variable {variable} must be {wanted}{shown}",
            details=[{"field": variable, "message": f"must be {wanted}", "code": "environment"}],
            hint=f"Correct or unset {variable}.",
        ) from None


def _truth(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError(text)


def _json_object(text: str) -> dict[str, str]:
    import msgspec

    return msgspec.json.decode(text, type=dict[str, str])  # its errors are ValueErrors


_WANTED: dict[Callable[[str], Any], str] = {
    float: "a number",
    int: "a whole number",
    _truth: "one of 1, 0, true, false, yes, no, on, off",
    _json_object: "a JSON object of strings",
}

_READERS: dict[str, Callable[[str], Any]] = {
    "api_key": str,
    "access_token": str,
    "refresh_token": str,
    "admin_key": str,
    "base_url": str,
    "timeout": float,
    "connect_timeout": float,
    "max_retry_after": float,
    "max_connections": int,
    "max_response_bytes": int,
    "headers": _json_object,
    "user_agent": str,
    "auto_refresh_token": _truth,
    "debug": _truth,
    "ws_url": str,
    "grpc_address": str,
}

_RETRY_READERS: dict[str, Callable[[str], Any]] = {
    "max_retries": int,
    "base_delay": float,
    "max_delay": float,
    "factor": float,
    "jitter": _truth,
}


def _section(option: str, kind: type[Any], value: object) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        rules.refuse(option, f"a {kind.__name__} or a mapping of its fields", value)
    names = {field.name for field in dataclasses.fields(kind)}
    for name in value:
        if name not in names:
            raise TypeError(f"unknown option {option}.{name}. {did_you_mean(str(name), names)}")
    return kind(**value)


SpooledClientConfig = ClientConfig
"""The official SDK's name for it."""
