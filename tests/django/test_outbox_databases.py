"""The outbox on SQLite, PostgreSQL and MariaDB: keys, transactions, claims, and the way from the older table."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import override_settings
from shop.jobs import gate
from shop.models import Order

from spooled_contrib.django import _outbox_table as table
from spooled_contrib.django import get_client
from spooled_contrib.django._outbox import Sender, relay
from spooled_contrib.django.models import OutboxEntry
from tests.django.test_database import Postgres, postgres  # noqa: F401
from tests.django.test_outbox import LOOK_ALIKE
from tests.mariadb import MISSING, running_mariadb
from tests.waiting import HOPELESS
from tests.worker.conftest import Outside

ALIAS = "under_test"

needs_mariadb = pytest.mark.skipif(
    MISSING and "CI" not in os.environ, reason="no MariaDB (Debian: apt install mariadb-server)"
)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[dict[str, Any]]:
    import pymysql

    pymysql.install_as_MySQLdb()
    with running_mariadb() as socket:
        yield {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "test",
            "USER": "root",
            "OPTIONS": {"unix_socket": socket},
        }


@pytest.fixture(
    params=[
        "sqlite",
        "postgresql",
        pytest.param("mariadb", marks=needs_mariadb),
        pytest.param("mariadb repeatable read", marks=needs_mariadb),
    ]
)
def alias(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of that kind under the name ALIAS, migrated and empty."""
    kind = request.param
    if kind == "sqlite":
        database: dict[str, Any] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "other.sqlite3"),
        }
    elif kind == "postgresql":
        database = dict(request.getfixturevalue("postgres").settings)
    else:
        database = dict(request.getfixturevalue("mariadb"))
        if kind != "mariadb":
            database["OPTIONS"] = {**database["OPTIONS"], "isolation_level": "repeatable read"}
    ready = connections.configure_settings({**connections.settings, ALIAS: database})
    connections.settings[ALIAS] = ready[ALIAS]
    try:
        with connections[ALIAS].cursor() as cursor:
            if connections[ALIAS].vendor == "mysql":
                cursor.execute("DROP DATABASE IF EXISTS test")
                cursor.execute("CREATE DATABASE test")
            elif connections[ALIAS].vendor == "postgresql":
                cursor.execute("DROP SCHEMA public CASCADE")
                cursor.execute("CREATE SCHEMA public")
        connections[ALIAS].close()
        call_command("migrate", database=ALIAS, verbosity=0)
        yield ALIAS
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture
def outbox(spooled_django: Any) -> Iterator[None]:
    with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}):
        yield


def rows() -> Any:
    return OutboxEntry.objects.using(ALIAS)


def in_thread(act: Callable[[], None]) -> threading.Thread:
    def work() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.usefixtures("outbox")
def test_as_many_jobs_as_keys(alias: str, outside: Outside) -> None:
    for _ in range(2):
        for key in LOOK_ALIKE:
            with transaction.atomic(using=alias):
                gate.enqueue_on_commit("x", using=alias, idempotency_key=key)
    assert rows().count() == len(LOOK_ALIKE)
    assert relay(get_client(), alias) == len(LOOK_ALIKE)
    assert outside.counts("gates")["total"] == len(LOOK_ALIKE)
    assert rows().count() == 0


@pytest.mark.usefixtures("outbox")
def test_a_known_key_and_other_faults_in_a_transaction_of_the_user(alias: str) -> None:
    with transaction.atomic(using=alias):
        gate.enqueue_on_commit("first", using=alias, idempotency_key="k")
        gate.enqueue_on_commit("second", using=alias, idempotency_key="k")
        Order.objects.using(alias).create(customer="Ada")
    assert Order.objects.using(alias).count() == 1
    assert [entry.parameters["payload"] for entry in rows()] == ["first"]
    # What is wrong besides is not hidden.
    with pytest.raises((DatabaseError, ValueError)), transaction.atomic(using=alias):
        gate.enqueue_on_commit("x", using=alias, tags=[float("nan")])
    assert rows().count() == 1


