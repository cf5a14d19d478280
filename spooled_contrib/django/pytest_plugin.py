"""pytest's fixture for Django projects. pytest finds it by itself once the package is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from spooled import Job


@pytest.fixture
def spooled_django(spooled_server: Any) -> Iterator[Callable[[], list[Job]]]:
    """Point the project at a fresh server, for one test. The value is `drain`: call it to run what is due."""
    # Imported here, because pytest loads this file in every project that has the package.
    from spooled_contrib.django.testing import drain_jobs, using_server

    with using_server(spooled_server):
        yield drain_jobs
