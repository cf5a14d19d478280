"""Servers that share a database: crashes, messages between them, who sweeps, starting and losing the database."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server_postgres.conftest import KEY, Caller
from tests.waiting import HOPELESS, wait_until


def test_a_killed_server_loses_nothing_and_runs_nothing_twice_at_a_time(spawn, db, owner):
    servers = [spawn(db), spawn(db)]
    for server in servers:
        server.started()
    made = owner.create_many(servers[0], 400)
    running: set[str] = set()
    completed: dict[str, int] = {}
    guard, killed = threading.Lock(), threading.Event()

    def work(name: str) -> None:
        caller, server = Caller(KEY), servers[int(name) % 2]
        while True:
            try:
                for job in caller.claim(server, name, limit=3, lease=10):
                    with guard:
                        assert job["id"] not in running
                        running.add(job["id"])
                    try:
                        reply = caller.complete(server, job, name)
                    finally:
                        with guard:
                            running.discard(job["id"])
                    assert reply.status_code == 200, reply.text
                    with guard:
                        completed[job["id"]] = completed.get(job["id"], 0) + 1
            except httpx.TransportError:
                server = servers[1]
            with guard:
                if len(completed) > 60 and not killed.is_set():
                    killed.set()
                    servers[0].kill()
            stats = caller.get(servers[1], "/jobs/stats").json()
            if stats["completed"] == len(made):
                caller.http.close()
                return

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, str(number)) for number in range(6)]:
            future.result(timeout=HOPELESS)
    assert killed.is_set()
    assert set(completed.values()) == {1}
    # At most the acks that were on their way to the killed server were not answered.
    assert len(completed) >= len(made) - 6
    stats = owner.get(servers[1], "/jobs/stats").json()
    assert (stats["completed"], stats["total"]) == (len(made), len(made))


def test_a_lost_lease_is_recovered_once_and_by_whoever_is_left(spawn, db, postgres, owner):
    first, second, third = (spawn(db).started() for _ in range(3))

    def leader():
        return postgres.ask("SELECT server_id FROM leader", url=db)

    before = leader()
    made = owner.create_many(first, 20)
    assert len(owner.claim(first, limit=20, lease=5)) == 20
    first.kill()
    wait_until(lambda: owner.get(second, "/jobs/stats").json()["pending"] == 20)
    for job_id in made:
        events = [event["event_type"] for event in owner.get(third, f"/jobs/{job_id}/history").json()]
        assert events.count("lease_expired") == 1
        assert owner.job(third, job_id)["retry_count"] == 1
    (after,) = leader()
    assert [after] != before


class Stream:
    """The events of an organization, read by a thread."""

    def __init__(self, server, key, path="/events"):
        self.events: list[dict] = []
        self._connected = threading.Event()
        self._ended = threading.Event()
        self._http = httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=HOPELESS, verify=False)
        self._thread = threading.Thread(target=self._read, args=(server.url + "/api/v1" + path,), daemon=True)
        self._thread.start()
        assert self._connected.wait(HOPELESS)

    def _read(self, url):
        try:
            with self._http.stream("GET", url) as response:
                for line in response.iter_lines():
                    self._connected.set()
                    if line.startswith("data: "):
                        self.events.append(json.loads(line[6:]))
        except httpx.TransportError:
            pass
        finally:
            self._ended.set()

    def has(self, kind, **data):
        return any(
            event["type"] == kind and data.items() <= event["data"].items() for event in list(self.events)
        )

    def ended(self):
        return self._ended.is_set()

    def close(self):
        self._http.close()


def test_events_of_one_server_reach_the_listeners_of_another(pair, caller):
    for _ in range(5):
        # From the first chunk on, nothing is missed.
        stream = Stream(pair[1], caller.key)
        job_id = caller.create(pair[0])
        wait_until(lambda s=stream, j=job_id: s.has("JobCreated", job_id=j), "the event arrives")
        (job,) = caller.claim(pair[0])
        result = {"text": "äöü€😀" * 9000, "number": 10**40}
        caller.complete(pair[0], job, result=result)
        wait_until(lambda s=stream, j=job_id, r=result: s.has("JobCompleted", job_id=j, result=r))
        stream.close()


def test_the_stream_of_a_job_notices_a_change_on_another_server(pair, caller):
    job_id = caller.create(pair[0])
    stream = Stream(pair[1], caller.key, f"/events/jobs/{job_id}")
    wait_until(lambda: stream.has("JobStatusChange", new_status="pending"))
    caller.claim(pair[0])
    wait_until(lambda: stream.has("JobStatusChange", new_status="processing"))
    stream.close()


def test_a_key_that_is_revoked_on_one_server_is_refused_on_the_other(pair, caller):
    made = caller.post(pair[0], "/api-keys", {"name": "k"}).json()
    other = Caller(made["key"])
    assert other.get(pair[1], "/jobs").status_code == 200
    caller.http.delete(f"{pair[0].url}/api/v1/api-keys/{made['id']}")
    wait_until(lambda: other.get(pair[1], "/jobs").status_code == 401)
    assert other.get(pair[0], "/jobs").status_code == 401
    other.http.close()


def test_a_changed_scope_holds_on_the_other_server(pair, caller):
    made = caller.post(pair[0], "/api-keys", {"name": "k"}).json()
    other = Caller(made["key"])
    assert other.get(pair[1], "/organizations/usage").status_code == 200
    caller.http.put(f"{pair[0].url}/api/v1/api-keys/{made['id']}", json={"queues": ["mail"]})
    wait_until(lambda: other.get(pair[1], "/organizations/usage").status_code == 403)
    other.http.close()


def test_a_login_is_good_on_every_server_until_it_ends_on_one(pair, caller):
    login = caller.post(pair[0], "/auth/login", {"api_key": caller.key}).json()
    token = Caller(login["access_token"])
    assert token.get(pair[1], "/jobs").status_code == 200
    assert token.http.post(f"{pair[0].url}/api/v1/auth/logout").status_code == 204
    wait_until(lambda: token.get(pair[1], "/jobs").status_code == 401)
    token.http.close()


def test_an_empty_database_survives_being_started_on_by_several(spawn, postgres, db):
    servers = [spawn(db) for _ in range(4)]
    caller = Caller(KEY)
    for server in servers:
        server.started()
    ids = {caller.create(server) for server in servers}
    assert {job["id"] for job in caller.get(random.choice(servers), "/jobs").json()} == ids
    assert postgres.ask("SELECT value FROM meta WHERE name = 'schema_version'", url=db)[0][0].isdigit()
    caller.http.close()


@pytest.mark.parametrize("what", ["all connections", "the listening one"])
def test_lost_connections_are_replaced(spawn, db, postgres, owner, what):
    application = f"lost-{random.randrange(10**9)}"
    db += f"&application_name={application}"
    servers = [spawn(db).started(), spawn(db).started()]
    made = owner.post(servers[0], "/api-keys", {"name": "k"}).json()
    other = Caller(made["key"])
    assert other.get(servers[1], "/jobs").status_code == 200
    stream = Stream(servers[1], KEY)
    listening = (
        "" if what == "all connections" else "AND query NOT LIKE 'COMMIT%%' AND query NOT LIKE 'BEGIN%%'"
    )
    (ended,) = postgres.ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE application_name = %s AND pid <> pg_backend_pid() {listening}",
        (application,),
    )
    assert ended[0] > 0
    # A revocation that the other server cannot have heard of is obeyed all the same.
    owner.http.delete(f"{servers[0].url}/api/v1/api-keys/{made['id']}")
    wait_until(lambda: "do not arrive" in servers[1].log)
    assert other.get(servers[1], "/jobs").status_code == 401
    wait_until(lambda: "arrive again" in servers[1].log)
    assert other.get(servers[1], "/jobs").status_code == 401

    def announced():
        job_id = owner.create(servers[0])
        return stream.has("JobCreated", job_id=job_id) or len(stream.events) > 0

    wait_until(announced, "events arrive again")
    stream.close()
    other.http.close()
