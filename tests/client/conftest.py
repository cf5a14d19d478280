"""One suite for both clients: a test asks for `kind` or `client` and runs once with each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import httpx
import pytest

from spooled import AsyncSpooledClient, RetryConfig, SpooledClient
from spooled_contrib.server import EmbeddedServer

from .each_transport import make, result
from .tls import authority

__all__ = ["authority", "make", "result"]

Kind = Literal["sync", "async"]
Client = Any  # SpooledClient or AsyncSpooledClient; a test uses what both have
Handler = Callable[[httpx.Request], httpx.Response]

KEY = "sp_test_0123456789abcdef"
IMPATIENT = RetryConfig(base_delay=0.0, jitter=False)


def make_client(kind: Kind, **options: Any) -> Client:
    """A client of that kind."""
    return SpooledClient(**options) if kind == "sync" else AsyncSpooledClient(**options)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the developer's shell says."""
    import os

    for name in list(os.environ):
        if name.startswith(("SPOOLED_", "SSL_CERT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="session")
def shared_server() -> Iterator[EmbeddedServer]:
    """One server for all end-to-end tests; each uses queues of its own."""
    with EmbeddedServer(open_registration=True) as running:
        yield running


@pytest.fixture
async def client(kind: Kind, shared_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A client of each kind, connected to the embedded server."""
    made = make_client(kind, api_key=shared_server.api_key, base_url=shared_server.url)
    yield made
    await result(made.close())


@pytest.fixture
def queue() -> str:
    """The name of a queue that nobody else uses."""
    return f"q-{uuid.uuid4().hex}"


@pytest.fixture
async def mocked(kind: Kind) -> AsyncIterator[Callable[..., Client]]:
    """Make a client whose requests go to a function. For answers that no server of ours gives."""
    made: list[Client] = []

    def make(handler: Handler, **options: Any) -> Client:
        options = {"api_key": KEY, "base_url": "http://spooled.test", "retry": IMPATIENT} | options
        made.append(make_client(kind, transport=httpx.MockTransport(handler), **options))
        return made[-1]

    yield make
    for each in made:
        await result(each.close())
