"""Contract sections 3.2 and 3.3: making jobs, one and many; lifecycle section 6: idempotency keys."""

from __future__ import annotations

import json

import pytest

START = "2026-01-01T00:00:00Z"


def test_a_job_is_created_with_the_defaults(timed):
    response = timed.post("/jobs", {"queue_name": "mail", "payload": {"to": "a@example.com"}})
    assert response.status_code == 201
    assert response.json()["created"] is True
    job = timed.job(response.json()["id"])
    assert job == {
        "id": response.json()["id"],
        "organization_id": timed.organization_id,
        "queue_name": "mail",
        "status": "pending",
        "payload": {"to": "a@example.com"},
        "result": None,
        "retry_count": 0,
        "max_retries": 3,
        "last_error": None,
        "created_at": START,
        "updated_at": START,
        "scheduled_at": None,
        "started_at": None,
        "completed_at": None,
        "expires_at": None,
        "priority": 0,
        "tags": None,
        "timeout_seconds": 300,
        "parent_job_id": None,
        "completion_webhook": None,
        "assigned_worker_id": None,
        "lease_id": None,
        "lease_expires_at": None,
        "idempotency_key": None,
        "workflow_id": None,
        "dependency_mode": "all",
        "dependencies_met": True,
    }


def test_every_field_is_kept(api):
    job_id = api.create(
        priority=-100,
        max_retries=100,
        timeout_seconds=86_400,
        scheduled_at="2035-01-01T00:00:00Z",
        expires_at="2036-01-01T00:00:00Z",
        idempotency_key="k" * 255,
        tags=["red", "green"],
        completion_webhook="https://example.com/hook",
        completion_webhook_secret="s3cret",
    )
    response = api.get(f"/jobs/{job_id}")
    job = response.json()
    assert job["priority"] == -100
    assert job["max_retries"] == 100
    assert job["timeout_seconds"] == 86_400
    assert job["expires_at"] == "2036-01-01T00:00:00Z"
    assert job["idempotency_key"] == "k" * 255
    assert job["tags"] == ["red", "green"]
    assert job["completion_webhook"] == "https://example.com/hook"
    assert "s3cret" not in response.text


@pytest.mark.parametrize("payload", [None, 0, "", [], {}, [1, [2]], "text", 1.5, True])
def test_a_payload_is_any_json_value(api, payload):
    assert api.job(api.create(payload=payload))["payload"] == payload


@pytest.mark.parametrize(
    "text",
    [
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        '"\\u0000"',
        '"\\ud83d\\ude00"',
        '{"a":1,"a":2}',
        '{"b":1,"a":2}',
    ],
)
def test_a_payload_comes_back_exactly_as_it_was_sent(api, text):
    body = f'{{"queue_name":"mail","payload":{text}}}'
    response = api.http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 201
    assert f'"payload":{text}' in api.get(f"/jobs/{response.json()['id']}").text
    assert f'"payload":{text}' in api.post("/jobs/claim", {"queue_name": "mail", "worker_id": "w"}).text


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udc00"',
        "1e999",
        "9" * 5000,
        "[" * 100_000 + "]" * 100_000,
        "NaN",
        '{"\\ud800":1}',
        "01",
    ],
)
def test_a_payload_that_cannot_be_kept_is_refused(api, text):
    body = f'{{"queue_name":"mail","payload":{text}}}'
    response = api.http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON")


def test_a_payload_of_invalid_utf8_is_refused(api):
    body = b'{"queue_name":"mail","payload":"\xff\xfe"}'
    response = api.http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON")


def test_a_payload_is_at_most_one_mebibyte(api):
    api.create(payload="x" * (1024 * 1024 - 2))
    response = api.post("/jobs", {"queue_name": "mail", "payload": "x" * (1024 * 1024 - 1)})
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "_x", "0", "naïve", "队列", "x" * 100])
def test_queue_names_are_letters_digits_and_three_signs(api, name):
    assert api.job(api.create(name))["queue_name"] == name


