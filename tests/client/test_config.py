from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from spooled import CircuitBreakerConfig, RetryConfig, SpooledClientConfig
from spooled._version import __version__
from spooled.config import ClientConfig
from spooled.errors import ConfigurationError, SpooledError

KEY = "sp_live_0123456789abcdef"


def test_defaults_are_the_official_ones() -> None:
    config = ClientConfig(api_key=KEY)
    assert config.base_url == "https://api.spooled.cloud"
    assert (config.timeout, config.connect_timeout) == (30.0, 10.0)
    assert config.retry == RetryConfig(max_retries=3, base_delay=1.0, max_delay=30.0, factor=2.0, jitter=True)
    assert config.user_agent == f"spooled-python/{__version__} (spooled for Python)"
    assert config.auto_refresh_token is True
    assert SpooledClientConfig is ClientConfig


@pytest.mark.parametrize(
    ("variable", "text", "option", "value"),
    [
        ("SPOOLED_API_KEY", f" {KEY} ", "api_key", KEY),
        ("SPOOLED_ACCESS_TOKEN", "eyJ.a.b", "access_token", "eyJ.a.b"),
        ("SPOOLED_REFRESH_TOKEN", "refresh", "refresh_token", "refresh"),
        ("SPOOLED_ADMIN_KEY", "admin", "admin_key", "admin"),
        ("SPOOLED_BASE_URL", "http://localhost:8080/", "base_url", "http://localhost:8080"),
        ("SPOOLED_TIMEOUT", "2.5", "timeout", 2.5),
        ("SPOOLED_CONNECT_TIMEOUT", "1", "connect_timeout", 1.0),
        ("SPOOLED_MAX_RETRY_AFTER", "0", "max_retry_after", 0.0),
        ("SPOOLED_MAX_CONNECTIONS", "7", "max_connections", 7),
        ("SPOOLED_HEADERS", '{"X-Team": "a"}', "headers", {"X-Team": "a"}),
        ("SPOOLED_USER_AGENT", "me/1", "user_agent", "me/1"),
        ("SPOOLED_AUTO_REFRESH_TOKEN", "no", "auto_refresh_token", False),
        ("SPOOLED_DEBUG", "TRUE", "debug", True),
        ("SPOOLED_WS_URL", "wss://x", "ws_url", "wss://x"),
        ("SPOOLED_GRPC_ADDRESS", "x:1", "grpc_address", "x:1"),
        ("SPOOLED_RETRY_MAX_RETRIES", "1", "retry", RetryConfig(max_retries=1)),
        ("SPOOLED_RETRY_BASE_DELAY", "0.5", "retry", RetryConfig(base_delay=0.5)),
        ("SPOOLED_RETRY_MAX_DELAY", "9", "retry", RetryConfig(max_delay=9)),
        ("SPOOLED_RETRY_FACTOR", "3", "retry", RetryConfig(factor=3)),
        ("SPOOLED_RETRY_JITTER", "0", "retry", RetryConfig(jitter=False)),
    ],
)
def test_each_option_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, option: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(ClientConfig.resolve(), option) == value


def test_no_option_lacks_a_variable() -> None:
    from spooled.config import _READERS, _RETRY_READERS

    options = {field.name for field in dataclasses.fields(ClientConfig)}
    assert options - _READERS.keys() == {"retry", "circuit_breaker"}
    assert {field.name for field in dataclasses.fields(RetryConfig)} == _RETRY_READERS.keys()


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_live_from_environment")
    monkeypatch.setenv("SPOOLED_TIMEOUT", "9")
    config = ClientConfig.resolve(api_key=KEY, timeout=None)
    assert config.api_key == KEY
    assert config.timeout == 9


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_TIMEOUT", " ")
    assert ClientConfig.resolve().timeout == 30


