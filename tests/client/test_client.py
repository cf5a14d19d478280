"""Making, changing and closing clients."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import spooled
from spooled import AsyncSpooledClient, ClientConfig, ConfigurationError, SpooledClient
from spooled._async._jwt import AsyncJwtCache
from spooled._async._session import AsyncSession
from spooled._http._httpx import AsyncHttpxTransport, HttpxTransport
from spooled._sync._jwt import JwtCache
from spooled._sync._session import Session
from spooled.client import create_async_client, create_client
from spooled.clock import ManualClock

from .conftest import KEY, Client, Kind, make_client, result

Mocked = Callable[..., Client]


class Spy(httpx.MockTransport):
    """Counts how often it was closed."""

    def __init__(self, handler: Any = lambda request: httpx.Response(200)) -> None:
        super().__init__(handler)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_missing_credentials_say_what_to_set(kind: Kind) -> None:
    with pytest.raises(ValueError, match="SPOOLED_API_KEY"):
        make_client(kind)


async def test_the_environment_is_enough(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", KEY)
    monkeypatch.setenv("SPOOLED_BASE_URL", "http://localhost:8080/")
    client = make_client(kind)
    assert client.config.api_key == KEY
    assert client.get_config() is client.config is client._config
    assert client.config.base_url == "http://localhost:8080"
    assert client._user_transport is None
    await result(client.close())


def test_unknown_options_name_the_nearest(kind: Kind) -> None:
    with pytest.raises(TypeError, match=r"unknown option 'base_uri'\. Did you mean 'base_url'\?"):
        make_client(kind, api_key=KEY, base_uri="http://x")
    with pytest.raises(TypeError, match="timeout"):
        make_client(kind, config=ClientConfig(api_key=KEY), timeot=3)


def test_bad_values_name_the_option(kind: Kind) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a finite number above 0, got 0"):
        make_client(kind, api_key=KEY, timeout=0)
    with pytest.raises(TypeError, match="config must be a ClientConfig, got dict"):
        make_client(kind, config={"api_key": KEY})


async def test_a_ready_configuration_leaves_the_environment_alone(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_TIMEOUT", "9")
    config = ClientConfig(api_key=KEY)
    client = make_client(kind, config=config)
    changed = make_client(kind, config=config, timeout=5)
    assert client.config is config
    assert changed.config.timeout == 5
    await result(client.close())
    await result(changed.close())


async def test_with_options_makes_another_client(kind: Kind) -> None:
    spy = Spy()
    client = make_client(kind, api_key=KEY, transport=spy, base_url="http://x")
    other = client.with_options(timeout=5, api_key="sp_live_another_key")
    assert type(other) is type(client)
    assert (other.config.timeout, other.config.base_url) == (5, "http://x")
    assert other.config.api_key == "sp_live_another_key"
    assert client.config.timeout == 30
    assert other._user_transport is spy
    with pytest.raises(TypeError, match="timeout"):
        client.with_options(timeot=1)
    await result(other.close())
    assert spy.closed == 0
    await result(client.close())
    await result(client.close())
    assert spy.closed == 1


async def test_with_options_may_change_the_transport(kind: Kind) -> None:
    first, second = Spy(), Spy()
    client = make_client(kind, api_key=KEY, transport=first)
    other = client.with_options(transport=second)
    await result(other.close())
    assert (first.closed, second.closed) == (0, 1)
    await result(client.close())
    assert (first.closed, second.closed) == (1, 1)


async def test_leaving_the_block_closes() -> None:
    first, second = Spy(), Spy()
    with SpooledClient(KEY, transport=first) as client:
        assert client.health.liveness()
    async with AsyncSpooledClient(KEY, transport=second) as coroutine_client:
        assert await coroutine_client.health.liveness()
    await coroutine_client.aclose()
    assert (first.closed, second.closed) == (1, 1)


async def test_secrets_are_not_in_the_repr(kind: Kind) -> None:
    client = make_client(kind, api_key=KEY)
    assert KEY not in repr(client) + repr(client.config) + repr(vars(client))
    await result(client.close())


def test_the_official_factories() -> None:
    with create_client(KEY, timeout=3) as client:
        assert isinstance(client, SpooledClient)
    assert isinstance(create_async_client(api_key=KEY), AsyncSpooledClient)


def test_a_forgotten_client_does_not_complain() -> None:
    SpooledClient(KEY)
    gc.collect()


def test_every_public_name_is_there() -> None:
    official = """
        SpooledClient AsyncSpooledClient SpooledClientConfig RetryConfig CircuitBreakerConfig SpooledError
        AuthenticationError AuthorizationError NotFoundError ConflictError ValidationError PayloadTooLargeError
        RateLimitError ServerError NetworkError TimeoutError CircuitBreakerOpenError JobAbortedError
        is_spooled_error __version__
    """
    assert set(official.split()) <= set(spooled.__all__)
    for name in spooled.__all__:
        assert getattr(spooled, name) is not None
        assert name in dir(spooled)
    with pytest.raises(AttributeError, match="'spooled' has no attribute 'SpooledClint'"):
        _ = spooled.SpooledClint  # type: ignore[attr-defined]


# --- tokens made from the key ---


class LoginServer:
    def __init__(self) -> None:
        self.logins = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/auth/login"
        assert json.loads(request.content) == {"api_key": KEY}
        self.logins += 1
        return httpx.Response(
            200, json={"access_token": f"eyJ.{self.logins}", "refresh_token": "r", "expires_in": 600}
        )


async def test_a_jwt_is_kept_until_a_minute_before_it_ends(kind: Kind) -> None:
    server, clock = LoginServer(), ManualClock()
    config = ClientConfig(api_key=KEY)
    cache: Any
    if kind == "sync":
        cache = JwtCache(Session(config, HttpxTransport(config, httpx.MockTransport(server))), clock)
    else:
        transport = AsyncHttpxTransport(config, httpx.MockTransport(server))
        cache = AsyncJwtCache(AsyncSession(config, transport), clock)
    assert await result(cache.get()) == "eyJ.1"
    clock.advance(539)
    assert await result(cache.get()) == "eyJ.1"
    clock.advance(1)
    assert await result(cache.get()) == "eyJ.2"
    assert await result(cache.get(force_refresh=True)) == "eyJ.3"


async def test_a_client_without_a_key_gives_the_token_it_has(mocked: Mocked) -> None:
    client = mocked(LoginServer())
    assert await result(client.get_jwt_token()) == "eyJ.1"
    bearer = mocked(LoginServer(), api_key=None, access_token="eyJ.mine")
    assert await result(bearer.get_jwt_token()) == "eyJ.mine"
    admin = mocked(LoginServer(), api_key=None, admin_key="admin")
    assert await result(admin.get_jwt_token()) is None
