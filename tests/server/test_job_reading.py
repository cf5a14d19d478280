"""Contract sections 3.4, 3.5 and 1.4: lists, pages, statistics and history."""

from __future__ import annotations

import pytest


def ids(response):
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()]


def refused(response, field):
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == field


def test_a_summary_has_the_contracts_members(timed):
    job_id = timed.create(payload={"job_type": "email"}, priority=2)
    (summary,) = timed.get("/jobs").json()
    assert summary == {
        "id": job_id,
        "queue_name": "mail",
        "status": "pending",
        "priority": 2,
        "attempt": 0,
        "retry_count": 0,
        "max_retries": 3,
        "job_type": "email",
        "last_error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "scheduled_at": None,
        "started_at": None,
        "completed_at": None,
    }


def test_the_newest_job_comes_first(api):
    made = [api.create() for _ in range(3)]
    assert ids(api.get("/jobs")) == made[::-1]
    assert ids(api.get("/jobs", order_dir="asc")) == made


def test_pages_are_stable_and_say_whether_there_is_more(api):
    api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": i} for i in range(5)]})
    everything = ids(api.get("/jobs"))
    pages, offset = [], 0
    while True:
        page = api.get("/jobs", limit=2, offset=offset)
        pages += ids(page)
        if page.headers["x-has-more"] == "false":
            break
        offset += 2
    assert pages == everything
    assert offset == 4


@pytest.mark.parametrize(
    ("limit", "count"), [("", 50), ("1", 1), ("0", 1), ("-5", 1), ("100", 100), ("99999", 100)]
)
def test_the_limit_is_moved_into_its_range(api, limit, count):
    for _ in range(2):
        api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 60})
    assert len(ids(api.get("/jobs", limit=limit))) == count


def test_a_negative_offset_is_zero_and_a_huge_one_finds_nothing(api):
    job_id = api.create()
    assert ids(api.get("/jobs", offset=-1)) == [job_id]
    assert ids(api.get("/jobs", offset=10**17)) == []


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_a_limit_that_is_no_number_is_refused(api, name):
    refused(api.get("/jobs", **{name: "many"}), name)


@pytest.mark.parametrize("name", ["queue_name", "queue"])
def test_jobs_are_filtered_by_queue_under_both_names(api, name):
    api.create("a")
    wanted = api.create("b")
    assert ids(api.get("/jobs", **{name: "b"})) == [wanted]


def test_several_statuses_mean_any_of_them(api):
    done = api.create()
    api.complete(api.claim_one())
    waiting, later = api.create(), api.create(scheduled_at="2035-01-01T00:00:00Z")
    assert ids(api.get("/jobs", status="completed")) == [done]
    assert ids(api.get("/jobs", status="scheduled,pending")) == [later, waiting]
    refused(api.get("/jobs", status="pending,lost"), "status")


def test_a_search_finds_an_id_prefix_or_part_of_a_queue_or_job_type(api):
    first = api.create("Invoices", payload={"job_type": "render"})
    second = api.create("mail", payload={"job_type": "Send_100%"})
    assert ids(api.get("/jobs", q=first[:8].upper())) == [first]
    assert ids(api.get("/jobs", q="VOIC")) == [first]
    assert ids(api.get("/jobs", q="send")) == [second]
    assert ids(api.get("/jobs", q="d_1")) == [second]
    assert ids(api.get("/jobs", q="0%")) == [second]
    assert ids(api.get("/jobs", q="n_1")) == []
    assert ids(api.get("/jobs", q="d%1")) == []
    assert ids(api.get("/jobs", q="\\")) == []
    assert ids(api.get("/jobs", q=second[1:9])) == []


def test_a_job_type_is_matched_exactly(api):
    api.create(payload={"job_type": "emails"})
    wanted = api.create(payload={"job_type": "email"})
    assert ids(api.get("/jobs", job_type="email")) == [wanted]


def test_the_creation_window_includes_its_start_and_not_its_end(timed):
    made = []
    for _ in range(3):
        made.append(timed.create())
        timed.server.advance(10)
    window = {"created_after": "2026-01-01T00:00:10Z", "created_before": "2026-01-01T01:00:20+01:00"}
    assert ids(timed.get("/jobs", **window)) == [made[1]]
    refused(timed.get("/jobs", created_after="yesterday"), "created_after")
    refused(timed.get("/jobs", created_before="2026-01-01T00:00:00"), "created_before")


def test_a_tag_is_an_element_of_an_array_or_a_key_of_an_object(api):
    listed, keyed = api.create(tags=["red", "big"]), api.create(tags={"red": 1})
    api.create(tags=["redder"])
    api.create(tags="red")
    api.create()
    assert ids(api.get("/jobs", tag="red")) == [keyed, listed]
    assert ids(api.get("/jobs", tag="big")) == [listed]


@pytest.mark.parametrize("name", ["q", "tag", "job_type", "queue_name"])
def test_a_filter_has_at_most_1024_characters(api, name):
    assert ids(api.get("/jobs", **{name: "x" * 1024})) == []
    refused(api.get("/jobs", **{name: "x" * 1025}), name)


