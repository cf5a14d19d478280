from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection

from spooled_contrib.kombu import _registry
from spooled_contrib.server import EmbeddedServer
from tests.faults.proxy import FaultProxy
from tests.waiting import HOPELESS
from tests.worker.conftest import Outside


def needs(package: str) -> Any:
    """A parameter that is left out where the package is not installed.

    It is not imported here: gevent and eventlet change the process that they are in.
    """
    missing = importlib.util.find_spec(package) is None
    return pytest.param(package, marks=pytest.mark.skipif(missing, reason=f"{package} is not installed"))


GREENLETS = [needs("gevent"), needs("eventlet")]
POOLS = ["threads", "solo", "prefork", *GREENLETS]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own server must not be touched."""
    for name in [name for name in os.environ if name.startswith("SPOOLED_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test closes its connections, and with them the threads go."""
    yield
    assert not _managers()


def _managers() -> list[object]:
    return [key for key in _registry._managers if key[0] == os.getpid()]


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(server)
    yield looking
    looking.http.close()


def url_of(server: EmbeddedServer, query: str = "poll=0.1") -> str:
    return f"spooled+{server.url.replace('http://', f'http://:{server.api_key}@')}?{query}"


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


def through(proxy: FaultProxy, server: EmbeddedServer, query: str = "poll=0.1") -> str:
    """The URL of the server by way of the proxy."""
    return url_of(server, query).replace(server.url.partition("://")[2], proxy.url.partition("://")[2])


def drain_until(connection: Connection, condition: Callable[[], object]) -> None:
    """Consume until the condition is true.

    Raises:
        AssertionError: It stayed false.
    """
    give_up_at = time.monotonic() + HOPELESS
    while not condition():
        assert time.monotonic() < give_up_at
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            continue


@pytest.fixture
def connection(server: EmbeddedServer) -> Iterator[Connection]:
    with Connection(url_of(server)) as made:
        yield made
