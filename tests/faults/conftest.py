"""A server whose time stands still, a proxy before it, and a client that only knows the proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spooled import SpooledClient
from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import FaultProxy
from tests.worker.conftest import Outside

Connect = Callable[..., SpooledClient]


@pytest.fixture
def ack_batches() -> bool:
    """Whether the server takes many acks in one request. A module may ask for both."""
    return False


@pytest.fixture
def server(ack_batches: bool) -> Iterator[EmbeddedServer]:
    """No lease ends by itself: only a test that says `advance` can take a job from its worker."""
    with EmbeddedServer(clock=ManualClock(), ack_batches=ack_batches) as running:
        yield running


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    """Looks past the proxy."""
    looking = Outside(server)
    yield looking
    looking.http.close()


@pytest.fixture
def connect(server: EmbeddedServer, proxy: FaultProxy) -> Iterator[Connect]:
    """Makes clients that reach the server through the proxy."""
    made: list[SpooledClient] = []

    def make(**options: Any) -> SpooledClient:
        made.append(SpooledClient(api_key=server.api_key, base_url=proxy.url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()
