"""Contract section 11: the dashboard, and what there is of billing."""

from __future__ import annotations


def refused(response):
    return response.status_code, response.json()["code"]


def test_the_dashboard_sums_up(timed):
    timed.server.clock.advance(10)
    timed.create()
    timed.server.clock.advance(2)
    job = timed.claim_one()
    timed.server.clock.advance(3)
    timed.complete(job)
    timed.bury("other")
    timed.create()
    timed.create("running")
    timed.claim_one("running")
    timed.post("/queues/mail/pause")
    for worker in ("w1", "w2"):
        timed.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": worker})
    timed.post("/workers/w2/deregister")
    found = timed.get("/dashboard").json()
    assert found["system"] == {
        "version": found["system"]["version"],
        "uptime_seconds": 15,
        "started_at": "2026-01-01T00:00:00Z",
        "database_status": "healthy",
        "cache_status": "healthy",
        "environment": "development",
    }
    assert found["jobs"] == {
        "total": 4,
        "pending": 1,
        "processing": 1,
        "completed_24h": 1,
        "failed_24h": 1,
        "deadletter": 1,
        "avg_wait_time_ms": 2000.0,
        "avg_processing_time_ms": 3000.0,
    }
    assert found["queues"] == [
        {"name": "mail", "pending": 1, "processing": 0, "paused": True},
        {"name": "other", "pending": 0, "processing": 0, "paused": False},
        {"name": "running", "pending": 0, "processing": 1, "paused": False},
    ]
    assert found["workers"] == {"total": 1, "healthy": 1, "unhealthy": 0}
    assert found["recent_activity"] == {"jobs_created_1h": 4, "jobs_completed_1h": 1, "jobs_failed_1h": 1}


def test_it_forgets_what_is_long_ago(timed):
    timed.create()
    timed.complete(timed.claim_one())
    timed.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": "w1"})
    timed.server.clock.advance(3601)
    found = timed.get("/dashboard").json()
    assert found["recent_activity"] == {"jobs_created_1h": 0, "jobs_completed_1h": 0, "jobs_failed_1h": 0}
    assert found["jobs"]["completed_24h"] == 1
    assert found["workers"] == {"total": 1, "healthy": 0, "unhealthy": 1}


def test_it_is_empty_for_a_new_organization(api):
    found = api.get("/dashboard").json()
    assert found["queues"] == []
    assert found["jobs"]["avg_wait_time_ms"] is None
    assert found["workers"] == {"total": 0, "healthy": 0, "unhealthy": 0}


def test_a_limited_key_sees_its_queues_only(api):
    api.create("mail")
    api.create("other")
    found = api.scoped("mail").get("/dashboard").json()
    assert [queue["name"] for queue in found["queues"]] == ["mail"]
    assert (found["jobs"]["total"], found["recent_activity"]["jobs_created_1h"]) == (1, 1)


def test_nobody_is_billed(api):
    assert api.get("/billing/status").json() == {
        "plan_tier": "free",
        "stripe_subscription_id": None,
        "stripe_subscription_status": None,
        "stripe_current_period_end": None,
        "stripe_cancel_at_period_end": None,
        "has_stripe_customer": False,
    }
    response = api.post("/billing/portal", {"return_url": "https://example.com"})
    assert refused(response) == (400, "BAD_REQUEST")
    assert refused(api.post("/billing/portal", {})) == (422, "VALIDATION_ERROR")
    limited = api.scoped("mail").post("/billing/portal", {"return_url": "https://example.com"})
    assert refused(limited) == (403, "ACCESS_DENIED")
