"""The realtime contract: server-sent events."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import pytest

from tests.waiting import HOPELESS


class Stream:
    """Reads events and comments of an open response."""

    def __init__(self, response):
        self.response = response
        self._lines = response.iter_lines()

    def next_block(self):
        """Lines up to the next empty one; None at the end of the stream."""
        lines = []
        for line in self._lines:
            if not line:
                return lines
            lines.append(line)
        return None

    def next_event(self):
        """(name, envelope) of the next event; None at the end of the stream."""
        while (block := self.next_block()) is not None:
            if not block[0].startswith(":"):
                assert block[0].startswith("event: ")
                assert block[1].startswith("data: ")
                return block[0][7:], json.loads(block[1][6:])
        return None

    def next_data(self):
        name, envelope = self.next_event()
        return name, envelope["type"], envelope["data"]


@contextmanager
def opened(api, path="/events", **params):
    with api.http.stream("GET", path, params=params) as response:
        assert response.status_code == 200, response.read()
        stream = Stream(response)
        assert stream.next_block() == [": connected"]
        yield stream


def refused(response):
    return response.status_code, response.json()["code"]


class TestTheOrganizationsStream:
    def test_announces_new_jobs(self, timed):
        with opened(timed) as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            job_id = timed.create(priority=3)
            assert stream.next_event() == (
                "job.created",
                {
                    "type": "JobCreated",
                    "data": {
                        "job_id": job_id,
                        "queue_name": "mail",
                        "priority": 3,
                        "timestamp": "2026-01-01T00:00:00Z",
                    },
                },
            )

    def test_announces_each_job_of_a_batch_but_no_known_one(self, api):
        known = api.create(idempotency_key="k")
        with opened(api) as stream:
            body = {
                "queue_name": "mail",
                "jobs": [{"payload": 1}, {"payload": 2, "idempotency_key": "k"}, {"payload": 3}],
            }
            made = [item["job_id"] for item in api.post("/jobs/bulk", body).json()["succeeded"]]
            assert [stream.next_data()[2]["job_id"] for _ in range(2)] == [made[0], made[2]]
            assert made[1] == known
            api.delete(f"/jobs/{known}")
            assert stream.next_data()[2]["job_id"] == known

    @pytest.mark.parametrize("result", [{"ok": True}, None])
    def test_announces_a_completion_once(self, timed, result):
        job_id = timed.create()
        job = timed.claim_one()
        timed.server.advance(1.5)
        with opened(timed) as stream:
            timed.complete(job, result=result)
            marker = timed.create()
            name, kind, data = stream.next_data()
            assert (name, kind) == ("job.completed", "JobCompleted")
            expected = {"job_id": job_id, "queue_name": "mail", "duration_ms": 1500}
            assert {key: data[key] for key in expected} == expected
            assert data.get("result", "absent") == (result if result is not None else "absent")
            assert stream.next_data()[2]["job_id"] == marker

    @pytest.mark.parametrize(("max_retries", "new", "count"), [(3, "pending", 1), (0, "deadletter", 0)])
    def test_announces_a_failure_twice(self, api, max_retries, new, count):
        job_id = api.create(max_retries=max_retries)
        job = api.claim_one()
        with opened(api) as stream:
            api.fail(job, error="no route")
            name, kind, data = stream.next_data()
            assert (name, kind) == ("job.status", "JobStatusChange")
            assert (data["job_id"], data["old_status"], data["new_status"]) == (job_id, "processing", new)
            name, kind, data = stream.next_data()
            assert (name, kind) == ("job.failed", "JobFailed")
            assert (data["error"], data["retry_count"]) == ("no route", count)

    def test_announces_cancelling_and_retrying_by_hand(self, api):
        cancelled, buried = api.create("other"), api.bury()
        with opened(api) as stream:
            api.delete(f"/jobs/{cancelled}")
            api.post(f"/jobs/{buried}/retry")
            changes = [stream.next_data()[2] for _ in range(2)]
        assert [(change["job_id"], change["old_status"], change["new_status"]) for change in changes] == [
            (cancelled, "pending", "cancelled"),
            (buried, "deadletter", "pending"),
        ]

    def test_says_nothing_about_a_claim_or_a_refused_request(self, api):
        api.create()
        with opened(api) as stream:
            job = api.claim_one()
            api.complete({**job, "lease_id": "stale"})
            api.post("/jobs", {"queue_name": "mail", "payload": 1, "parent_job_id": "unknown"})
            marker = api.create("marker")
            assert stream.next_data()[2]["job_id"] == marker

    def test_stays_within_the_organization(self, api, stranger):
        with opened(api) as stream:
            stranger.create()
            mine = api.create()
            assert stream.next_data()[2]["job_id"] == mine

    def test_can_be_narrowed_to_a_queue_a_job_or_kinds_of_events(self, api):
        first, second = api.create("a"), api.create("b")
        with (
            opened(api, queue="b") as by_queue,
            opened(api, job_id=first) as by_job,
            opened(api, events="JOB.COMPLETED, job.failed") as by_kind,
        ):
            for queue in ("a", "b"):
                api.complete(api.claim_one(queue))
                api.create(queue)
            assert by_queue.next_data()[2]["job_id"] == second
            assert by_job.next_data()[2]["job_id"] == first
            assert [by_kind.next_data()[2]["job_id"] for _ in range(2)] == [first, second]

    def test_takes_a_star_as_a_queue_name_literally(self, start_server, connect):
        server = start_server()
        api = connect(server)
        with opened(api, queue="*") as literal, opened(api, events="*") as everything:
            job_id = api.create()
            assert everything.next_data()[2]["job_id"] == job_id
            server.stop()
            assert literal.next_event() is None

    @pytest.mark.parametrize("queue", ["a b", "", "x" * 101])
    def test_refuses_a_queue_that_cannot_be(self, api, queue):
        assert refused(api.get("/events", queue=queue)) == (400, "BAD_REQUEST")

    def test_shows_a_scoped_key_its_queues_only(self, api):
        scoped = api.scoped("mine")
        assert refused(scoped.get("/events", queue="other")) == (403, "ACCESS_DENIED")
        with opened(scoped) as stream:
            api.create("other")
            mine = api.create("mine")
            assert stream.next_data()[2]["job_id"] == mine

    def test_ends_when_its_key_is_revoked(self, api):
        made = api.post("/api-keys", {"name": "k"}).json()
        with opened(api.with_key(made["key"])) as stream:
            api.delete(f"/api-keys/{made['id']}")
            api.create()
            assert stream.next_event() is None

    def test_a_hundred_are_enough_for_an_organization(self, start_server, connect):
        from contextlib import ExitStack

        api = connect(start_server())
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(opened(api.with_key(api.key)))
            response = api.get("/events")
            assert refused(response) == (429, "RATE_LIMIT_EXCEEDED")
            assert "retry-after" not in response.headers


@pytest.mark.parametrize("path", ["/events", "/events/jobs/x", "/events/queues/x"])
class TestAccess:
    def test_a_credential_is_needed(self, api, path):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert refused(api.bare("GET", f"/api/v1{path}", headers=headers)) == (401, "UNAUTHORIZED")

    @pytest.mark.parametrize("name", ["token", "api_key"])
    def test_it_may_be_in_the_query(self, api, path, name):
        del api.http.headers["authorization"]
        with opened(api, path, **{name: api.key}):
            pass
        assert refused(api.get(path, **{name: "wrong"})) == (401, "UNAUTHORIZED")

    def test_the_header_wins_over_the_query(self, api, path):
        with opened(api, path, token="wrong"):
            pass

    def test_head_does_not_wait_for_the_end(self, api, path):
        assert api.http.head(path).status_code == 200


class TestAJobsStream:
    def test_tells_the_present_state_and_each_change_until_the_end(self, timed):
        job_id = timed.create()
        with opened(timed, f"/events/jobs/{job_id}") as stream:

            def change():
                name, kind, data = stream.next_data()
                assert (name, kind, data["job_id"]) == ("job.status", "JobStatusChange", job_id)
                return data["old_status"], data["new_status"]

            assert change() == ("", "pending")
            timed.claim_one()
            assert change() == ("pending", "processing")
            timed.server.advance(30)
            assert change() == ("processing", "pending")
            timed.complete(timed.claim_one())
            last = change()
            if last == ("pending", "processing"):
                last = change()
            assert last[1] == "completed"
            assert stream.next_event() is None

    def test_of_a_finished_job_tells_it_and_ends(self, api):
        job_id = api.bury()
        with opened(api, f"/events/jobs/{job_id}") as stream:
            assert stream.next_data()[2]["new_status"] == "deadletter"
            assert stream.next_event() is None

    def test_of_a_job_that_cannot_be_seen_ends_at_once(self, api, stranger):
        hidden = api.create("other")
        for viewer, job_id in ((api, "unknown"), (stranger, hidden), (api.scoped("mine"), hidden)):
            with opened(viewer, f"/events/jobs/{job_id}") as stream:
                assert stream.next_event() is None

    def test_of_a_job_that_is_deleted_says_so(self, api):
        job_id = api.create()
        with opened(api, f"/events/jobs/{job_id}") as stream:
            stream.next_data()
            api.delete("/queues/mail", delete_jobs="true")
            name, kind, data = stream.next_data()
            assert (name, kind, data["message"]) == ("error", "Error", "Job not found")
            assert stream.next_event() is None


class TestAQueuesStream:
    def test_tells_its_counters(self, timed):
        timed.bury()
        timed.create(scheduled_at="2027-01-01T00:00:00Z")
        timed.create()
        with opened(timed, "/events/queues/mail") as stream:
            name, kind, data = stream.next_data()
            assert (name, kind) == ("queue.stats", "QueueStats")
            assert data == {
                "queue_name": "mail",
                "pending": 2,
                "processing": 0,
                "completed": 0,
                "failed": 1,
                "timestamp": "2026-01-01T00:00:00Z",
            }

    def test_of_an_unknown_queue_has_zeros(self, api):
        with opened(api, "/events/queues/unknown") as stream:
            assert stream.next_data()[2]["pending"] == 0

    def test_out_of_scope_ends_at_once(self, api):
        with opened(api.scoped("mine"), "/events/queues/other") as stream:
            assert stream.next_event() is None


@pytest.mark.parametrize("path", ["/events", "/events/jobs/{id}", "/events/queues/mail"])
def test_stopping_the_server_ends_streams_at_once(start_server, connect, path):
    server = start_server()
    api = connect(server)
    with opened(api, path.format(id=api.create())) as stream:
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        while stream.next_event() is not None:
            pass
        stopper.join(timeout=HOPELESS)
        assert not stopper.is_alive()


def test_a_listener_that_does_not_read_loses_old_events_and_stops_nobody(api):
    with opened(api) as stream:
        for _ in range(30):
            api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 100})
        assert stream.next_data()[0] == "job.created"
    assert api.get("/jobs/stats").json()["total"] == 3000
