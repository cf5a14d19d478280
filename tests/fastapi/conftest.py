from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.worker.conftest import Outside


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own server must not be touched."""
    for name in [name for name in os.environ if name.startswith("SPOOLED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(server)
    yield looking
    looking.http.close()
