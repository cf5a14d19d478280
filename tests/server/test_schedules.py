"""Contract section 6: schedules as a client sees them."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import Limits

# The manual clock starts on Thursday 2026-01-01T00:00:00Z.
NIGHTLY = {
    "name": "nightly",
    "cron_expression": "0 3 * * *",
    "queue_name": "mail",
    "payload_template": {"a": 1},
}


def make(api, **fields):
    response = api.post("/schedules", {**NIGHTLY, **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


def show(api, schedule_id):
    response = api.get(f"/schedules/{schedule_id}")
    assert response.status_code == 200, response.text
    return response.json()


def refused(response):
    return response.status_code, response.json()["code"]


@pytest.fixture
def limited(start_server, connect):
    def start(**limits):
        return connect(start_server(clock=ManualClock(), limits=Limits(**limits)))

    return start


def test_creating_answers_with_the_next_run(timed):
    response = timed.post("/schedules", NIGHTLY)
    body = response.json()
    assert response.status_code == 201
    assert body == {
        "id": body["id"],
        "name": "nightly",
        "cron_expression": "0 3 * * *",
        "next_run_at": "2026-01-01T03:00:00Z",
    }


def test_every_field_is_shown(timed):
    schedule_id = make(
        timed,
        description="d",
        timezone="Europe/Berlin",
        priority=7,
        max_retries=2,
        timeout_seconds=9,
        tags=["t"],
        metadata={"m": 1},
    )
    assert show(timed, schedule_id) == {
        "id": schedule_id,
        "organization_id": timed.organization_id,
        "name": "nightly",
        "description": "d",
        "cron_expression": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "queue_name": "mail",
        "payload_template": {"a": 1},
        "priority": 7,
        "max_retries": 2,
        "timeout_seconds": 9,
        "is_active": True,
        "last_run_at": None,
        "next_run_at": "2026-01-01T02:00:00Z",
        "run_count": 0,
        "tags": ["t"],
        "metadata": {"m": 1},
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }


def test_defaults_are_the_queues_and_are_copied_at_creation(timed):
    plain = show(timed, make(timed))
    assert [plain[name] for name in ("timezone", "priority", "max_retries", "timeout_seconds")] == [
        *("UTC", 0, 3, 300)
    ]
    timed.put("/queues/mail/config", {"max_retries": 9, "default_timeout": 60})
    configured = show(timed, make(timed))
    assert (configured["max_retries"], configured["timeout_seconds"]) == (9, 60)
    assert show(timed, plain["id"])["max_retries"] == 3


def test_a_zone_may_be_an_offset(timed):
    assert show(timed, make(timed, timezone="-05:30"))["next_run_at"] == "2026-01-01T08:30:00Z"


def test_an_expression_that_never_comes_has_no_next_run(timed):
    assert show(timed, make(timed, cron_expression="0 0 30 2 *"))["next_run_at"] is None
    timed.server.advance(86_400 * 100)
    assert timed.get("/jobs").json() == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"cron_expression": "0 0 * * MON"}, 400, "BAD_REQUEST"),
        ({"cron_expression": "0 0 1 1 * * *"}, 400, "BAD_REQUEST"),
        ({"cron_expression": "* * * *"}, 400, "VALIDATION_ERROR"),
        ({"cron_expression": "* " * 50 + "*"}, 400, "VALIDATION_ERROR"),
        ({"timezone": "Mars/Olympus"}, 400, "BAD_REQUEST"),
        ({"timezone": ""}, 400, "BAD_REQUEST"),
        ({"timezone": "UTC\0"}, 400, "VALIDATION_ERROR"),
        ({"name": ""}, 400, "VALIDATION_ERROR"),
        ({"name": "x" * 256}, 400, "VALIDATION_ERROR"),
        ({"description": "x" * 1001}, 400, "VALIDATION_ERROR"),
        ({"queue_name": ".mail"}, 400, "VALIDATION_ERROR"),
        ({"queue_name": "q" * 101}, 400, "VALIDATION_ERROR"),
        ({"priority": 101}, 400, "VALIDATION_ERROR"),
        ({"max_retries": 101}, 400, "VALIDATION_ERROR"),
        ({"timeout_seconds": 0}, 400, "VALIDATION_ERROR"),
        ({"payload_template": "x" * 1024 * 1024}, 400, "VALIDATION_ERROR"),
        ({"tags": ["x" * 65_536]}, 400, "VALIDATION_ERROR"),
        ({"metadata": ["x" * 65_536]}, 400, "VALIDATION_ERROR"),
        ({"name": 1}, 422, "VALIDATION_ERROR"),
    ],
)
def test_what_breaks_a_rule_is_refused(api, fields, status, code):
    assert refused(api.post("/schedules", {**NIGHTLY, **fields})) == (status, code)
    assert api.get("/schedules").json() == []


@pytest.mark.parametrize("missing", ["name", "cron_expression", "queue_name", "payload_template"])
def test_four_fields_are_required(api, missing):
    body = {name: value for name, value in NIGHTLY.items() if name != missing}
    response = api.post("/schedules", body)
    assert refused(response) == (422, "VALIDATION_ERROR")
    assert response.json()["details"][0]["code"] == "missing_field"


class TestLists:
    def test_show_the_newest_first_in_pages(self, api):
        ids = [make(api, name=f"s{number}") for number in range(4)]
        assert [one["id"] for one in api.get("/schedules").json()] == ids[::-1]
        assert [one["id"] for one in api.get("/schedules", limit=2, offset=1).json()] == [ids[2], ids[1]]

    def test_can_be_restricted(self, api):
        first, second = make(api), make(api, queue_name="other")
        api.post(f"/schedules/{first}/pause")
        assert [one["id"] for one in api.get("/schedules", queue_name="other").json()] == [second]
        assert [one["id"] for one in api.get("/schedules", is_active="false").json()] == [first]
        assert [one["id"] for one in api.get("/schedules", is_active="true").json()] == [second]

    def test_refuse_a_flag_that_is_none(self, api):
        assert refused(api.get("/schedules", is_active="maybe")) == (400, "VALIDATION_ERROR")


class TestUpdates:
    def test_keep_what_is_absent_or_null(self, timed):
        schedule_id = make(timed, description="d", metadata={"m": 1})
        before = show(timed, schedule_id)
        timed.server.clock.advance(60)
        response = timed.put(
            f"/schedules/{schedule_id}", {"name": "new", "description": None, "payload_template": None}
        )
        assert response.status_code == 200
        assert response.json() == {**before, "name": "new", "updated_at": "2026-01-01T00:01:00Z"}

    def test_set_every_other_field(self, timed):
        schedule_id = make(timed)
        changes = {
            "description": "d",
            "payload_template": [1],
            "priority": 1,
            "max_retries": 0,
            "timeout_seconds": 5,
            "tags": ["t"],
            "metadata": {"m": 1},
        }
        changed = timed.put(f"/schedules/{schedule_id}", changes).json()
        assert {name: changed[name] for name in changes} == changes

    def test_ignore_the_queue(self, api):
        schedule_id = make(api)
        assert api.put(f"/schedules/{schedule_id}", {"queue_name": "other"}).json()["queue_name"] == "mail"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"cron_expression": "0 5 * * *"}, "2026-01-01T05:00:00Z"),
            ({"timezone": "+01:00"}, "2026-01-02T02:00:00Z"),
            ({"timezone": "UTC"}, "2026-01-02T03:00:00Z"),
            ({"name": "other"}, "2026-01-01T03:00:00Z"),
            ({"is_active": True}, "2026-01-01T03:00:00Z"),
        ],
    )
    def test_find_the_next_run_anew_only_for_a_new_time(self, timed, change, expected):
        schedule_id = make(timed)
        timed.server.clock.advance(4 * 3600)
        assert timed.put(f"/schedules/{schedule_id}", change).json()["next_run_at"] == expected

    @pytest.mark.parametrize("change", [{"cron_expression": "0 0 * * MON"}, {"timezone": "Mars/Olympus"}])
    def test_refuse_a_bad_time(self, timed, change):
        schedule_id = make(timed)
        before = show(timed, schedule_id)
        assert refused(timed.put(f"/schedules/{schedule_id}", change)) == (400, "BAD_REQUEST")
        assert show(timed, schedule_id) == before

    def test_can_pause_and_do_not_move_the_next_run(self, timed):
        schedule_id = make(timed)
        paused = timed.put(f"/schedules/{schedule_id}", {"is_active": False}).json()
        assert (paused["is_active"], paused["next_run_at"]) == (False, "2026-01-01T03:00:00Z")


def test_resuming_finds_the_next_run_from_now(timed):
    schedule_id = make(timed)
    assert timed.post(f"/schedules/{schedule_id}/pause").json()["is_active"] is False
    timed.server.advance(30 * 3600)
    resumed = timed.post(f"/schedules/{schedule_id}/resume").json()
    assert (resumed["is_active"], resumed["next_run_at"]) == (True, "2026-01-03T03:00:00Z")
    assert timed.get("/jobs").json() == []


def test_deleting_leaves_the_jobs(timed):
    schedule_id = make(timed)
    job_id = timed.post(f"/schedules/{schedule_id}/trigger").json()["job_id"]
    assert timed.delete(f"/schedules/{schedule_id}").status_code == 204
    assert refused(timed.get(f"/schedules/{schedule_id}")) == (404, "NOT_FOUND")
    timed.server.advance(86_400)
    assert [job["id"] for job in timed.get("/jobs").json()] == [job_id]


CALLS = [
    ("GET", ""),
    ("PUT", ""),
    ("DELETE", ""),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/trigger"),
    ("GET", "/history"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_unknown_foreign_and_out_of_scope_are_not_found(api, stranger, method, path):
    schedule_id = make(api)
    for who, wanted in [(api, "unknown"), (stranger, schedule_id), (api.scoped("other"), schedule_id)]:
        options = {"json": {}} if method == "PUT" else {}
        response = who.http.request(method, f"/schedules/{wanted}{path}", **options)
        assert refused(response) == (404, "NOT_FOUND")
    assert show(api, schedule_id)["run_count"] == 0


def test_a_scoped_key_makes_and_sees_schedules_of_its_queues(api):
    make(api, queue_name="other")
    scoped = api.scoped("mail")
    mine = make(scoped)
    assert [one["id"] for one in scoped.get("/schedules").json()] == [mine]
    assert refused(scoped.post("/schedules", {**NIGHTLY, "queue_name": "other"})) == (403, "ACCESS_DENIED")


class TestCaps:
    def test_count_active_schedules(self, limited):
        api = limited(schedules=1)
        first = make(api)
        response = api.post("/schedules", NIGHTLY)
        assert refused(response) == (429, "QUOTA_EXCEEDED")
        assert response.json()["resource"] == "schedules"
        api.post(f"/schedules/{first}/pause")
        make(api)
        assert refused(api.post(f"/schedules/{first}/resume")) == (429, "QUOTA_EXCEEDED")
        assert refused(api.put(f"/schedules/{first}", {"is_active": True})) == (429, "QUOTA_EXCEEDED")

    def test_let_an_active_schedule_be_resumed(self, limited):
        api = limited(schedules=1)
        assert api.post(f"/schedules/{make(api)}/resume").status_code == 200

    def test_count_the_target_of_an_active_schedule_as_a_queue(self, limited):
        api = limited(queues=1)
        schedule_id = make(api)
        assert api.post("/jobs", {"queue_name": "new", "payload": 1}).json()["resource"] == "queues"
        assert api.post("/schedules", {**NIGHTLY, "queue_name": "new"}).json()["resource"] == "queues"
        api.create("mail")
        assert api.post(f"/schedules/{schedule_id}/trigger").status_code == 200

    def test_show_in_the_usage_report(self, limited):
        api = limited(schedules=2)
        make(api)
        usage = api.get("/organizations/usage").json()
        assert usage["usage"]["schedules"] == {
            "current": 1,
            "limit": 2,
            "percentage": 50.0,
            "is_disabled": False,
        }
        assert usage["limits"]["max_schedules"] == 2
