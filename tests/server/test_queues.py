"""Contract section 4 and lifecycle section 11: queues."""

from __future__ import annotations

import pytest


def refused(response):
    return response.status_code, response.json()["code"]


class TestAnImplicitQueue:
    def test_exists_through_its_jobs(self, timed):
        assert refused(timed.get("/queues/mail")) == (404, "NOT_FOUND")
        timed.create()
        assert timed.get("/queues/mail").json() == {
            "id": "implicit:mail",
            "organization_id": timed.organization_id,
            "queue_name": "mail",
            "max_retries": 3,
            "default_timeout": 300,
            "rate_limit": None,
            "enabled": True,
            "settings": {"implicit": True},
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }

    def test_is_listed_with_the_configured_ones_by_name(self, api):
        api.create("b")
        api.put("/queues/c/config", {"max_retries": 9, "enabled": False})
        api.create("a")
        api.create("c")
        assert api.get("/queues").json() == [
            {
                "queue_name": "a",
                "max_retries": 3,
                "default_timeout": 300,
                "rate_limit": None,
                "enabled": True,
            },
            {
                "queue_name": "b",
                "max_retries": 3,
                "default_timeout": 300,
                "rate_limit": None,
                "enabled": True,
            },
            {
                "queue_name": "c",
                "max_retries": 9,
                "default_timeout": 300,
                "rate_limit": None,
                "enabled": False,
            },
        ]


