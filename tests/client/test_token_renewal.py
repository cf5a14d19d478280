"""Access tokens are renewed before they end: once for all calls, and not before every call."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from spooled import ClientConfig, errors
from spooled._http._credentials import Credentials

from .conftest import Client, Kind, result

Mocked = Callable[..., Client]


def token(ends: float | None, name: str = "t") -> str:
    """A JWT that ends at this Unix time."""
    claims = {"sub": name} if ends is None else {"sub": name, "exp": ends}
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.signature"


class Server:
    """Renews tokens, and notes which ones it sees."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.renewals = 0
        self.bearers: list[str] = []
        self.lifetime = lifetime
        self.refusal: httpx.Response | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/auth/refresh":
            assert json.loads(request.content) == {"refresh_token": "refresh-token"}
            assert "authorization" not in request.headers
            self.renewals += 1
            if self.refusal is not None:
                return self.refusal
            renewed = token(time.time() + self.lifetime, f"new-{self.renewals}")
            return httpx.Response(200, json={"access_token": renewed, "expires_in": int(self.lifetime)})
        self.bearers.append(request.headers["authorization"].removeprefix("Bearer "))
        return httpx.Response(200, json=[])


def make(mocked: Mocked, server: Server, access_token: str, **options: Any) -> Client:
    return mocked(
        server,
        api_key=None,
        access_token=access_token,
        refresh_token="refresh-token",
        **options,
    )


async def test_a_token_that_ends_within_a_minute_is_renewed_first(mocked: Mocked) -> None:
    server, old = Server(), token(time.time() - 1)
    client = make(mocked, server, old)
    await result(client.queues.list())
    await result(client.queues.list())
    assert server.renewals == 1
    assert old not in server.bearers
    assert len(set(server.bearers)) == 1


async def test_a_token_with_time_left_is_used_as_it_is(mocked: Mocked) -> None:
    server, fresh = Server(), token(time.time() + 600)
    await result(make(mocked, server, fresh).queues.list())
    assert (server.renewals, server.bearers) == (0, [fresh])


@pytest.mark.parametrize("bearer", ["eyJ", "eyJ.x.y", "eyJ.!!!.y", "opaque", token(None)])
async def test_a_token_that_does_not_say_when_it_ends_is_used(mocked: Mocked, bearer: str) -> None:
    server = Server()
    await result(make(mocked, server, bearer).queues.list())
    assert (server.renewals, server.bearers) == (0, [bearer])


async def test_short_lived_tokens_are_not_renewed_for_every_call(mocked: Mocked) -> None:
    server = Server(lifetime=30)
    client = make(mocked, server, token(time.time() - 1))
    for _ in range(5):
        await result(client.queues.list())
    assert server.renewals == 1


async def test_it_can_be_switched_off(mocked: Mocked) -> None:
    server, old = Server(), token(time.time() - 1)
    await result(make(mocked, server, old, auto_refresh_token=False).queues.list())
    assert (server.renewals, server.bearers) == (0, [old])


@pytest.mark.parametrize("status", [401, 500])
async def test_a_renewal_that_fails_leaves_the_old_token(mocked: Mocked, status: int) -> None:
    server, old = Server(), token(time.time() + 0.5)
    server.refusal = httpx.Response(status, json={"code": "X", "message": "no"})
    client = make(mocked, server, old)
    client._session.credentials.good_until = 0.0
    await result(client.queues.list())
    await result(client.queues.list())
    assert server.bearers == [old, old]
    assert server.renewals == 1


async def test_many_calls_share_one_renewal(mocked: Mocked, kind: Kind) -> None:
    server = Server()
    client = make(mocked, server, token(time.time() - 1))
    if kind == "async":
        await asyncio.gather(*(client.queues.list() for _ in range(20)))
    else:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: client.queues.list(), range(20)))
    assert server.renewals == 1
    assert len(set(server.bearers)) == 1


def test_when_a_token_is_due() -> None:
    config = ClientConfig(access_token=token(1000.0), refresh_token="refresh-token")
    long = Credentials(config, now=0.0)
    assert [long.due(at) for at in (939.0, 940.0, 2000.0)] == [False, True, True]
    short = Credentials(config, now=900.0)
    assert [short.due(at) for at in (989.0, 990.0)] == [False, True]
    assert not Credentials(ClientConfig(access_token=token(1000.0)), now=0.0).due(2000.0)


async def test_a_refused_call_with_a_token_of_its_own_renews_nothing(mocked: Mocked) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path != "/api/v1/auth/refresh"
        return httpx.Response(401, json={"code": "UNAUTHORIZED", "message": "no"})

    client = mocked(answer, api_key=None, access_token="opaque", refresh_token="refresh-token")
    with pytest.raises(errors.AuthenticationError):
        await result(client.metrics.get("wrong"))
