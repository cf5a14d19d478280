"""Acks in batches: each item is settled as by the endpoint for one job, and answered so."""

from __future__ import annotations

import pytest

from spooled_contrib.server import Limits
from spooled_contrib.server._api.job_settling import MAX_ITEMS
from tests.server.conftest import Api


def settle(api, *, completes=(), fails=(), worker="w1", **fields):
    response = api.post(
        "/jobs/settle", {"worker_id": worker, "completes": list(completes), "fails": list(fails), **fields}
    )
    assert response.status_code == 200, response.text
    return response.json()


def of(job, **fields):
    return {"job_id": job["id"], "lease_id": job["lease_id"], **fields}


def claim_many(api, count, queue="mail"):
    api.post("/jobs/bulk", {"queue_name": queue, "jobs": [{"payload": n} for n in range(count)]})
    return api.claim(queue, limit=count)


def test_each_is_settled_under_its_own_lease_and_answered_in_order(timed):
    jobs = claim_many(timed, 5)
    answer = settle(
        timed,
        completes=[of(jobs[3], result={"n": 3}), of(jobs[1])],
        fails=[of(jobs[0], error="boom"), of(jobs[2], error="crash")],
    )
    assert answer == {
        "completes": [{"status": 200}, {"status": 200}],
        "fails": [{"status": 200}, {"status": 200}],
        "claim": None,
    }
    found = [timed.job(job["id"]) for job in jobs]
    assert [job["status"] for job in found] == ["pending", "completed", "pending", "completed", "processing"]
    assert [job["result"] for job in found] == [None, None, None, {"n": 3}, None]
    assert [job["last_error"] for job in found] == ["boom", None, "crash", None, None]
    history = timed.get(f"/jobs/{jobs[3]['id']}/history").json()
    assert [event["event_type"] for event in history] == ["created", "claimed", "completed"]


MISSES = {
    "done": lambda timed, job: timed.complete(job),
    "failed": lambda timed, job: timed.fail(job),
    "cancelled": lambda timed, job: timed.delete(f"/jobs/{job['id']}"),
    "expired": lambda timed, job: timed.server.advance(31),
    "claimed again": lambda timed, job: (timed.server.advance(31), timed.claim_one()),
    "deleted": lambda timed, job: timed.delete("/queues/mail", delete_jobs="true"),
    "nothing": lambda timed, job: None,
}


@pytest.mark.parametrize("verb", ["complete", "fail"])
@pytest.mark.parametrize("before", MISSES)
def test_the_answers_are_those_of_the_endpoint_for_one(timed, verb, before):
    fields = {"error": "boom"} if verb == "fail" else {"result": 1}
    answers = []
    for way in ("single", "batch"):
        timed.create()
        job = timed.claim_one()
        MISSES[before](timed, job)
        if way == "single":
            response = timed.ack(verb, job, **fields)
            answers.append(
                (response.status_code, response.json().get("code"), response.json().get("message"))
            )
        else:
            (item,) = settle(timed, **{f"{verb}s" if verb == "fail" else "completes": [of(job, **fields)]})[
                "fails" if verb == "fail" else "completes"
            ]
            answers.append((item["status"], item.get("code"), item.get("message")))
        timed.delete("/queues/mail", delete_jobs="true")
        timed.server.advance(100)
    assert answers[0] == answers[1]


POISON = [
    pytest.param({}, 422, id="nothing"),
    pytest.param({"job_id": 1, "lease_id": "l"}, 422, id="a number for an id"),
    pytest.param({"job_id": "", "lease_id": "l", "error": "e"}, 400, id="an empty id"),
    pytest.param({"job_id": "x", "lease_id": "l\0", "error": "e"}, 400, id="NUL"),
    pytest.param({"job_id": "no such job", "lease_id": "l", "error": "e"}, 404, id="unknown"),
    pytest.param({"job_id": "x\0", "lease_id": "l", "error": "e"}, 400, id="NUL in the id"),
    pytest.param([], 422, id="a list"),
    pytest.param(None, 422, id="null"),
]


@pytest.mark.parametrize(("item", "status"), POISON)
@pytest.mark.parametrize("kind", ["completes", "fails"])
def test_a_wrong_item_in_the_middle_harms_no_other(api, kind, item, status):
    jobs = claim_many(api, 2)
    good = [of(job, error="boom") for job in jobs]
    answer = settle(api, **{kind: [good[0], item, good[1]]})
    first, middle, last = answer[kind]
    assert (first["status"], last["status"]) == (200, 200)
    assert middle["status"] == status
    assert middle["code"]
    assert middle["message"]


