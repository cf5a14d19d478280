"""A Django project in this process, on SQLite; the same one is run by `manage.py` in processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.worker.conftest import Outside

PROJECT = Path(__file__).parent / "project"

pytest.importorskip("django", reason="Django is not installed")


sys.path.insert(0, str(PROJECT))
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
os.environ["PROJECT_DB"] = ":memory:"

import django  # noqa: E402

django.setup()
# Other parts of the suite start processes from this one, which must not take this project for theirs.
for _name in ("DJANGO_SETTINGS_MODULE", "PROJECT_DB"):
    del os.environ[_name]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own server must not be touched."""
    for name in [name for name in os.environ if name.startswith("SPOOLED_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A migrated SQLite file, which threads share."""
    from django.core.management import call_command
    from django.db import connections

    connections.databases["default"]["NAME"] = str(tmp_path_factory.mktemp("db") / "db.sqlite3")
    connections["default"].settings_dict["NAME"] = connections.databases["default"]["NAME"]
    connections["default"].close()
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()


@pytest.fixture
def db(database: None) -> Iterator[None]:
    """The database, empty."""
    from django.db import connections
    from shop.models import Order

    from spooled_contrib.django.models import OutboxEntry

    Order.objects.all().delete()
    OutboxEntry.objects.all().delete()
    yield
    connections.close_all()


@pytest.fixture
def outside(spooled_server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(spooled_server)
    yield looking
    looking.http.close()


@pytest.fixture
def settings_of(spooled_server: EmbeddedServer) -> dict[str, Any]:
    """What SPOOLED has to be for the test's server."""
    return {"API_KEY": spooled_server.api_key, "BASE_URL": spooled_server.url}


@pytest.fixture
def signals() -> Iterator[list[tuple[str, str, str]]]:
    """Names of the signals of Django Tasks that were sent, with the result's status and id."""
    from spooled_contrib.django._task_names import task_enqueued, task_finished, task_started
    from spooled_contrib.django.tasks import SpooledBackend

    seen: list[tuple[str, str, str]] = []
    receivers = []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):

        def receive(sender: Any, task_result: Any, name: str = name, **_: Any) -> None:
            assert issubclass(sender, SpooledBackend)
            seen.append((name, task_result.status.value, task_result.id))

        signal.connect(receive)
        receivers.append((signal, receive))
    yield seen
    for signal, receive in receivers:
        signal.disconnect(receive)
