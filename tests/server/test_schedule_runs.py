"""Lifecycle section 12 and contract section 6: what schedules do."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits
from spooled_contrib.server._events import Hub
from spooled_contrib.server._plans import Plans
from spooled_contrib.server._rules import organizations, schedule_runs
from spooled_contrib.server._storage.sqlite import SqliteStorage

MINUTELY = {
    "name": "minutely",
    "cron_expression": "* * * * *",
    "queue_name": "mail",
    "payload_template": {"job_type": "report"},
}


def make(api, **fields):
    response = api.post("/schedules", {**MINUTELY, **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


def show(api, schedule_id):
    found = api.get(f"/schedules/{schedule_id}").json()
    return found["run_count"], found["last_run_at"], found["next_run_at"]


def runs(api, schedule_id, **params):
    return api.get(f"/schedules/{schedule_id}/history", **params).json()


@pytest.fixture
def limited(start_server, connect):
    def start(**limits):
        return connect(start_server(clock=ManualClock(), limits=Limits(**limits)))

    return start


class TestFiring:
    def test_happens_at_the_due_time_and_not_before(self, timed):
        make(timed)
        timed.server.advance(59.999)
        assert timed.get("/jobs").json() == []
        timed.server.advance(0.001)
        assert len(timed.get("/jobs").json()) == 1

    def test_makes_a_job_like_the_template(self, timed):
        make(timed, priority=5, max_retries=1, timeout_seconds=7, tags=["t"])
        timed.server.advance(60)
        job = timed.job(timed.get("/jobs").json()[0]["id"])
        assert job["status"] == "pending"
        assert job["payload"] == {"job_type": "report"}
        assert (job["priority"], job["max_retries"], job["timeout_seconds"]) == (5, 1, 7)
        assert (job["tags"], job["idempotency_key"], job["scheduled_at"]) == (["t"], None, None)
        assert timed.get("/jobs", job_type="report").json()[0]["id"] == job["id"]
        assert timed.claim_one()["id"] == job["id"]

    def test_counts_and_moves_on(self, timed):
        schedule_id = make(timed)
        timed.server.advance(60)
        assert show(timed, schedule_id) == (1, "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z")
        timed.server.advance(60)
        assert show(timed, schedule_id) == (2, "2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z")

    def test_does_not_make_up_for_what_was_missed(self, timed):
        schedule_id = make(timed)
        timed.server.advance(3600 + 30)
        assert show(timed, schedule_id) == (1, "2026-01-01T01:00:30Z", "2026-01-01T01:01:00Z")

    def test_does_not_wait_for_the_job_before(self, timed):
        make(timed)
        timed.server.advance(60)
        timed.claim_one(lease=3600)
        timed.server.advance(60)
        assert timed.claim_one()["payload"] == {"job_type": "report"}

    def test_does_not_happen_while_paused(self, timed):
        schedule_id = make(timed)
        timed.post(f"/schedules/{schedule_id}/pause")
        timed.server.advance(600)
        assert show(timed, schedule_id) == (0, None, "2026-01-01T00:01:00Z")

    def test_goes_on_while_the_queue_is_paused(self, timed):
        timed.put("/queues/mail/config", {"enabled": False})
        schedule_id = make(timed)
        timed.server.advance(60)
        assert show(timed, schedule_id)[0] == 1
        assert timed.claim() == []

    def test_uses_a_changed_template(self, timed):
        schedule_id = make(timed)
        timed.put(f"/schedules/{schedule_id}", {"payload_template": {"job_type": "other"}})
        timed.server.advance(60)
        assert timed.get("/jobs").json()[0]["job_type"] == "other"

    def test_catches_up_once_when_the_server_was_away(self, start_server, connect, tmp_path):
        clock, db = ManualClock(), tmp_path / "jobs.db"
        first = start_server(clock=clock, db=db)
        schedule_id = make(connect(first))
        first.stop()
        clock.advance(3600)
        api = connect(start_server(clock=clock, db=db))
        assert show(api, schedule_id) == (1, "2026-01-01T01:00:00Z", "2026-01-01T01:01:00Z")

    def test_follows_the_clocks_of_its_zone(self, start_server, connect):
        # In the night of 29 March 2026 Berlin has no 02:30, in the night of 25 October it has two.
        starts = {"2026-03-28T12:00:00Z": 2, "2026-10-24T12:00:00Z": 3}
        for start, expected in starts.items():
            clock = ManualClock(datetime.fromisoformat(start).timestamp())
            api = connect(start_server(clock=clock))
            schedule_id = make(api, cron_expression="30 2 * * *", timezone="Europe/Berlin")
            for _ in range(3 * 24):
                api.server.advance(3600)
            assert show(api, schedule_id)[0] == expected

    def test_takes_a_thousand_at_once(self, timed):
        for _ in range(1000):
            make(timed)
        timed.server.advance(60)
        assert timed.get("/jobs/stats").json()["pending"] == 1000
        assert {one["run_count"] for one in timed.get("/schedules", limit=500).json()} == {1}

    def test_is_told_to_listeners_as_a_new_job(self, timed):
        make(timed)
        with timed.http.stream("GET", "/events", params={"events": "job.created"}) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": connected"
            timed.server.advance(60)
            assert next(line for line in lines if line.startswith("event:")) == "event: job.created"


class TestAPlan:
    def test_that_is_full_costs_the_run(self, limited):
        api = limited(active_jobs=1)
        schedule_id = make(api)
        api.create("other")
        api.server.advance(60)
        assert show(api, schedule_id) == (0, None, "2026-01-01T00:02:00Z")
        (run,) = runs(api, schedule_id)
        assert (run["status"], run["job_id"], run["job_status"]) == ("failed", None, None)
        assert run["error_message"] == "The plan allows 1 active jobs; 1 are in use"
        assert api.get("/jobs/stats").json()["total"] == 1

    def test_with_smaller_payloads_costs_the_run(self, limited):
        api = limited(payload_bytes=10)
        schedule_id = make(api)
        api.server.advance(60)
        assert "bytes" in runs(api, schedule_id)[0]["error_message"]

    def test_charges_jobs_of_schedules_to_the_day(self, limited):
        api = limited(jobs_per_day=1)
        schedule_id = make(api)
        api.server.advance(60)
        api.server.advance(60)
        assert [run["status"] for run in runs(api, schedule_id)] == ["failed", "completed"]

    def test_with_fewer_queues_does_not_stop_a_schedule(self, limited):
        api = limited(queues=1)
        schedule_id = make(api)
        api.server.advance(60)
        assert show(api, schedule_id)[0] == 1


class TestTriggering:
    def test_makes_a_job_and_leaves_the_next_run(self, timed):
        schedule_id = make(timed)
        timed.server.clock.advance(10)
        body = timed.post(f"/schedules/{schedule_id}/trigger").json()
        assert body["triggered_at"] == "2026-01-01T00:00:10Z"
        assert timed.job(body["job_id"])["payload"] == {"job_type": "report"}
        assert show(timed, schedule_id) == (1, "2026-01-01T00:00:10Z", "2026-01-01T00:01:00Z")

    def test_works_while_paused(self, timed):
        schedule_id = make(timed)
        timed.post(f"/schedules/{schedule_id}/pause")
        assert timed.post(f"/schedules/{schedule_id}/trigger").status_code == 200

    @pytest.mark.parametrize(("limit", "status"), [({"active_jobs": 0}, 429), ({"payload_bytes": 3}, 413)])
    def test_is_refused_by_a_full_plan_without_a_trace(self, limited, limit, status):
        api = limited(**limit)
        schedule_id = make(api)
        assert api.post(f"/schedules/{schedule_id}/trigger").status_code == status
        assert show(api, schedule_id)[:2] == (0, None)
        assert runs(api, schedule_id) == []

    def test_may_not_add_a_queue_to_a_full_plan(self, limited):
        api = limited(queues=1)
        schedule_id = make(api)
        api.post(f"/schedules/{schedule_id}/pause")
        api.create("other")
        response = api.post(f"/schedules/{schedule_id}/trigger")
        assert (response.status_code, response.json()["resource"]) == (429, "queues")


class TestHistory:
    def test_tells_each_run_and_how_its_job_fares(self, timed):
        schedule_id = make(timed)
        timed.server.advance(60)
        job = timed.claim_one()
        (run,) = runs(timed, schedule_id)
        assert run == {
            "id": run["id"],
            "schedule_id": schedule_id,
            "job_id": job["id"],
            "status": "completed",
            "error_message": None,
            "started_at": "2026-01-01T00:01:00Z",
            "completed_at": "2026-01-01T00:01:00Z",
            "job_status": "processing",
        }
        timed.complete(job)
        assert runs(timed, schedule_id)[0]["job_status"] == "completed"
        timed.delete("/queues/mail", delete_jobs="true")
        assert runs(timed, schedule_id)[0]["job_status"] is None

    def test_shows_the_newest_first_up_to_a_limit(self, timed):
        schedule_id = make(timed)
        ids = [timed.post(f"/schedules/{schedule_id}/trigger").json()["job_id"] for _ in range(3)]
        assert [run["job_id"] for run in runs(timed, schedule_id)] == ids[::-1]
        assert [run["job_id"] for run in runs(timed, schedule_id, limit=1)] == ids[2:]

    def test_is_forgotten_after_the_retention(self, start_server, connect):
        api = connect(start_server(clock=ManualClock(), retention_days=1))
        schedule_id = make(api, cron_expression="0 0 1 1 *")
        api.post(f"/schedules/{schedule_id}/trigger")
        api.server.advance(86_000)
        assert len(runs(api, schedule_id)) == 1
        api.server.advance(1000)
        assert runs(api, schedule_id) == []


class TestSeveralServers:
    """What keeps two servers on one database apart, at the level of the rule: both have seen the same due time."""

    @pytest.fixture
    async def storage(self):
        storage = SqliteStorage(":memory:", clock=ManualClock(), hub=Hub())
        await storage.open()
        yield storage
        await storage.close()

    @pytest.fixture
    async def due(self, storage):
        def prepare(tx):
            organizations.ensure_server_key(tx, "sp_test_0123456789")
            tx.execute(
                "INSERT INTO schedules (id, organization_id, name, cron_expression, timezone, queue_name, "
                "payload_template, job_type, priority, max_retries, timeout_seconds, is_active, next_run_at, "
                "run_count, created_at, updated_at) "
                "VALUES ('s', 'o', 'n', '* * * * *', 'UTC', 'q', '1', '', 0, 3, 300, 1, ?, 0, 0, 0)",
                (tx.now,),
            )

        await storage.write(prepare)
        (due,) = await storage.read(lambda tx: schedule_runs.find_due(tx, tx.now))
        return due

    async def counts(self, storage):
        return await storage.read(
            lambda tx: (
                tx.select_one("SELECT COUNT(*) FROM jobs")[0],
                tx.select_one("SELECT COUNT(*) FROM schedule_runs")[0],
                tx.select_one("SELECT run_count FROM schedules")[0],
            )
        )

    async def test_only_one_of_them_fires(self, storage, due):
        fired = await asyncio.gather(
            *(storage.write(lambda tx: schedule_runs.fire(tx, Plans(Limits()), due)) for _ in range(5))
        )
        assert sorted(fired) == [False] * 4 + [True]
        assert await self.counts(storage) == (1, 1, 1)

    @pytest.mark.parametrize(
        "change", ["is_active = 0", "next_run_at = next_run_at + 1", "next_run_at = NULL"]
    )
    async def test_none_fires_what_was_paused_or_moved_meanwhile(self, storage, due, change):
        await storage.write(lambda tx: tx.execute(f"UPDATE schedules SET {change}"))
        assert await storage.write(lambda tx: schedule_runs.fire(tx, Plans(Limits()), due)) is False
        assert await self.counts(storage) == (0, 0, 0)

    async def test_none_fires_what_was_deleted_meanwhile(self, storage, due):
        await storage.write(lambda tx: tx.execute("DELETE FROM schedules"))
        assert await storage.write(lambda tx: schedule_runs.fire(tx, Plans(Limits()), due)) is False


def test_one_that_cannot_fire_is_logged_and_harms_no_other(timed, monkeypatch, caplog):
    broken, sound = make(timed), make(timed)
    fire = schedule_runs.fire

    def fails_for_one(tx, plans, due):
        if due.schedule_id == broken:
            tx.execute("UPDATE schedules SET run_count = 99 WHERE id = ?", (broken,))
            raise RuntimeError("no luck")
        return fire(tx, plans, due)

    monkeypatch.setattr(schedule_runs, "fire", fails_for_one)
    timed.server.advance(60)
    assert f"schedule {broken} could not fire" in caplog.text
    assert (show(timed, broken)[0], show(timed, sound)[0]) == (0, 1)
    monkeypatch.undo()
    timed.server.advance(1)
    assert show(timed, broken) == (1, "2026-01-01T00:01:01Z", "2026-01-01T00:02:00Z")