@pytest.mark.parametrize(
    "name", ["", "x" * 101, ".a", "-a", "a b", "a/b", "a:b", "a\n", "a\u0000", "*", "😀"]
)
def test_other_queue_names_are_refused(api, name):
    for path, extra in (
        ("/jobs", {"payload": 1}),
        ("/jobs/bulk", {"jobs": [{"payload": 1}]}),
        ("/jobs/claim", {"worker_id": "w"}),
    ):
        response = api.post(path, {"queue_name": name, **extra})
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
        assert response.json()["details"][0]["field"] == "queue_name"


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("priority", -101),
        ("priority", 101),
        ("priority", 10**30),
        ("max_retries", -1),
        ("max_retries", 101),
        ("timeout_seconds", 0),
        ("timeout_seconds", 86_401),
        ("idempotency_key", "k" * 256),
        ("idempotency_key", "a\u0000b"),
        ("tags", ["x" * 65_536]),
        ("completion_webhook", "not a url"),
        ("completion_webhook", "ftp://example.com"),
        ("completion_webhook", "http://[::1"),
        ("completion_webhook_secret", "s" * 256),
    ],
)
def test_a_field_out_of_range_is_a_validation_error(api, field, bad):
    response = api.post("/jobs", {"queue_name": "mail", "payload": 1, field: bad})
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == field
    assert api.get("/jobs").json() == []


@pytest.mark.parametrize("field", ["priority", "max_retries", "timeout_seconds"])
@pytest.mark.parametrize("bad", ["1", 1.5, True, [1]])
def test_a_number_of_another_type_is_unprocessable(api, field, bad):
    response = api.post("/jobs", {"queue_name": "mail", "payload": 1, field: bad})
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_ERROR")


def test_null_means_the_default(api):
    optional = (
        "priority",
        "max_retries",
        "timeout_seconds",
        "scheduled_at",
        "expires_at",
        "idempotency_key",
        "tags",
        "parent_job_id",
        "completion_webhook",
        "completion_webhook_secret",
    )
    job = api.job(api.create(**dict.fromkeys(optional)))
    assert (job["priority"], job["max_retries"], job["timeout_seconds"], job["tags"]) == (0, 3, 300, None)


def test_a_missing_payload_is_unprocessable_and_a_null_one_is_not(api):
    assert api.post("/jobs", {"queue_name": "mail"}).status_code == 422
    assert api.post("/jobs", {"queue_name": "mail", "payload": None}).status_code == 201


@pytest.mark.parametrize(
    ("scheduled_at", "status"),
    [("2026-01-01T00:00:00.000001Z", "scheduled"), (START, "pending"), ("2025-01-01T00:00:00Z", "pending")],
)
def test_only_a_time_strictly_in_the_future_makes_a_job_scheduled(timed, scheduled_at, status):
    assert timed.status(timed.create(scheduled_at=scheduled_at)) == status


def test_the_queues_configuration_gives_the_defaults_of_new_jobs(api):
    before = api.create()
    api.put("/queues/mail/config", {"max_retries": 7, "default_timeout": 60})
    after, explicit = api.create(), api.create(max_retries=0, timeout_seconds=1)
    assert [
        (job["max_retries"], job["timeout_seconds"]) for job in map(api.job, (before, after, explicit))
    ] == [
        (3, 300),
        (7, 60),
        (0, 1),
    ]


class TestAnIdempotencyKey:
    def test_answers_with_the_existing_job_and_discards_the_request(self, timed):
        first = timed.create(payload={"n": 1}, idempotency_key="order-1")
        timed.server.advance(5)
        response = timed.post(
            "/jobs", {"queue_name": "other", "payload": {"n": 2}, "priority": 9, "idempotency_key": "order-1"}
        )
        assert (response.status_code, response.json()) == (200, {"id": first, "created": False})
        job = timed.job(first)
        assert (job["payload"], job["queue_name"], job["priority"]) == ({"n": 1}, "mail", 0)
        assert job["created_at"] == START
        assert job["updated_at"] == "2026-01-01T00:00:05Z"
        assert timed.get("/jobs/stats").json()["total"] == 1

    def test_matches_a_job_in_any_state(self, api):
        job_id = api.create(idempotency_key="k")
        assert api.complete(api.claim_one()).status_code == 200
        assert (
            api.post("/jobs", {"queue_name": "mail", "payload": 1, "idempotency_key": "k"}).json()["id"]
            == job_id
        )
        assert api.status(job_id) == "completed"

    def test_is_free_again_when_the_job_is_gone(self, api):
        first = api.create(idempotency_key="k")
        api.delete("/queues/mail", delete_jobs="true")
        assert api.create(idempotency_key="k") != first

    def test_belongs_to_the_organization(self, api, stranger):
        assert api.create(idempotency_key="k") != stranger.create(idempotency_key="k")

    def test_is_shared_with_bulk(self, api):
        first = api.create(idempotency_key="k")
        body = {"queue_name": "other", "jobs": [{"payload": 1, "idempotency_key": "k"}]}
        assert api.post("/jobs/bulk", body).json()["succeeded"] == [
            {"index": 0, "job_id": first, "created": False}
        ]

    def test_is_checked_against_the_requested_queue_only(self, api):
        job_id = api.create("theirs", idempotency_key="k")
        response = api.scoped("mine").post(
            "/jobs", {"queue_name": "mine", "payload": 1, "idempotency_key": "k"}
        )
        assert response.json() == {"id": job_id, "created": False}