@pytest.mark.parametrize("result", ["[1,]", "01", "nul", '"\\x"', '"\\uD800"', "[" * 100_000 + "]" * 100_000])
def test_a_body_that_is_no_json_settles_nothing(api, result):
    jobs = claim_many(api, 2)
    items = [f'{{"job_id":"{job["id"]}","lease_id":"{job["lease_id"]}","result":1}}' for job in jobs]
    items[0] = items[0].replace(":1}", f":{result}}}")
    body = f'{{"worker_id":"w1","completes":[{",".join(items)}]}}'
    response = api.http.post("/jobs/settle", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON")
    assert {api.status(job["id"]) for job in jobs} == {"processing"}


def test_an_error_that_is_too_long_is_refused_alone(api):
    jobs = claim_many(api, 2)
    answer = settle(api, fails=[of(jobs[0], error="x" * 2049), of(jobs[1], error="x" * 2048)])
    assert [item["status"] for item in answer["fails"]] == [400, 200]
    assert answer["fails"][0]["code"] == "VALIDATION_ERROR"


def test_a_hundred_and_not_one_more(api):
    jobs = claim_many(api, 100)
    answer = settle(
        api, completes=[of(job) for job in jobs[:60]], fails=[of(job, error="e") for job in jobs[60:]]
    )
    assert {item["status"] for kind in ("completes", "fails") for item in answer[kind]} == {200}
    for completes, fails in ((101, 0), (0, 101), (60, 41)):
        body = {"worker_id": "w1", "completes": [{}] * completes, "fails": [{}] * fails}
        refused = api.post("/jobs/settle", body)
        assert (refused.status_code, refused.json()["code"]) == (400, "VALIDATION_ERROR")


def test_the_same_job_twice_is_settled_once(api):
    (job,) = claim_many(api, 1)
    answer = settle(api, completes=[of(job, result=1), of(job, result=2)], fails=[of(job, error="e")])
    assert [item["status"] for item in answer["completes"]] == [200, 409]
    assert answer["completes"][1]["message"] == "Job is already completed"
    assert [item["status"] for item in answer["fails"]] == [409]
    assert api.job(job["id"])["result"] == 1


def test_other_workers_and_other_organizations_have_nothing_to_settle(api, stranger):
    jobs = claim_many(api, 2)
    for other, worker in ((api, "w2"), (stranger, "w1")):
        answer = settle(other, completes=[of(jobs[0])], fails=[of(jobs[1], error="e")], worker=worker)
        assert {item["status"] for kind in ("completes", "fails") for item in answer[kind]} == {404}
    assert {api.status(job["id"]) for job in jobs} == {"processing"}


def test_a_claim_rides_along(timed):
    (job,) = claim_many(timed, 1)
    timed.create(payload={"a": 1})
    claim = {"queue_name": "mail", "limit": 5, "lease_duration_secs": 60}
    answer = settle(timed, completes=[of(job)], claim=claim)
    assert answer["completes"] == [{"status": 200}]
    assert answer["claim"]["status"] == 200
    (claimed,) = answer["claim"]["jobs"]
    assert set(claimed) == {
        "id",
        "queue_name",
        "payload",
        "retry_count",
        "max_retries",
        "timeout_seconds",
        "lease_expires_at",
        "lease_id",
    }
    assert (claimed["payload"], claimed["lease_expires_at"]) == ({"a": 1}, "2026-01-01T00:01:00Z")
    assert timed.complete(claimed).status_code == 200
    assert settle(timed, claim={"queue_name": "mail"})["claim"] == {"status": 200, "jobs": []}


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        ({"queue_name": "other"}, 403),
        ({"queue_name": "a b"}, 400),
        ({}, 422),
        ({"queue_name": "mail", "limit": 101}, 400),
        ({"queue_name": "mail", "lease_duration_secs": 4}, 400),
        ([], 422),
    ],
)
def test_a_claim_that_is_refused_harms_no_ack(api, claim, status):
    (job,) = claim_many(api, 1)
    answer = settle(api.scoped("mail"), completes=[of(job)], claim=claim)
    assert answer["completes"] == [{"status": 200}]
    assert answer["claim"]["status"] == status
    assert answer["claim"]["code"]
    assert "jobs" not in answer["claim"]


def test_nothing_to_settle_is_fine_and_no_worker_is_not(api):
    assert settle(api) == {"completes": [], "fails": [], "claim": None}
    refused = api.post("/jobs/settle", {"completes": []})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "worker_id")


def test_a_batch_counts_as_one_request(start_server):
    server = start_server(limits=Limits(requests_per_second=0.001, burst=4))
    api = Api(server, server.api_key, "")
    jobs = claim_many(api, 3)
    settle(api, completes=[of(job) for job in jobs])
    assert api.get("/jobs").status_code == 200
    assert api.get("/jobs").status_code == 429
    api.close()


def test_workers_are_told_unless_the_server_is_not_to(api, start_server):
    body = {"queue_name": "mail", "hostname": "h"}
    assert api.post("/workers/register", body).json()["settle"] == {"max": MAX_ITEMS}
    server = start_server(ack_batches=False)
    other = Api(server, server.api_key, "")
    assert "settle" not in other.post("/workers/register", body).json()
    other.close()
