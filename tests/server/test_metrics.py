"""Contract section 2: what Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spooled.clock import ManualClock

NAMES = {
    "spooled_jobs_enqueued",
    "spooled_jobs_completed",
    "spooled_jobs_failed",
    "spooled_jobs_retried",
    "spooled_jobs_deadlettered",
    "spooled_api_requests",
    "spooled_redis_operations",
    "spooled_jobs_pending",
    "spooled_jobs_processing",
    "spooled_job_max_age_seconds",
    "spooled_workers_active",
    "spooled_workers_healthy",
    "spooled_database_connections_active",
    "spooled_job_duration_seconds",
    "spooled_api_request_duration_seconds",
}


def scrape(api, **options):
    response = api.bare("GET", "/metrics", **options)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return list(text_string_to_metric_families(response.text))


@pytest.fixture
def value(timed):
    def read(name, **labels):
        (found,) = [
            sample.value
            for family in scrape(timed)
            for sample in family.samples
            if sample.name == f"spooled_{name}" and sample.labels == labels
        ]
        return found

    return read


def test_every_family_of_the_contract_is_there_and_can_be_parsed(timed):
    assert {family.name for family in scrape(timed)} == NAMES


def test_jobs_are_counted_by_what_happens_to_them(timed, value):
    timed.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}, {"payload": 2}]})
    timed.create("once", idempotency_key="one", max_retries=1)
    timed.post("/jobs", {"queue_name": "once", "payload": 1, "idempotency_key": "one"})
    assert value("jobs_enqueued_total") == 3
    timed.complete(timed.claim_one())
    assert value("jobs_completed_total") == 1
    timed.fail(timed.claim_one("once"))
    assert (value("jobs_failed_total"), value("jobs_retried_total")) == (1, 1)
    timed.server.advance(2)
    timed.claim_one("once", lease=5)
    timed.server.advance(5)
    assert (value("jobs_failed_total"), value("jobs_deadlettered_total")) == (1, 1)


def test_what_was_rolled_back_is_not_counted(timed, value):
    timed.post("/jobs", {"queue_name": "mail", "payload": 1, "parent_job_id": "x"})
    assert value("jobs_enqueued_total") == 0


def test_gauges_show_the_state(timed, value):
    parent = timed.create()
    timed.server.advance(60)
    timed.create(parent_job_id=parent)
    timed.create("later", scheduled_at="2027-01-01T00:00:00Z")
    timed.create("failed")
    timed.fail(timed.claim_one("failed"))
    timed.create("running")
    timed.claim_one("running")
    assert (value("jobs_pending"), value("jobs_processing")) == (3, 1)
    assert value("job_max_age_seconds") == 60
    for worker in ("w1", "w2", "w3"):
        timed.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": worker})
    timed.post("/workers/w1/heartbeat", {"current_jobs": 0, "status": "degraded"})
    timed.post("/workers/w2/deregister")
    assert (value("workers_active"), value("workers_healthy")) == (2, 1)


def test_durations_of_jobs_go_to_a_histogram(timed, value):
    timed.create()
    job = timed.claim_one()
    timed.server.clock.advance(7)
    timed.complete(job)
    assert value("job_duration_seconds_sum") == 7
    assert value("job_duration_seconds_bucket", le="5") == 0
    assert value("job_duration_seconds_bucket", le="10") == 1
    assert value("job_duration_seconds_count") == 1


def test_requests_are_counted_by_method_and_status(timed, value):
    timed.get("/jobs")
    timed.get("/jobs/unknown")
    timed.http.request("TRACE", "/jobs")
    assert value("api_requests_total", method="GET", status="200") == 1
    assert value("api_requests_total", method="GET", status="404") == 1
    assert value("api_requests_total", method="OTHER", status="405") == 1
    assert value("api_request_duration_seconds_count") >= 3


def test_a_token_closes_them(start_server, connect):
    api = connect(start_server(clock=ManualClock(), metrics_token="scrape-me"))
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {api.key}"}):
        response = api.bare("GET", "/metrics", headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "UNAUTHORIZED")
    scrape(api, headers={"authorization": "Bearer scrape-me"})


@pytest.mark.parametrize("part", range(3))
def test_counting_waiting_jobs_reads_no_finished_ones(start_server, tmp_path, part):
    import sqlite3

    from spooled_contrib.server._rules.gauges import _PARTS

    path = tmp_path / "jobs.db"
    start_server(db=path).stop()
    database = sqlite3.connect(path)
    plan = database.execute(
        f"EXPLAIN QUERY PLAN SELECT COUNT(*), MIN(created_at) FROM jobs WHERE {_PARTS[part]}"
    )
    steps = [row[3] for row in plan]
    database.close()
    assert any(name in steps[0] for name in ("jobs_ready", "jobs_asleep", "jobs_gated")), steps
