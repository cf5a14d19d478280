"""Contract section 9 and lifecycle section 9: which changes are told to webhooks, and with what data."""

from __future__ import annotations

import hashlib
import hmac

from spooled_contrib.server._rules.webhooks import EVENTS


def told(api, receiver):
    api.server.advance(0)
    events = sorted(receiver.events, key=lambda event: event[0])
    receiver.requests.clear()
    return events


class TestAnOrganizationsWebhook:
    def test_is_told_about_a_jobs_life(self, hooked, receiver):
        hooked.hook(receiver.url(), *EVENTS)
        job_id = hooked.create()
        name = {"job_id": job_id, "queue_name": "mail"}
        assert told(hooked, receiver) == [("job.created", {**name, "priority": 0, "status": "pending"})]
        job = hooked.claim_one()
        assert told(hooked, receiver) == [("job.started", {**name, "worker_id": "w1"})]
        hooked.complete(job, result={"sum": 3})
        assert told(hooked, receiver) == [
            ("job.completed", {**name, "status": "completed", "result": {"sum": 3}})
        ]

    def test_is_told_of_each_job_of_a_batch(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.created", "job.started")
        hooked.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}, {"payload": 2}]})
        hooked.claim(limit=2)
        assert [event for event, _ in told(hooked, receiver)] == ["job.created"] * 2 + ["job.started"] * 2

    def test_is_told_of_a_failure_only_when_it_is_the_last(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.failed", "job.deadlettered")
        job_id = hooked.create(max_retries=1)
        hooked.fail(hooked.claim_one())
        hooked.server.advance(2)
        assert told(hooked, receiver) == []
        hooked.fail(hooked.claim_one(), error="again")
        data = {"job_id": job_id, "queue_name": "mail", "status": "deadletter", "error": "again"}
        assert told(hooked, receiver) == [("job.deadlettered", data), ("job.failed", data)]

    def test_is_told_when_a_lost_lease_buries_a_job(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.failed")
        hooked.create(max_retries=0)
        hooked.claim_one(lease=5)
        hooked.server.advance(5)
        ((event, data),) = told(hooked, receiver)
        assert (event, data["error"]) == ("job.failed", "Max retries exceeded after lease expiration")

    def test_is_told_when_a_dead_letter_is_revived(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.retried")
        job_id = hooked.bury()
        data = {"job_id": job_id, "queue_name": "mail", "status": "pending", "old_status": "deadletter"}
        hooked.post(f"/jobs/{job_id}/retry")
        assert told(hooked, receiver) == [("job.retried", data)]
        hooked.fail(hooked.claim_one())
        hooked.post("/jobs/dlq/retry", {"job_ids": [job_id]})
        assert told(hooked, receiver) == [("job.retried", data)]

    def test_is_told_when_a_job_is_cancelled_and_why(self, hooked, receiver):
        hooked.hook(receiver.url(), "job.cancelled")
        parent = hooked.create(max_retries=0)
        child = hooked.create(parent_job_id=parent)
        other = hooked.create("other")
        hooked.post(f"/jobs/{other}/dependencies", {"depends_on": [parent]})
        hooked.fail(hooked.claim_one())
        hooked.server.advance(0)
        data = {"queue_name": "mail", "status": "cancelled", "old_status": "pending"}
        assert sorted(told(hooked, receiver), key=lambda event: event[1]["reason"]) == [
            (
                "job.cancelled",
                {**data, "job_id": other, "queue_name": "other", "reason": "dependency_failed"},
            ),
            ("job.cancelled", {**data, "job_id": child, "reason": "parent_failed"}),
        ]
        job_id = hooked.create()
        hooked.delete(f"/jobs/{job_id}")
        assert told(hooked, receiver) == [("job.cancelled", {**data, "job_id": job_id})]

    def test_is_told_of_pauses_with_their_length(self, hooked, receiver):
        hooked.hook(receiver.url(), "queue.paused", "queue.resumed")
        hooked.create()
        hooked.post("/queues/mail/pause", {"reason": "full"})
        hooked.server.clock.advance(90)
        hooked.post("/queues/mail/resume")
        assert told(hooked, receiver) == [
            ("queue.paused", {"queue_name": "mail", "reason": "full"}),
            ("queue.resumed", {"queue_name": "mail", "paused_duration_secs": 90}),
        ]

    def test_is_told_of_workers_that_come_and_go(self, hooked, receiver):
        hooked.hook(receiver.url(), "worker.registered", "worker.deregistered")
        hooked.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": "w1"})
        hooked.post("/workers/w1/deregister")
        hooked.post("/workers/w1/deregister")
        name = {"worker_id": "w1", "queue_name": "mail"}
        assert told(hooked, receiver) == [
            ("worker.deregistered", name),
            ("worker.registered", {**name, "hostname": "h"}),
        ]

    def test_is_told_nothing_about_others(self, hooked, receiver):
        from tests.server.conftest import new_organization

        hooked.hook(receiver.url(), *EVENTS)
        stranger = new_organization(hooked.server)
        stranger.create()
        stranger.close()
        assert told(hooked, receiver) == []


class TestAJobsOwnWebhook:
    def test_is_told_of_the_result(self, hooked, receiver):
        job_id = hooked.create(completion_webhook=receiver.url())
        hooked.complete(hooked.claim_one(), result=[1, 2])
        hooked.server.advance(0)
        request = receiver.only
        assert request.json["event"] == request.headers["x-spooled-event"] == "job.completed"
        assert request.json["data"] == {
            "job_id": job_id,
            "queue_name": "mail",
            "status": "completed",
            "result": [1, 2],
        }
        assert "x-spooled-timestamp" not in request.headers
        assert "x-spooled-signature" not in request.headers

    def test_is_signed_with_its_secret(self, hooked, receiver):
        hooked.create(completion_webhook=receiver.url(), completion_webhook_secret="own")
        hooked.complete(hooked.claim_one())
        hooked.server.advance(0)
        signed = receiver.only.headers["x-spooled-timestamp"].encode() + b"." + receiver.only.body
        wanted = hmac.new(b"own", signed, hashlib.sha256).hexdigest()
        assert receiver.only.headers["x-spooled-signature"] == f"sha256={wanted}"

    def test_is_told_of_the_failure_that_buries_the_job_and_of_no_other(self, hooked, receiver):
        job_id = hooked.create(completion_webhook=receiver.url(), max_retries=1)
        hooked.fail(hooked.claim_one())
        hooked.server.advance(2)
        assert receiver.requests == []
        hooked.fail(hooked.claim_one(), error="for good")
        data = {"job_id": job_id, "queue_name": "mail", "status": "deadletter", "error": "for good"}
        assert told(hooked, receiver) == [("job.failed", data)]

    def test_is_not_told_of_lost_leases_and_cancellations(self, hooked, receiver):
        hooked.create(completion_webhook=receiver.url(), max_retries=0)
        hooked.claim_one(lease=5)
        hooked.server.advance(5)
        hooked.delete(f"/jobs/{hooked.create(completion_webhook=receiver.url())}")
        assert told(hooked, receiver) == []

    def test_is_tried_once(self, hooked, receiver):
        receiver.status = 500
        hooked.create(completion_webhook=receiver.url())
        hooked.complete(hooked.claim_one())
        hooked.server.advance(0)
        hooked.server.advance(3600)
        assert len(receiver.requests) == 1

    def test_is_sent_though_the_job_was_deleted(self, hooked, receiver):
        hooked.create(completion_webhook=receiver.url())
        hooked.complete(hooked.claim_one())
        hooked.delete("/queues/mail", delete_jobs="true")
        hooked.server.advance(0)
        assert len(receiver.requests) == 1

    def test_may_not_be_a_private_address(self, api):
        body = {"queue_name": "mail", "payload": 1, "completion_webhook": "http://127.0.0.1:9/"}
        response = api.post("/jobs", body)
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
        assert response.json()["details"][0]["field"] == "completion_webhook"


def test_schedules_and_workflows_are_told(hooked, receiver):
    hooked.hook(receiver.url(), *EVENTS)
    body = {"name": "s", "cron_expression": "* * * * *", "queue_name": "mail", "payload_template": 1}
    schedule_id = hooked.post("/schedules", body).json()["id"]
    receiver.requests.clear()
    hooked.server.advance(60)
    (created, triggered) = told(hooked, receiver)
    job_id = created[1]["job_id"]
    assert created[1]["source"] == "cron"
    assert created[1]["schedule_id"] == schedule_id
    assert triggered == (
        "schedule.triggered",
        {"schedule_id": schedule_id, "job_id": job_id, "queue_name": "mail", "source": "cron"},
    )
    hooked.post(f"/schedules/{schedule_id}/pause")
    hooked.delete(f"/jobs/{job_id}")
    flow = {"name": "w", "jobs": [{"key": "a", "queue_name": "mail", "payload": 1}]}
    workflow_id = hooked.post("/workflows", flow).json()["workflow_id"]
    told(hooked, receiver)
    hooked.complete(hooked.claim_one())
    ended = [event for event in told(hooked, receiver) if event[0].startswith("workflow.")]
    assert ended == [("workflow.completed", {"workflow_id": workflow_id, "status": "completed"})]
    workflow_id = hooked.post("/workflows", flow).json()["workflow_id"]
    told(hooked, receiver)
    hooked.post(f"/workflows/{workflow_id}/cancel")
    (cancelled,) = told(hooked, receiver)
    assert (cancelled[0], cancelled[1]["old_status"]) == ("job.cancelled", "pending")