def test_a_given_key_is_not_overruled_by_a_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_ACCESS_TOKEN", "eyJ.other.user")
    monkeypatch.setenv("SPOOLED_ADMIN_KEY", "admin")
    config = ClientConfig.resolve(api_key=KEY)
    assert config.access_token is None
    assert config.admin_key == "admin"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SPOOLED_TIMEOUT", "soon"),
        ("SPOOLED_TIMEOUT", "-1"),
        ("SPOOLED_TIMEOUT", "nan"),
        ("SPOOLED_MAX_CONNECTIONS", "1.5"),
        ("SPOOLED_DEBUG", "maybe"),
        ("SPOOLED_HEADERS", "[]"),
        ("SPOOLED_BASE_URL", "localhost:8080"),
        ("SPOOLED_RETRY_MAX_RETRIES", "99"),
        ("SPOOLED_API_KEY", "short"),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=variable):
        ClientConfig.resolve()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", math.inf),
        ("timeout", "30"),
        ("timeout", True),
        ("connect_timeout", -1),
        ("max_retry_after", -1),
        ("max_connections", 0),
        ("debug", 1),
        ("headers", {"bad name": "x"}),
        ("headers", {"X": "a\nb"}),
        ("headers", "X: y"),
        ("user_agent", "a\r\nb"),
        ("base_url", "ftp://x"),
        ("base_url", "http://"),
        ("base_url", "http://x:port"),
        ("base_url", "http://user:secret@x"),
        ("base_url", "http://x/api/v1"),
        ("base_url", "http://x/?a=b"),
        ("base_url", 8080),
        ("api_key", "short"),
        ("api_key", "sp_live_with a space"),
        ("api_key", "sp_live_with\nnewline"),
        ("access_token", ""),
        ("admin_key", 5),
        ("retry", 3),
        ("retry", {"max_retries": -1}),
        ("retry", {"factor": 0.5}),
    ],
)
def test_bad_options_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option) as caught:
        ClientConfig(**{option: value})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SpooledError)


def test_a_refused_secret_is_not_shown() -> None:
    for value in ("sp_live_with a space", "tiny"):
        with pytest.raises(ConfigurationError) as caught:
            ClientConfig(api_key=value)
        assert value not in str(caught.value)
    for address in ("http://user:secret@x", "http://user:secret@x:port", "ftp://user:secret@x"):
        with pytest.raises(ConfigurationError, match="user or password") as caught:
            ClientConfig(base_url=address)
        assert "secret" not in str(caught.value)


def test_refused_headers_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_HEADERS", "Authorization: secret")
    with pytest.raises(ConfigurationError, match="SPOOLED_HEADERS must be a JSON object") as caught:
        ClientConfig.resolve()
    assert "secret" not in str(caught.value)


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(TypeError, match="base_url"):
        ClientConfig.resolve(baseurl="http://x")
    with pytest.raises(TypeError, match="max_retries"):
        ClientConfig(retry={"max_retrys": 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        ClientConfig(api_key=KEY).replace(timeot=1)


def test_sections_may_be_mappings() -> None:
    config = ClientConfig(
        retry={"max_retries": 5},  # type: ignore[arg-type]
        circuit_breaker={"enabled": False},  # type: ignore[arg-type]
    )
    assert config.retry == RetryConfig(max_retries=5)
    assert config.circuit_breaker == CircuitBreakerConfig(enabled=False)


def test_secrets_are_masked_in_the_repr() -> None:
    config = ClientConfig(
        api_key=KEY,
        access_token="eyJaccess",
        refresh_token="refresh-secret",
        admin_key="admin-secret",
        headers={"Proxy-Authorization": "Basic c2VjcmV0"},
    )
    shown = repr(config)
    for secret in (KEY, "0123456789", "eyJaccess", "refresh-secret", "admin-secret", "c2VjcmV0"):
        assert secret not in shown
    assert "sp_live_***" in shown


def test_it_is_frozen_and_so_are_its_headers() -> None:
    headers = {"X": "1"}
    config = ClientConfig(headers=headers)
    headers["X"] = "2"
    assert config.headers == {"X": "1"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.timeout = 1  # type: ignore[misc]
    assert hash(config) == hash(ClientConfig(headers={"X": "1"}))


def test_a_new_credential_replaces_the_old_ones() -> None:
    config = ClientConfig(access_token="eyJ.a.b", refresh_token="refresh", admin_key="admin")
    changed = config.replace(api_key=KEY)
    assert (changed.api_key, changed.access_token, changed.refresh_token) == (KEY, None, None)
    assert changed.admin_key == "admin"
    assert config.replace(timeout=5).access_token == "eyJ.a.b"


def test_missing_credentials_say_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="SPOOLED_API_KEY"):
        ClientConfig().require_credentials()
