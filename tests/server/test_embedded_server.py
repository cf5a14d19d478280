"""The Python interface: starting, stopping, starting again, moving the clock."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import (
    DEVELOPMENT_KEY,
    AddressUnavailableError,
    EmbeddedServer,
    ServerConfigurationError,
    StorageUnavailableError,
)
from tests.waiting import HOPELESS


def test_a_with_statement_serves_and_stops(connect):
    with EmbeddedServer() as server:
        assert server.running
        assert server.url.startswith("http://127.0.0.1:")
        assert server.api_key == DEVELOPMENT_KEY
        connect(server).create()
    assert not server.running
    with pytest.raises(httpx.ConnectError):
        connect(server).get("/jobs")


async def test_async_with_does_not_block_the_loop():
    async with EmbeddedServer() as server, httpx.AsyncClient(verify=False) as client:
        response = await client.get(server.url + "/health")
        assert response.json()["status"] == "healthy"


@pytest.mark.sqlite_only
def test_memory_is_forgotten_and_the_port_is_kept(start_server, connect):
    server = start_server()
    api, url = connect(server), server.url
    api.create()
    server.stop()
    server.start()
    assert server.url == url
    assert connect(server).get("/jobs").json() == []


def test_a_database_is_kept_with_leases_keys_and_time(lasting_db, start_server, connect):
    clock = ManualClock()
    server = start_server(db=lasting_db, clock=clock)
    api = connect(server)
    key = api.post("/api-keys", {"name": "k"}).json()["key"]
    held, lost = api.create(priority=1), api.create()
    job = api.claim_one(lease=90)
    api.claim_one(lease=30)
    server.stop()
    clock.advance(30)
    server.start()
    other = api.with_key(key)
    assert (other.status(held), other.status(lost)) == ("processing", "processing")
    server.advance(30)
    assert (other.status(held), other.status(lost)) == ("processing", "pending")
    assert other.complete(job).status_code == 200


def test_leases_that_ended_while_no_server_ran_get_another_thirty_seconds(tmp_path, start_server, connect):
    clock = ManualClock()
    server = start_server(db=str(tmp_path / "jobs.db"), clock=clock)
    api = connect(server)
    job_id = api.post("/jobs", {"queue_name": "q", "payload": 1}).json()["id"]
    lease = {"queue_name": "q", "worker_id": "w", "lease_duration_secs": 5}
    lease_id = api.post("/jobs/claim", lease).json()["jobs"][0]["lease_id"]
    server.stop()
    clock.advance(60)
    server.start()
    assert api.get(f"/jobs/{job_id}").json()["status"] == "processing"
    ack = {"worker_id": "w", "lease_id": lease_id, "lease_duration_secs": 5}
    server.advance(29)
    assert api.post(f"/jobs/{job_id}/heartbeat", ack).status_code == 200
    server.advance(5)
    assert api.get(f"/jobs/{job_id}").json()["status"] == "pending"


def test_stop_can_be_repeated_and_start_cannot(start_server):
    server = start_server()
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    server.stop()
    server.stop()


def test_the_url_is_unknown_before_the_first_start():
    with pytest.raises(RuntimeError, match="start"):
        EmbeddedServer().url  # noqa: B018 - a property that raises


def test_stopping_leaves_no_thread_behind(fresh_db):
    before = set(threading.enumerate())
    with EmbeddedServer(db=fresh_db()):
        assert set(threading.enumerate()) != before
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def test_another_key_shuts_the_one_before_out(lasting_db, start_server, connect):
    first = start_server(db=lasting_db)
    job_id = connect(first).create()
    first.stop()
    second = start_server(db=lasting_db, api_key="a-key-of-my-own")
    assert second.api_key == "a-key-of-my-own"
    api = connect(second)
    assert api.status(job_id) == "pending"
    assert api.with_key(DEVELOPMENT_KEY).get("/jobs").status_code == 401
    second.stop()
    third = start_server(db=lasting_db)
    assert connect(third).status(job_id) == "pending"
    assert connect(third).with_key("a-key-of-my-own").get("/jobs").status_code == 401


def test_the_development_key_stays_on_this_machine():
    with pytest.raises(ServerConfigurationError, match=r"refusing to listen on 0\.0\.0\.0"):
        EmbeddedServer(host="0.0.0.0").start()
    with pytest.raises(ServerConfigurationError, match="development key"):
        EmbeddedServer(host="::", api_key=DEVELOPMENT_KEY).start()


def test_other_machines_may_come_in_with_a_key_but_not_register(start_server, connect):
    server = start_server(host="0.0.0.0", api_key="a-key-of-my-own")
    assert server.url.startswith("http://0.0.0.0:")
    api = connect(server)
    api.create()
    response = api.bare("POST", "/api/v1/organizations", json={"name": "A", "slug": "a"})
    assert response.status_code == 403


@pytest.mark.parametrize("key", ["", "short", "x" * 256, "with a space", "ümlaut-key", "eyJ-like-a-token"])
def test_a_key_that_no_client_could_send_is_refused(key):
    with pytest.raises(ServerConfigurationError):
        EmbeddedServer(api_key=key).start()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_bracketed(start_server, connect):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = start_server(host="::1")
    assert server.url.startswith("http://[::1]:")
    connect(server).create()


def test_a_taken_port_is_an_error_and_leaves_nothing_open(start_server, lasting_db):
    port = int(start_server().url.rpartition(":")[2])
    with pytest.raises(AddressUnavailableError, match=f"port {port}"):
        EmbeddedServer(port=port, db=lasting_db).start()
    start_server(db=lasting_db)


@pytest.mark.sqlite_only
def test_a_file_belongs_to_one_server(start_server, tmp_path):
    path = str(tmp_path / "jobs.db")
    first = start_server(db=path)
    second = EmbeddedServer(db=path)
    with pytest.raises(StorageUnavailableError, match="in use by another server"):
        second.start()
    first.stop()
    second.start()
    second.stop()


@pytest.mark.sqlite_only
@pytest.mark.parametrize("content", [b"this is not a database, not at all" * 100, "other schema"])
def test_a_file_of_something_else_is_an_error_and_is_not_touched(tmp_path, content):
    path = tmp_path / "jobs.db"
    if content == "other schema":
        import sqlite3

        database = sqlite3.connect(path)
        database.execute("CREATE TABLE mine (x)")
        database.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StorageUnavailableError):
        EmbeddedServer(db=str(path)).start()
    if isinstance(content, bytes):
        assert path.read_bytes() == before


class TestAdvancing:
    def test_runs_everything_that_is_due_before_it_returns(self, timed):
        scheduled = timed.create("a", scheduled_at="2026-01-01T00:00:20Z")
        lost = timed.create("b")
        timed.claim_one("b", lease=30)
        timed.server.advance(31)
        assert (timed.status(scheduled), timed.status(lost)) == ("pending", "pending")

    def test_of_the_clock_alone_sweeps_nothing(self, timed):
        job_id = timed.create()
        timed.claim_one(lease=30)
        timed.server.clock.advance(31)
        assert timed.status(job_id) == "processing"

    def test_needs_a_manual_clock_and_a_running_server(self, start_server):
        with pytest.raises(TypeError, match="ManualClock"):
            start_server().advance(1)
        with pytest.raises(RuntimeError, match="does not run"):
            EmbeddedServer(clock=ManualClock()).advance(1)
        with pytest.raises(ValueError, match="backwards"):
            start_server(clock=ManualClock()).advance(-1)

    async def test_works_from_inside_an_event_loop(self):
        async with EmbeddedServer(clock=ManualClock()) as server:
            server.advance(1)
            await asyncio.sleep(0)


def test_real_time_recovers_a_lease_by_itself(api, eventually):
    class Ahead:
        """Real time, until it is set forward."""

        offset = 0.0

        def now(self):
            import time

            return time.time() + self.offset

        def monotonic(self):
            import time

            return time.monotonic() + self.offset

    clock = Ahead()
    with EmbeddedServer(clock=clock) as server:
        other = type(api)(server, server.api_key, "")
        job_id = other.create()
        other.claim_one(lease=30)
        clock.offset = 31.0
        eventually(lambda: other.status(job_id) == "pending")
        other.close()


def test_importing_the_package_or_its_command_loads_nothing_heavy():
    code = (
        "import sys, spooled_contrib.server, spooled_contrib.server.command;"
        "heavy = {'starlette', 'uvicorn', 'sqlite3', 'jwt', 'asyncio', 'msgspec'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HOPELESS)
    assert done.returncode == 0, done.stderr
