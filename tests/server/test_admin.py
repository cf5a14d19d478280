"""Contract section 11: running the server with the admin key."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock

KEY = {"x-admin-key": "admin-secret"}
ROUTES = [
    ("GET", "/organizations"),
    ("POST", "/organizations"),
    ("GET", "/organizations/x"),
    ("PATCH", "/organizations/x"),
    ("DELETE", "/organizations/x"),
    ("POST", "/organizations/x/api-keys"),
    ("POST", "/organizations/x/reset-usage"),
    ("GET", "/stats"),
    ("GET", "/plans"),
]


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def run(start_server, connect):
    """A server with an admin key: its own organization, and a caller for `/admin`."""

    def start(**options):
        api = connect(start_server(clock=ManualClock(), admin_key="admin-secret", **options))

        def admin(method, path, headers=KEY, **more):
            return api.bare(method, f"/api/v1/admin{path}", headers=headers, **more)

        return api, admin

    return start


def organization(admin, name="Acme", slug="acme"):
    made = admin("POST", "/organizations", json={"name": name, "slug": slug})
    assert made.status_code == 201, made.text
    return made.json()["organization"]["id"], made.json()["api_key"]["key"]


class TestAccess:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_needs_the_admin_key(self, run, method, path):
        api, admin = run()
        body = None if method in ("GET", "DELETE") else {}
        assert refused(admin(method, path, headers={}, json=body)) == (401, "UNAUTHORIZED")
        wrong = admin(method, path, headers={"x-admin-key": "wrong"}, json=body)
        assert refused(wrong) == (403, "ACCESS_DENIED")
        with_key = api.http.request(method, f"/admin{path}", json=body)
        assert refused(with_key) == (401, "UNAUTHORIZED")

    def test_is_impossible_on_a_server_without_one(self, timed):
        response = timed.bare("GET", "/api/v1/admin/stats", headers={"x-admin-key": ""})
        assert refused(response) == (403, "ACCESS_DENIED")

    def test_is_limited_to_sixty_a_minute_under_a_plan(self, run):
        _, admin = run(plan="pro")
        answers = [admin("GET", "/plans", headers={"x-admin-key": "guess"}).status_code for _ in range(61)]
        assert answers == [403] * 60 + [429]


class TestOrganizations:
    def test_are_listed_with_their_number(self, run):
        _, admin = run()
        organization(admin, "B", "b")
        organization(admin, "A", "a")
        listed = admin("GET", "/organizations?sort_by=name&sort_order=asc&limit=2").json()
        assert (listed["total"], listed["limit"], listed["offset"]) == (3, 2, 0)
        assert [one["name"] for one in listed["organizations"]] == ["A", "B"]
        found = admin("GET", "/organizations?search=DEVEL").json()
        assert ([one["slug"] for one in found["organizations"]], found["total"]) == (["development"], 1)
        assert admin("GET", "/organizations?search=%25").json()["total"] == 0

    @pytest.mark.parametrize("query", ["sort_by=settings", "sort_order=up"])
    def test_are_not_sorted_by_just_anything(self, run, query):
        _, admin = run()
        assert refused(admin("GET", f"/organizations?{query}")) == (400, "BAD_REQUEST")

    def test_can_be_made_where_registration_is_closed(self, run):
        api, admin = run(open_registration=False)
        _, key = organization(admin)
        assert api.with_key(key).get("/jobs").status_code == 200

    def test_can_be_put_on_a_plan_of_their_own(self, run):
        api, admin = run()
        organization_id, key = organization(admin)
        other = api.with_key(key)
        changed = admin("PATCH", f"/organizations/{organization_id}", json={"plan_tier": "free"})
        assert changed.json()["plan_tier"] == "free"
        batch = {"queue_name": "mail", "jobs": [{"payload": i} for i in range(11)]}
        assert refused(other.post("/jobs/bulk", batch)) == (429, "QUOTA_EXCEEDED")
        assert api.post("/jobs/bulk", batch).status_code == 200
        admin("PATCH", f"/organizations/{organization_id}", json={"plan_tier": "pro"})
        assert other.post("/jobs/bulk", batch).status_code == 200
        assert other.get("/organizations/usage").json()["plan"] == "pro"
        admin("PATCH", f"/organizations/{organization_id}", json={"plan_tier": None})
        assert other.get("/organizations/usage").json()["limits"]["max_active_jobs"] is None

    def test_can_be_made_on_a_plan(self, run):
        api, admin = run()
        made = admin("POST", "/organizations", json={"name": "A", "slug": "a", "plan_tier": "pro"}).json()
        assert made["organization"]["plan_tier"] == "pro"
        assert api.with_key(made["api_key"]["key"]).get("/organizations/usage").json()["plan"] == "pro"
        bad = admin("POST", "/organizations", json={"name": "B", "slug": "b", "plan_tier": "gold"})
        assert refused(bad) == (400, "INVALID_JSON")

    def test_can_be_given_limits_of_their_own_that_survive_a_restart(self, run, tmp_path):
        api, admin = run(db=tmp_path / "jobs.db")
        organization_id, key = organization(admin)
        admin("PATCH", f"/organizations/{organization_id}", json={"custom_limits": {"max_active_jobs": 1}})
        api.server.stop()
        api.server.start()
        other = api.with_key(key)
        other.create()
        assert refused(other.post("/jobs", {"queue_name": "mail", "payload": 1})) == (429, "QUOTA_EXCEEDED")
        found = admin("GET", f"/organizations/{organization_id}").json()
        assert found["custom_limits"] == {"max_active_jobs": 1}
        assert other.get(f"/organizations/{organization_id}").json()["custom_limits"] == {
            "max_active_jobs": 1
        }

    def test_on_a_plan_of_their_own_have_its_retention(self, run):
        api, admin = run()
        organization_id, key = organization(admin)
        other = api.with_key(key)
        admin("PATCH", f"/organizations/{organization_id}", json={"plan_tier": "free"})
        for caller in (api, other):
            caller.create()
            caller.complete(caller.claim_one())
        living = other.create()
        api.server.advance(2 * 86_400)
        assert other.get(f"/jobs/{living}/history").json() == []
        assert other.get("/jobs/stats").json()["total"] == 2
        api.server.advance(2 * 86_400)
        assert other.get("/jobs/stats").json()["total"] == 1
        kept = api.get("/jobs").json()[0]["id"]
        assert len(api.get(f"/jobs/{kept}/history").json()) == 3

    @pytest.mark.parametrize(
        "limits", [{"max_cats": 1}, {"max_queues": -1}, {"max_queues": "9"}, {"rate_limit_burst": 0}]
    )
    def test_are_not_given_limits_that_make_no_sense(self, run, limits):
        api, admin = run()
        response = admin("PATCH", f"/organizations/{api.organization_id}", json={"custom_limits": limits})
        assert refused(response) == (400, "VALIDATION_ERROR")

    def test_can_keep_everything_for_longer_than_there_have_been_times(self, run):
        api, admin = run()
        limits = {"job_retention_days": 2**53 - 1, "history_retention_days": 2**53 - 1}
        response = admin("PATCH", f"/organizations/{api.organization_id}", json={"custom_limits": limits})
        assert response.status_code == 200
        job_id = api.create()
        api.complete(api.claim_one())
        api.server.advance(40 * 86_400)
        assert api.status(job_id) == "completed"

    def test_that_may_send_no_payload_at_all_are_told_so(self, run):
        api, admin = run()
        limits = {"max_payload_size_bytes": 0}
        admin("PATCH", f"/organizations/{api.organization_id}", json={"custom_limits": limits})
        assert refused(api.post("/jobs", {"queue_name": "mail", "payload": 1})) == (413, "PAYLOAD_TOO_LARGE")
        assert api.get("/organizations/usage").json()["limits"]["max_payload_size_bytes"] == 0

    def test_are_only_closed_when_the_flag_is_empty(self, run):
        _, admin = run()
        organization_id, _ = organization(admin)
        assert admin("DELETE", f"/organizations/{organization_id}?hard_delete=").status_code == 204
        assert admin("GET", f"/organizations/{organization_id}").json()["deleted_at"] is not None

    def test_can_be_closed_and_then_deleted_for_good(self, run):
        api, admin = run()
        organization_id, key = organization(admin)
        other = api.with_key(key)
        other.create()
        assert refused(admin("DELETE", f"/organizations/{organization_id}")) == (409, "CONFLICT")
        assert admin("DELETE", f"/organizations/{organization_id}?hard_delete=true").status_code == 204
        assert other.get("/jobs").status_code == 401
        assert refused(admin("GET", f"/organizations/{organization_id}")) == (404, "NOT_FOUND")
        own = admin("DELETE", f"/organizations/{api.organization_id}?hard_delete=true")
        assert refused(own) == (409, "CONFLICT")

    def test_that_are_deleted_for_good_leave_no_schedule_that_fires(self, run):
        api, admin = run()
        organization_id, key = organization(admin)
        other = api.with_key(key)
        schedule = {"name": "n", "cron_expression": "* * * * *", "queue_name": "q", "payload_template": 1}
        assert other.post("/schedules", schedule).status_code == 201
        assert admin("DELETE", f"/organizations/{organization_id}?hard_delete=true").status_code == 204
        api.server.advance(60)
        assert admin("GET", "/stats").json()["jobs"]["pending"] == 0

    def test_can_be_given_a_key(self, run):
        api, admin = run()
        organization_id, _ = organization(admin)
        made = admin("POST", f"/organizations/{organization_id}/api-keys", json={"name": "spare"})
        assert made.status_code == 201
        (listed,) = api.with_key(made.json()["key"]).get("/organizations").json()
        assert listed["id"] == organization_id
        assert refused(admin("POST", "/organizations/x/api-keys", json={"name": "a"})) == (404, "NOT_FOUND")

    def test_can_have_their_day_started_again(self, run):
        api, admin = run()
        api.create()
        assert admin("POST", f"/organizations/{api.organization_id}/reset-usage").json() == {"success": True}
        assert api.get("/organizations/usage").json()["usage"]["jobs_today"]["current"] == 0


def test_statistics_are_about_everybody(run):
    api, admin = run(plan="starter")
    api.create()
    api.server.advance(40)
    organization_id, _ = organization(admin)
    admin("PATCH", f"/organizations/{organization_id}", json={"plan_tier": "pro"})
    found = admin("GET", "/stats").json()
    assert found["organizations"] == {
        "total": 2,
        "by_plan": [{"plan": "pro", "count": 1}, {"plan": "starter", "count": 1}],
        "created_today": 2,
        "created_this_week": 2,
    }
    assert found["jobs"] == {
        "total_active": 1,
        "pending": 1,
        "processing": 0,
        "completed_24h": 0,
        "failed_24h": 0,
    }
    assert found["workers"] == {"total": 0, "healthy": 0, "degraded": 0}
    assert found["system"] == {"api_version": "1", "uptime_seconds": 40}


def test_the_plans_are_listed_from_the_smallest(run):
    _, admin = run()
    plans = admin("GET", "/plans").json()
    assert [plan["tier"] for plan in plans] == ["free", "starter", "pro", "enterprise"]
    assert (plans[0]["max_workflows"], plans[3]["max_queues"]) == (0, None)
