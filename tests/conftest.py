"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from spooled_contrib.server import EmbeddedServer

# A shared machine stalls now and then; a property is wrong or right, never slow.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put back what a test sets about logging: commands do that, and run in this process here."""
    root = logging.getLogger()
    before = {name: (one.level, one.propagate, one.disabled) for name, one in _loggers().items()}
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    yield
    after = _loggers()
    for name, (level_before, *flags) in before.items():
        one = after[name]
        if one.level != level_before:
            one.setLevel(level_before)
        one.propagate, one.disabled = flags
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.disable(disabled)


def _loggers() -> dict[str, logging.Logger]:
    logging.getLogger(
        "spooled"
    )  # has no records of its own, and would be made by the first who sets its level
    known = logging.getLogger().manager.loggerDict
    return {name: one for name, one in known.items() if isinstance(one, logging.Logger)}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """A fresh embedded server in memory, on a port of its own."""
    single = request.node.get_closest_marker("single_acks") is not None
    with EmbeddedServer(ack_batches=not single) as running:
        yield running
