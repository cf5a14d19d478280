"""Contract section 1.3: what is answered when a plan's limit is reached."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits


@pytest.fixture
def limited(start_server, connect):
    def start(**limits):
        return connect(start_server(clock=ManualClock(), limits=Limits(**limits)))

    return start


def quota(response):
    assert response.status_code == 429, response.text
    assert "retry-after" not in response.headers
    body = response.json()
    assert body["code"] == "QUOTA_EXCEEDED"
    assert body["error"] == "limit_exceeded"
    return body["resource"], body["current"], body["limit"]


def test_nothing_is_limited_by_default(api):
    response = api.get("/jobs")
    assert not any(name.startswith("x-ratelimit") for name in response.headers)


def test_a_burst_is_answered_and_then_the_rate_applies(limited):
    api = limited(requests_per_second=2, burst=3)
    left = [int(api.get("/jobs").headers["x-ratelimit-remaining"]) for _ in range(3)]
    assert left == [2, 1, 0]
    response = api.get("/jobs")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    body = response.json()
    assert body["code"] == "RATE_LIMIT_EXCEEDED"
    assert body["error"] == "Rate limit exceeded"
    assert (body["retry_after_secs"], body["limit"], body["remaining"]) == (1, 3, 0)
    assert body["reset_at"] == int(response.headers["x-ratelimit-reset"]) == 1_767_225_602
    api.server.clock.advance(0.5)
    assert api.get("/jobs").status_code == 200
    assert api.get("/jobs").status_code == 429


def test_every_answer_tells_the_rate_errors_included(limited):
    api = limited(requests_per_second=1, burst=5)
    response = api.get("/jobs/unknown")
    assert response.status_code == 404
    assert response.headers["x-ratelimit-limit"] == "5"
    assert response.headers["x-ratelimit-scope"] == "organization"


def test_a_bucket_never_holds_more_than_its_burst(limited):
    api = limited(requests_per_second=10, burst=2)
    api.get("/jobs")
    api.server.clock.advance(3600)
    assert [api.get("/jobs").status_code for _ in range(3)] == [200, 200, 429]


def test_a_key_can_have_a_limit_of_its_own_per_minute(timed):
    key = timed.post("/api-keys", {"name": "slow", "rate_limit": 2}).json()["key"]
    slow = timed.with_key(key)
    assert [slow.get("/jobs").status_code for _ in range(2)] == [200, 200]
    timed.server.clock.advance(20)
    response = slow.get("/jobs")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "40"
    assert response.json()["limit"] == 2
    timed.server.clock.advance(40)
    assert slow.get("/jobs").status_code == 200


def test_active_jobs_are_capped_and_finished_ones_do_not_count(limited):
    api = limited(active_jobs=2)
    api.create()
    api.create(scheduled_at="2030-01-01T00:00:00Z")
    assert quota(api.post("/jobs", {"queue_name": "mail", "payload": 1})) == ("active_jobs", 2, 2)
    assert api.complete(api.claim_one()).status_code == 200
    api.create()


def test_a_batch_is_counted_as_a_whole(limited):
    api = limited(active_jobs=2)
    batch = {"queue_name": "mail", "jobs": [{"payload": i} for i in range(3)]}
    assert quota(api.post("/jobs/bulk", batch)) == ("active_jobs", 0, 2)
    assert api.get("/jobs").json() == []


def test_jobs_per_day_start_again_with_the_utc_day_and_duplicates_are_free(limited):
    api = limited(jobs_per_day=3)
    api.create(idempotency_key="one")
    assert (
        api.post("/jobs", {"queue_name": "mail", "payload": 1, "idempotency_key": "one"}).status_code == 200
    )
    api.create()
    api.create()
    assert quota(api.post("/jobs", {"queue_name": "mail", "payload": 1})) == ("jobs_per_day", 3, 3)
    api.server.advance(86_400)
    api.create()


def test_deleting_jobs_gives_no_daily_quota_back(limited):
    api = limited(jobs_per_day=1)
    api.create()
    assert api.delete("/queues/mail", delete_jobs="true").status_code == 204
    assert quota(api.post("/jobs", {"queue_name": "mail", "payload": 1}))[0] == "jobs_per_day"


def test_an_existing_queue_is_never_refused(limited):
    api = limited(queues=1)
    api.create("first")
    assert quota(api.post("/jobs", {"queue_name": "second", "payload": 1})) == ("queues", 1, 1)
    assert quota(api.put("/queues/second/config", {"max_retries": 1})) == ("queues", 1, 1)
    api.create("first")


def test_workers_are_capped_and_a_live_one_may_register_again(limited):
    api = limited(workers=1)
    worker = {"queue_name": "mail", "hostname": "h", "worker_id": "w1"}
    assert api.post("/workers/register", worker).status_code == 201
    assert api.post("/workers/register", worker).status_code == 201
    assert quota(api.post("/workers/register", {**worker, "worker_id": "w2"})) == ("workers", 1, 1)
    assert api.post("/workers/w1/deregister").status_code == 204
    assert api.post("/workers/register", {**worker, "worker_id": "w2"}).status_code == 201


def test_active_api_keys_are_capped(limited):
    api = limited(api_keys=2)
    made = api.post("/api-keys", {"name": "second"}).json()
    assert quota(api.post("/api-keys", {"name": "third"})) == ("api_keys", 2, 2)
    api.delete(f"/api-keys/{made['id']}")
    assert api.post("/api-keys", {"name": "third"}).status_code == 201


def test_a_payload_above_the_plan_is_too_large(limited):
    api = limited(payload_bytes=10)
    api.create(payload="12345678")
    response = api.post("/jobs", {"queue_name": "mail", "payload": "ééééé"})
    assert response.status_code == 413
    body = response.json()
    assert body["code"] == "PAYLOAD_TOO_LARGE"
    assert body["error"] == "payload_too_large"
    assert (body["current"], body["limit"], body["upgrade_to"]) == (12, 10, None)


def test_reviving_dead_letters_is_counted(limited):
    api = limited(active_jobs=1)
    api.bury()
    api.create()
    assert quota(api.post("/jobs/dlq/retry")) == ("active_jobs", 1, 1)


def test_usage_tells_what_is_used_and_warns(limited):
    api = limited(active_jobs=4, workers=10)
    for _ in range(2):
        api.create()
    usage = api.get("/organizations/usage").json()
    assert usage["usage"]["active_jobs"] == {
        "current": 2,
        "limit": 4,
        "percentage": 50.0,
        "is_disabled": False,
    }
    assert usage["usage"]["jobs_today"] == {
        "current": 2,
        "limit": None,
        "percentage": None,
        "is_disabled": False,
    }
    assert usage["usage"]["queues"]["current"] == 1
    assert usage["limits"]["max_active_jobs"] == 4
    assert [(warning["resource"], warning["severity"]) for warning in usage["warnings"]] == [
        ("active_jobs", "warning")
    ]
    for _ in range(2):
        api.create()
    assert api.get("/organizations/usage").json()["warnings"][0]["severity"] == "critical"