@pytest.mark.usefixtures("outbox")
def test_a_key_that_another_transaction_is_writing(alias: str, outside: Outside) -> None:
    """One waits for the other; both succeed, and there is one row."""
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    snapshot, written, done = threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def first() -> None:
        with transaction.atomic(using=alias):
            assert snapshot.wait(HOPELESS)
            gate.enqueue_on_commit("first", using=alias, idempotency_key="k")
            written.set()

    def second() -> None:
        try:
            with transaction.atomic(using=alias):
                # With REPEATABLE READ what is committed from now on cannot be seen.
                assert rows().count() == 0
                snapshot.set()
                assert written.wait(HOPELESS)
                gate.enqueue_on_commit("second", using=alias, idempotency_key="k")
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threads = [in_thread(first), in_thread(second)]
    for thread in threads:
        thread.join(HOPELESS)
    assert not failures
    assert rows().count() == 1
    assert relay(get_client(), alias) == 1


@pytest.mark.usefixtures("outbox")
def test_a_row_is_sent_and_deleted_while_its_key_is_written_again(
    alias: str, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the conflict and the look at the other row that row may go."""
    gate.enqueue_on_commit("first", using=alias, idempotency_key="k")
    looked = table._waits

    def gone(*args: Any) -> bool:
        rows().all().delete()
        return looked(*args)

    monkeypatch.setattr(table, "_waits", gone)
    gate.enqueue_on_commit("second", using=alias, idempotency_key="k")
    assert [entry.parameters["payload"] for entry in rows()] == ["second"]


@pytest.mark.usefixtures("outbox")
def test_a_row_that_is_refused_and_one_that_is_replaced(alias: str, outside: Outside) -> None:
    gate.enqueue_on_commit("x", using=alias, idempotency_key="k")
    rows().update(parameters={"queue_name": "-bad 🔑", "payload": None, "idempotency_key": "k"})
    assert relay(get_client(), alias) == 0
    assert "queue_name" in rows().get().last_error
    with transaction.atomic(using=alias):
        gate.enqueue_on_commit("y", using=alias, idempotency_key="k")
    assert relay(get_client(), alias) == 1
    assert rows().count() == 0


@pytest.mark.usefixtures("outbox")
def test_senders_side_by_side(alias: str, outside: Outside) -> None:
    with transaction.atomic(using=alias):
        for number in range(130):
            gate.enqueue_on_commit(str(number), using=alias)
    counts: list[int] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            sender, sent = Sender(get_client(), alias), 0
            while rows().filter(claimed_by=None).exists():
                sent += sender.send()
            counts.append(sent)
        except BaseException as error:
            failures.append(error)

    threads = [in_thread(work) for _ in range(3)]
    for thread in threads:
        thread.join(HOPELESS)
    assert not failures
    # No row was sent twice.
    assert sum(counts) == 130
    assert outside.counts("gates")["total"] == 130
    assert rows().count() == 0


def test_rows_of_an_older_release_before_and_after_the_migration(
    alias: str, spooled_django: Any, outside: Outside
) -> None:
    """The table is migrated with rows in it, and processes of the older release go on writing theirs."""
    connection = connections[alias]
    old = MigrationExecutor(connection).migrate([("spooled", "0001_initial")]).apps
    entry = old.get_model("spooled", "OutboxEntry")

    def write(key: str) -> None:
        parameters = {"queue_name": "gates", "payload": key, "idempotency_key": key}
        entry.objects.using(alias).bulk_create(
            [entry(idempotency_key=key, parameters=parameters)], ignore_conflicts=True
        )

    write("before")
    write("before")
    MigrationExecutor(connection).migrate([("spooled", "0002_outbox_claims")])
    assert rows().get().key_digest == table.digest_of("before")
    write("after")
    write("after")
    with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}), transaction.atomic(using=alias):
        for key in ("before", "after", "AFTER"):
            gate.enqueue_on_commit("x", using=alias, idempotency_key=key)
    relay(get_client(), alias)
    assert rows().count() == 0
    assert outside.counts("gates")["total"] == 3


def test_the_digest_is_unique(alias: str) -> None:
    for digest in (None, None, table.digest_of("k")):
        rows().create(idempotency_key="k", key_digest=digest, parameters={})
    with pytest.raises(IntegrityError):
        rows().create(idempotency_key="other", key_digest=table.digest_of("k"), parameters={})