class TestBulk:
    def test_answers_for_each_item_in_order(self, api):
        response = api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": i} for i in range(3)]})
        assert response.status_code == 200
        body = response.json()
        assert [item["index"] for item in body["succeeded"]] == [0, 1, 2]
        assert all(item["created"] for item in body["succeeded"])
        assert (body["failed"], body["total"], body["success_count"], body["failure_count"]) == ([], 3, 3, 0)
        assert [api.job(item["job_id"])["payload"] for item in body["succeeded"]] == [0, 1, 2]

    def test_equal_keys_in_one_batch_collapse_to_the_first(self, api):
        jobs = [{"payload": i, "idempotency_key": key} for i, key in enumerate(["a", "b", "a"])]
        succeeded = api.post("/jobs/bulk", {"queue_name": "mail", "jobs": jobs}).json()["succeeded"]
        assert [item["created"] for item in succeeded] == [True, True, False]
        assert succeeded[0]["job_id"] == succeeded[2]["job_id"]
        assert api.get("/jobs/stats").json()["total"] == 2

    def test_takes_defaults_for_the_batch_and_values_of_an_item(self, api):
        body = {
            "queue_name": "mail",
            "default_priority": 5,
            "default_max_retries": 9,
            "default_timeout_seconds": 11,
            "jobs": [{"payload": 1}, {"payload": 2, "priority": -5, "scheduled_at": "2035-01-01T00:00:00Z"}],
        }
        first, second = (api.job(item["job_id"]) for item in api.post("/jobs/bulk", body).json()["succeeded"])
        assert (first["priority"], first["max_retries"], first["timeout_seconds"]) == (5, 9, 11)
        assert (second["priority"], second["status"]) == (-5, "scheduled")

    def test_is_claimed_in_the_order_of_the_batch(self, api):
        api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": i} for i in range(20)]})
        assert [api.claim_one()["payload"] for _ in range(20)] == list(range(20))

    @pytest.mark.parametrize("count", [0, 101])
    def test_has_1_to_100_jobs(self, api, count):
        response = api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * count})
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
        assert response.json()["details"][0]["field"] == "jobs"

    def test_is_refused_as_a_whole_for_one_bad_item(self, api):
        response = api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}, {"priority": 1}]})
        assert response.status_code == 422
        assert response.json()["details"][0]["field"] == "jobs[1].payload"
        assert api.get("/jobs").json() == []

    def test_an_item_is_checked_like_a_single_job(self, api):
        response = api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1, "priority": 101}]})
        assert response.json()["details"][0]["field"] == "jobs[0].priority"


class TestAParent:
    def test_gates_the_child_until_it_is_completed(self, api):
        parent = api.create(priority=1)
        child = api.create(parent_job_id=parent)
        assert api.job(child)["dependencies_met"] is False
        held = api.claim_one()
        assert held["id"] == parent
        assert api.claim() == []
        assert api.complete(held).status_code == 200
        assert api.job(child)["dependencies_met"] is True
        assert api.claim_one()["id"] == child

    def test_that_is_completed_gates_nothing(self, api):
        parent = api.create()
        api.complete(api.claim_one())
        child = api.create(parent_job_id=parent)
        assert api.job(child)["dependencies_met"] is True
        assert api.claim_one()["id"] == child

    @pytest.mark.parametrize("kind", ["unknown", "another queue", "another organization"])
    def test_must_be_a_job_of_the_same_queue(self, api, stranger, kind):
        parent = {
            "unknown": lambda: "no-such-job",
            "another queue": lambda: api.create("other"),
            "another organization": stranger.create,
        }[kind]()
        response = api.post("/jobs", {"queue_name": "mail", "payload": 1, "parent_job_id": parent})
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
        assert response.json()["details"][0]["field"] == "parent_job_id"


def test_the_job_type_of_a_payload_shows_in_lists(api):
    payloads = [{"job_type": "email"}, {"job_type": ""}, {"job_type": 5}, {"x": 1}, ["job_type"], "job_type"]
    for payload in payloads:
        api.create(payload=payload)
    types = [job["job_type"] for job in api.get("/jobs", order_dir="asc").json()]
    assert types == ["email", "", "", "", "", ""]


def test_an_answered_job_is_valid_json_even_when_its_texts_are_odd(api):
    api.create(payload={"job_type": "a\u0000b\u2028"}, idempotency_key="\u2028\ue000")
    assert json.loads(api.get("/jobs").text)[0]["job_type"] == "a\ufffdb\u2028"
