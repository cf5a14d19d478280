"""Fixtures that every part of the suite may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from spooled_contrib.server import EmbeddedServer

# A shared machine stalls now and then; a property is wrong or right, never slow.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A fresh embedded server in memory, on a port of its own."""
    with EmbeddedServer() as running:
        yield running