class TestConfiguring:
    def test_keeps_what_is_omitted_and_merges_settings(self, timed):
        first = timed.put(
            "/queues/mail/config", {"max_retries": 9, "settings": {"a": 1, "b": {"x": 1}}}
        ).json()
        timed.server.advance(5)
        second = timed.put("/queues/mail/config", {"rate_limit": 7, "settings": {"b": {"y": 2}}}).json()
        assert (second["max_retries"], second["default_timeout"], second["rate_limit"]) == (9, 300, 7)
        assert second["settings"] == {"a": 1, "b": {"y": 2}}
        assert second["id"] == first["id"]
        assert (second["created_at"], second["updated_at"]) == (
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:05Z",
        )
        assert timed.get("/queues/mail").json() == second

    def test_changes_nothing_about_jobs_that_exist(self, api):
        job_id = api.create()
        api.put("/queues/mail/config", {"max_retries": 0})
        assert api.job(job_id)["max_retries"] == 3

    def test_a_disabled_queue_gives_no_jobs(self, api):
        api.create()
        api.put("/queues/mail/config", {"enabled": False})
        assert api.claim() == []
        api.put("/queues/mail/config", {"enabled": True})
        assert len(api.claim()) == 1

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("max_retries", 101),
            ("default_timeout", 0),
            ("rate_limit", 0),
            ("rate_limit", 100_001),
            ("settings", {"x": "y" * 65_536}),
        ],
    )
    def test_checks_ranges(self, api, field, bad):
        assert refused(api.put("/queues/mail/config", {field: bad})) == (400, "VALIDATION_ERROR")

    def test_tells_a_wrong_content_type_and_a_huge_body_apart(self, api):
        assert refused(api.http.put("/queues/mail/config", content=b"{}")) == (415, "UNSUPPORTED_MEDIA_TYPE")
        huge = b'{"x":"' + b"y" * (2 * 1024 * 1024) + b'"}'
        response = api.http.put(
            "/queues/mail/config", content=huge, headers={"content-type": "application/json"}
        )
        assert refused(response) == (413, "PAYLOAD_TOO_LARGE")

    @pytest.mark.parametrize("settings", ["1e300", "[" * 400 + "]" * 400, '"x"', "9" * 4000])
    def test_settings_are_any_json(self, api, settings):
        body = f'{{"settings":{settings}}}'
        response = api.http.put(
            "/queues/mail/config", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 200
        assert api.put("/queues/mail/config", {"enabled": True}).status_code == 200


class TestPausing:
    def test_stops_claims_and_nothing_else(self, timed):
        held, waiting = timed.create(), timed.create()
        job = timed.claim_one(lease=60)
        response = timed.post("/queues/mail/pause", {"reason": "maintenance"})
        assert response.json() == {
            "queue_name": "mail",
            "paused": True,
            "paused_at": "2026-01-01T00:00:00Z",
            "reason": "maintenance",
        }
        assert timed.claim() == []
        timed.create()
        assert timed.ack("heartbeat", job).status_code == 200
        assert timed.complete(job).status_code == 200
        config = timed.get("/queues/mail").json()
        assert config["enabled"] is False
        assert config["settings"]["paused"] is True
        assert config["settings"]["paused_reason"] == "maintenance"
        timed.server.advance(75.9)
        assert timed.post("/queues/mail/resume").json() == {
            "queue_name": "mail",
            "resumed": True,
            "paused_duration_secs": 75,
        }
        assert timed.claim_one()["id"] == waiting
        assert timed.status(held) == "completed"

    def test_goes_on_recovering_leases(self, timed):
        job_id = timed.create()
        timed.claim_one(lease=30)
        timed.post("/queues/mail/pause")
        timed.server.advance(30)
        assert timed.status(job_id) == "pending"

    def test_needs_no_body_when_none_is_announced(self, api):
        api.create()
        assert api.http.post("/queues/mail/pause").json()["reason"] is None
        announced = {"content-type": "application/json"}
        assert refused(api.http.post("/queues/mail/pause", headers=announced)) == (400, "INVALID_JSON")
        assert refused(api.http.post("/queues/mail/pause", content=b"{}")) == (400, "INVALID_JSON")

    def test_a_queue_that_does_not_exist_is_not_found(self, api):
        assert refused(api.post("/queues/mail/pause")) == (404, "NOT_FOUND")

    def test_resuming_needs_a_configuration(self, api):
        api.create()
        assert refused(api.post("/queues/mail/resume")) == (404, "NOT_FOUND")

    def test_resuming_a_queue_that_was_only_disabled_took_no_time(self, api):
        api.put("/queues/mail/config", {"enabled": False, "settings": {"paused_at": "nonsense"}})
        assert api.post("/queues/mail/resume").json()["paused_duration_secs"] == 0

    def test_a_reason_has_at_most_500_characters(self, api):
        api.create()
        assert refused(api.post("/queues/mail/pause", {"reason": "x" * 501})) == (400, "VALIDATION_ERROR")


class TestStatistics:
    def test_are_zero_for_an_unknown_queue(self, api):
        assert api.get("/queues/unknown/stats").json() == {
            "queue_name": "unknown",
            "pending_jobs": 0,
            "processing_jobs": 0,
            "completed_jobs_24h": 0,
            "failed_jobs_24h": 0,
            "avg_processing_time_ms": None,
            "max_job_age_seconds": None,
            "active_workers": 0,
        }

    def test_count_what_the_contract_says(self, timed):
        timed.bury()
        timed.create(scheduled_at="2027-01-01T00:00:00Z")
        for seconds in (2, 4):
            timed.create(priority=1)
            job = timed.claim_one()
            timed.server.advance(seconds)
            timed.complete(job)
        timed.create()
        timed.create(priority=1)
        timed.claim_one()
        for worker in ("w1", "w2"):
            timed.post("/workers/register", {"queue_name": "mail", "hostname": "h", "worker_id": worker})
        timed.post("/workers/w2/heartbeat", {"current_jobs": 0, "status": "draining"})
        timed.server.advance(10)
        assert timed.get("/queues/mail/stats").json() == {
            "queue_name": "mail",
            "pending_jobs": 1,
            "processing_jobs": 1,
            "completed_jobs_24h": 2,
            "failed_jobs_24h": 0,
            "avg_processing_time_ms": 3000.0,
            "max_job_age_seconds": 10,
            "active_workers": 1,
        }
        timed.server.advance(86_400)
        assert timed.get("/queues/mail/stats").json()["completed_jobs_24h"] == 0


class TestDeleting:
    def test_without_the_flag_deletes_the_configuration_only(self, api):
        api.put("/queues/mail/config", {"max_retries": 9})
        assert api.delete("/queues/mail").status_code == 204
        assert refused(api.get("/queues/mail")) == (404, "NOT_FOUND")

    def test_is_a_conflict_while_jobs_wait_or_run(self, api):
        api.put("/queues/mail/config", {"max_retries": 9})
        api.create()
        assert refused(api.delete("/queues/mail")) == (409, "CONFLICT")
        api.claim_one()
        assert refused(api.delete("/queues/mail", delete_jobs="false")) == (409, "CONFLICT")

    def test_is_a_conflict_for_an_implicit_queue(self, api):
        api.create()
        api.complete(api.claim_one())
        assert refused(api.delete("/queues/mail")) == (409, "CONFLICT")

    def test_with_the_flag_deletes_jobs_in_any_state(self, api):
        api.bury()
        api.create()
        job = api.claim_one()
        api.create()
        kept = api.create("other")
        assert api.delete("/queues/mail", delete_jobs="true").status_code == 204
        assert [found["id"] for found in api.get("/jobs").json()] == [kept]
        assert api.complete(job).status_code == 404

    def test_an_unknown_queue_is_not_found(self, api):
        assert refused(api.delete("/queues/mail", delete_jobs="true")) == (404, "NOT_FOUND")

    def test_the_flag_is_true_or_false(self, api):
        assert refused(api.delete("/queues/mail", delete_jobs="yes")) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("name", ["a%20b", ".a", "-a", "x" * 101, "a%2Fb"])
@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("GET", "/stats"), ("POST", "/pause"), ("PUT", "/config")]
)
def test_a_name_that_no_queue_can_have_is_a_validation_error(api, name, method, tail):
    response = api.http.request(method, f"/queues/{name}{tail}", json={})
    assert refused(response) == (400, "VALIDATION_ERROR")
