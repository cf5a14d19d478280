"""Each of our transports by itself: a test asks for `make` and runs once with each."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spooled._http._aiohttp import AiohttpTransport
from spooled._http._http_client import HttpClientTransport
from spooled._http._httpx import AsyncHttpxTransport
from spooled._http._messages import Request
from spooled.config import ClientConfig

# Long enough for a loaded machine to answer, short enough to wait for when no answer is meant to come.
PATIENT = 20.0
BRIEF = 0.3

Make = Callable[..., Any]

KINDS: dict[str, Callable[[ClientConfig], Any]] = {
    "http.client": HttpClientTransport,
    "async httpx": AsyncHttpxTransport,
    "aiohttp": AiohttpTransport,
}


async def result(value: Any) -> Any:
    """Return what a call of either kind gives."""
    return await value if inspect.isawaitable(value) else value


def get(path: str = "/x", **fields: Any) -> Request:
    """Return a request that changes nothing."""
    return Request("GET", path, **({"timeout": PATIENT} | fields))


@pytest.fixture(params=list(KINDS))
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Make a transport of each kind for a base URL."""
    made: list[Any] = []

    def build(base_url: str, **options: Any) -> Any:
        made.append(KINDS[request.param](ClientConfig(base_url=base_url, **options)))
        return made[-1]

    yield build
    for transport in made:
        await result(transport.close() if hasattr(transport, "close") else transport.aclose())