def test_jobs_are_ordered_by_what_is_asked(api):
    low, high = api.create(priority=-1), api.create(priority=7)
    middle = api.create("aaa", priority=3)
    assert ids(api.get("/jobs", order_by="priority")) == [high, middle, low]
    assert ids(api.get("/jobs", order_by="priority", order_dir="asc")) == [low, middle, high]
    assert ids(api.get("/jobs", order_by="queue_name", order_dir="asc"))[0] == middle
    api.complete(api.claim_one())
    assert ids(api.get("/jobs", order_by="completed_at"))[0] == high
    assert ids(api.get("/jobs", order_by="updated_at"))[0] == high


@pytest.mark.parametrize(
    ("name", "value"), [("order_by", "payload"), ("order_by", "1;--"), ("order_dir", "up")]
)
def test_an_order_that_does_not_exist_is_refused(api, name, value):
    refused(api.get("/jobs", **{name: value}), name)


def test_an_unknown_job_is_not_found(api):
    for path in ("/jobs/x", "/jobs/x/history", "/jobs/x/dependencies"):
        response = api.get(path)
        assert (response.status_code, response.json()["message"]) == (404, "Resource not found")


def test_statistics_count_every_state(api):
    api.bury()
    api.create()
    api.complete(api.claim_one())
    api.delete(f"/jobs/{api.create()}")
    api.create(priority=1)
    api.claim_one()
    api.create()
    api.create("other", scheduled_at="2035-01-01T00:00:00Z")
    assert api.get("/jobs/stats").json() == {
        "pending": 1,
        "scheduled": 1,
        "processing": 1,
        "completed": 1,
        "failed": 0,
        "deadletter": 1,
        "cancelled": 1,
        "total": 6,
    }
    assert api.get("/jobs/stats", queue="other").json()["total"] == 1
    # Of two names the first counts, and the other is not less wrong for that.
    assert api.get("/jobs/stats", queue_name="mail", queue="a\0").status_code == 400
    assert api.get("/jobs/stats", queue_name="unknown").json()["total"] == 0


def test_many_statuses_are_asked_at_once(api):
    done, waiting = api.create(), api.create()
    api.complete(api.claim_one())
    found = {job["id"]: job for job in api.get("/jobs/status", ids=f"{waiting}, {done},unknown,").json()}
    assert set(found) == {done, waiting}
    assert set(found[done]) == {"id", "status", "queue_name", "retry_count", "created_at", "completed_at"}
    assert found[done]["status"] == "completed"
    assert found[done]["completed_at"] is not None
    assert found[waiting]["completed_at"] is None


def test_at_most_a_hundred_statuses_are_asked_at_once(api):
    assert api.get("/jobs/status", ids=",".join(["x"] * 100)).json() == []
    response = api.get("/jobs/status", ids=",".join(["x"] * 101))
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")
    assert api.get("/jobs/status", ids="").json() == []
    assert api.get("/jobs/status").status_code == 400


class TestHistory:
    def events(self, api, job_id, **params):
        return [event["event_type"] for event in api.get(f"/jobs/{job_id}/history", **params).json()]

    def test_tells_what_happened_oldest_first(self, timed):
        job_id = timed.create(max_retries=1)
        timed.fail(timed.claim_one(), error="first")
        timed.server.advance(2)
        timed.fail(timed.claim_one(worker="w2"), worker="w2", error="second")
        timed.post(f"/jobs/{job_id}/retry")
        timed.complete(timed.claim_one())
        assert self.events(timed, job_id) == [
            "created",
            "claimed",
            "retry_scheduled",
            "claimed",
            "deadlettered",
            "retried",
            "claimed",
            "completed",
        ]
        assert self.events(timed, job_id, order_dir="desc")[0] == "completed"

    def test_an_event_names_its_worker_and_details(self, timed):
        job_id = timed.create()
        job = timed.claim_one(worker="w7")
        timed.fail(job, worker="w7", error="no route")
        created, claimed, failed = timed.get(f"/jobs/{job_id}/history").json()
        assert created["worker_id"] is None
        assert claimed["worker_id"] == "w7"
        assert claimed["details"]["lease_id"] == job["lease_id"]
        assert failed["details"]["error"] == "no route"
        assert failed["details"]["retry_count"] == 1
        assert failed["created_at"] == "2026-01-01T00:00:00Z"
        for event in (created, claimed, failed):
            assert isinstance(event["id"], str)
            assert event["job_id"] == job_id
            assert event["details"]["organization_id"] == timed.organization_id

    def test_is_paged(self, api):
        job_id = api.create()
        api.delete(f"/jobs/{job_id}")
        first = api.get(f"/jobs/{job_id}/history", limit=1)
        assert ([event["event_type"] for event in first.json()], first.headers["x-has-more"]) == (
            ["created"],
            "true",
        )
        second = api.get(f"/jobs/{job_id}/history", limit=1, offset=1)
        assert ([event["event_type"] for event in second.json()], second.headers["x-has-more"]) == (
            ["cancelled"],
            "false",
        )
