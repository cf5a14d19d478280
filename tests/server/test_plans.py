"""Contract section 1.3: Spooled's plans, and what strangers may ask for."""

from __future__ import annotations

import sqlite3

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits, ServerConfigurationError
from spooled_contrib.server._plans import PLANS, upgrade


@pytest.fixture
def on(start_server, connect):
    def start(plan, **options):
        return connect(start_server(clock=ManualClock(), plan=plan, **options))

    return start


def refused(response):
    return response.status_code, response.json()["code"]


class TestAPlan:
    def test_holds_everybody_to_its_numbers(self, on):
        api = on("free")
        batch = {"queue_name": "mail", "jobs": [{"payload": i} for i in range(11)]}
        response = api.post("/jobs/bulk", batch)
        assert refused(response) == (429, "QUOTA_EXCEEDED")
        body = response.json()
        assert (body["resource"], body["limit"], body["plan"]) == ("active_jobs", 10, "free")
        assert body["upgrade_to"] == "starter"

    def test_names_the_plan_that_takes_the_payload(self, on):
        response = on("free").post("/jobs", {"queue_name": "mail", "payload": "x" * 300_000})
        assert refused(response) == (413, "PAYLOAD_TOO_LARGE")
        assert (response.json()["limit"], response.json()["upgrade_to"]) == (65_536, "pro")

    def test_limits_webhooks_that_are_enabled(self, on):
        api = on("free")
        body = {"name": "x", "url": "https://93.184.215.14/", "events": ["job.created"]}
        first = api.hook(body["url"], "job.created")
        assert refused(api.post("/outgoing-webhooks", body)) == (429, "QUOTA_EXCEEDED")
        second = api.hook(body["url"], "job.created", enabled=False)
        assert api.put(f"/outgoing-webhooks/{second}", {"enabled": True}).status_code == 429
        api.put(f"/outgoing-webhooks/{first}", {"enabled": False})
        assert api.put(f"/outgoing-webhooks/{second}", {"enabled": True}).status_code == 200

    def test_without_a_feature_refuses_it_as_disabled(self, start_server, connect):
        api = connect(start_server(limits=Limits(webhooks=0)))
        body = {"name": "x", "url": "https://93.184.215.14/", "events": ["job.created"]}
        response = api.post("/outgoing-webhooks", body)
        assert refused(response) == (403, "FEATURE_DISABLED")
        answer = response.json()
        assert (answer["error"], answer["feature"]) == ("feature_disabled", "webhooks")
        assert (answer["plan"], answer["upgrade_to"]) == ("free", None)
        assert api.get("/organizations/usage").json()["usage"]["webhooks"]["is_disabled"] is True

    def test_can_be_changed_in_single_numbers(self, on):
        api = on("free", limits=Limits(active_jobs=2))
        report = api.get("/organizations/usage").json()
        assert (report["limits"]["max_active_jobs"], report["limits"]["max_queues"]) == (2, 2)

    def test_is_what_reports_say(self, on):
        api = on("starter")
        report = api.get("/organizations/usage").json()
        assert (report["plan"], report["plan_display_name"]) == ("starter", "Starter")
        assert report["limits"] == {
            "tier": "starter",
            "display_name": "Starter",
            "max_jobs_per_day": 10_000,
            "max_active_jobs": 500,
            "max_queues": 10,
            "max_workers": 5,
            "max_api_keys": 5,
            "max_schedules": 10,
            "max_workflows": 5,
            "max_webhooks": 5,
            "max_payload_size_bytes": 262_144,
            "rate_limit_requests_per_second": 25,
            "rate_limit_burst": 50,
            "job_retention_days": 14,
            "history_retention_days": 7,
        }
        assert api.get("/organizations").json()[0]["plan_tier"] == "starter"

    def test_warns_late_above_the_free_one(self, on):
        api = on("starter")
        for number in range(4):
            api.hook(f"https://93.184.215.14/{number}", "job.created")
        (warning,) = api.get("/organizations/usage").json()["warnings"]
        assert (warning["resource"], warning["severity"]) == ("webhooks", "warning")
        assert on("starter").get("/organizations/usage").json()["warnings"] == []

    def test_limits_the_rate_and_says_so_in_every_answer(self, on):
        api = on("free")
        answers = [api.get("/jobs") for _ in range(11)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        for answer in answers:
            assert answer.headers["x-ratelimit-limit"] == "10"
            assert answer.headers["x-ratelimit-scope"] == "organization"

    def test_must_be_one_that_there_is(self, start_server):
        with pytest.raises(ServerConfigurationError, match="there is no plan 'gold'"):
            start_server(plan="gold")

    @pytest.mark.parametrize(
        ("plan", "resource", "needed", "larger"),
        [
            ("free", "active_jobs", 11, "starter"),
            ("free", "active_jobs", 501, "pro"),
            ("pro", "active_jobs", 5001, "enterprise"),
            ("enterprise", "payload_bytes", 2_000_000, None),
            ("free", "workflows", 1, "starter"),
        ],
    )
    def test_names_the_smallest_that_would_do(self, plan, resource, needed, larger):
        assert upgrade(PLANS[plan], resource, needed) == larger


class TestRetention:
    def ended(self, api):
        job_id = api.create()
        api.complete(api.claim_one())
        return job_id

    def test_of_jobs_is_the_plans(self, on):
        api = on("free")
        job_id = self.ended(api)
        api.server.advance(3 * 86_400)
        assert api.job(job_id)["status"] == "completed"
        api.server.advance(300)
        assert refused(api.get(f"/jobs/{job_id}")) == (404, "NOT_FOUND")

    def test_of_history_is_shorter_and_takes_that_of_living_jobs_too(self, on):
        api = on("free")
        job_id = api.create()
        api.server.advance(86_400)
        api.claim_one()
        assert len(api.get(f"/jobs/{job_id}/history").json()) == 2
        api.server.advance(300)
        kept = [row["event_type"] for row in api.get(f"/jobs/{job_id}/history").json()]
        assert "created" not in kept
        assert "claimed" in kept

    def test_of_the_log_of_webhooks_is_that_of_history(self, start_server, connect, receiver):
        api = connect(start_server(clock=ManualClock(), plan="free", allow_private_webhooks=True))
        webhook_id = api.hook(receiver.url(), "job.created")
        api.create()
        api.server.advance(0)
        api.server.advance(86_400 + 300)
        assert api.deliveries(webhook_id) == []

    def test_can_be_set_by_hand(self, on):
        api = on("free", retention_days=10)
        job_id = self.ended(api)
        api.server.advance(9 * 86_400)
        assert len(api.get(f"/jobs/{job_id}/history").json()) == 3


class TestStrangers:
    """They are counted by address, where a plan is enforced or other machines can connect."""

    def test_may_log_in_five_times_a_minute_with_one_key(self, on):
        api = on("pro")
        body = {"api_key": api.key}
        answers = [api.bare("POST", "/api/v1/auth/login", json=body).status_code for _ in range(6)]
        assert answers == [200] * 5 + [429]
        other = api.bare("POST", "/api/v1/auth/login", json={"api_key": "sp_test_another"})
        assert other.status_code == 401
        api.server.clock.advance(60)
        assert api.bare("POST", "/api/v1/auth/login", json=body).status_code == 200

    def test_may_check_sixty_slugs_a_minute_and_three_hundred_an_hour(self, on):
        api = on("pro")

        def check():
            return api.bare("GET", "/api/v1/organizations/check-slug?slug=a").status_code

        for _ in range(5):
            assert [check() for _ in range(61)] == [200] * 60 + [429]
            api.server.clock.advance(60)
        assert check() == 429

    def test_have_a_bucket_for_all_public_calls(self, on):
        api = on("pro")
        path = "/api/v1/auth/check-email?email=a@example.com"
        answers = [api.bare("GET", path) for _ in range(201)]
        assert [answer.status_code for answer in answers] == [200] * 200 + [429]
        assert answers[0].headers["x-ratelimit-scope"] == "ip"
        assert answers[0].headers["x-ratelimit-limit"] == "200"
        assert api.bare("GET", "/health").status_code == 200
        assert api.get("/jobs").status_code == 200

    def test_are_not_counted_on_this_machine_without_a_plan(self, timed):
        body = {"api_key": timed.key}
        for _ in range(10):
            assert timed.bare("POST", "/api/v1/auth/login", json=body).status_code == 200


def test_a_database_of_the_first_release_is_brought_up_to_date(start_server, connect, tmp_path):
    from spooled_contrib.server._storage.schema import INITIAL

    path = tmp_path / "old.db"
    database = sqlite3.connect(path)
    statements = INITIAL.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT")
    database.executescript(f"BEGIN; {statements} PRAGMA user_version = 1; COMMIT;")
    database.close()
    api = connect(start_server(db=path))
    api.create()
    api.hook("https://93.184.215.14/", "job.created")
