"""A database that an older server made is brought up to date when it is opened."""

from __future__ import annotations

import sqlite3

from spooled.clock import ManualClock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._rules import organizations
from spooled_contrib.server._settings import DEVELOPMENT_KEY
from spooled_contrib.server._storage import sqlite
from spooled_contrib.server._storage.schema import STEPS


async def write_with_version(monkeypatch, path, version, operation):
    """What a server of that version would have left behind."""
    monkeypatch.setattr(sqlite, "STEPS", STEPS[:version])
    storage = sqlite.SqliteStorage(str(path), clock=ManualClock(), hub=Hub())
    await storage.open()
    await storage.write(operation)
    await storage.close()
    monkeypatch.undo()


def version_of(path):
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return version


async def test_version_1_keeps_its_jobs_and_gains_schedules_and_workflows(
    monkeypatch, tmp_path, start_server, connect
):
    path = tmp_path / "jobs.db"

    def fill(tx):
        organizations.ensure_server_key(tx, DEVELOPMENT_KEY)
        # As a server of that version did it: what came later is not there yet.
        tx.execute(
            "INSERT INTO jobs (id, organization_id, queue_name, status, ready, payload, job_type, priority, "
            "retry_count, max_retries, timeout_seconds, created_at, updated_at, dependency_mode, dependencies_met) "
            "VALUES ('j', ?, 'mail', 'pending', 1, '\"kept\"', '', 0, 0, 3, 300, ?, ?, 'all', 1)",
            (organizations.DEVELOPMENT_ORGANIZATION_ID, tx.now, tx.now),
        )

    await write_with_version(monkeypatch, path, 1, fill)
    assert version_of(path) == 1
    server = start_server(db=path, clock=ManualClock())
    assert version_of(path) == len(STEPS)
    api = connect(server)
    assert api.claim_one()["payload"] == "kept"
    schedule = {"name": "s", "cron_expression": "* * * * *", "queue_name": "mail", "payload_template": 1}
    assert api.post("/schedules", schedule).status_code == 201
    workflow = {"name": "w", "jobs": [{"key": "a", "queue_name": "mail", "payload": 1}]}
    assert api.post("/workflows", workflow).status_code == 200
    server.advance(60)
    assert api.get("/jobs/stats").json()["total"] == 3
