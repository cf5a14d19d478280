"""Contract section 1: what all calls have in common."""

from __future__ import annotations

import json
import socket
import uuid
from urllib.parse import urlsplit

import httpx
import pytest

from tests.waiting import HOPELESS


def error(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert isinstance(body["message"], str)
    assert body["message"]
    return response.status_code, body["code"]


def test_every_api_response_names_its_version_and_request(api):
    for response in (api.get("/jobs"), api.get("/jobs/unknown"), api.get("/nothing/here")):
        assert response.headers["x-api-version"] == "1"
        uuid.UUID(response.headers["x-request-id"])


def test_health_is_outside_the_versioned_api(api):
    response = api.bare("GET", "/health")
    assert "x-api-version" not in response.headers


def test_a_request_id_is_echoed(api):
    response = api.http.get("/jobs", headers={"x-request-id": "trace-42"})
    assert response.headers["x-request-id"] == "trace-42"


def test_a_request_id_that_cannot_be_one_is_replaced(api):
    response = api.http.get("/jobs", headers={"x-request-id": "x" * 500})
    uuid.UUID(response.headers["x-request-id"])


@pytest.mark.parametrize(("version", "status"), [("1", 200), ("2", 400), ("0", 400), ("one", 200), ("", 200)])
def test_only_api_version_1_is_valid_and_nonsense_is_ignored(api, version, status):
    response = api.http.get("/jobs", headers={"x-api-version": version})
    assert response.status_code == status
    if status == 400:
        assert error(response) == (400, "BAD_REQUEST")


def test_an_unknown_path_is_not_found(api):
    response = api.get("/nothing")
    assert error(response) == (404, "NOT_FOUND")
    assert response.json()["message"] == "No route matches this path"


@pytest.mark.parametrize("path", ["/jobs/", "//jobs", "/jobs//history", "/Jobs", "/jobs/a%2Fb/nothing"])
def test_a_path_is_taken_literally(api, path):
    response = api.bare("GET", "/api/v1" + path, headers={"authorization": f"Bearer {api.key}"})
    assert error(response) == (404, "NOT_FOUND")
    assert response.json()["message"] == "No route matches this path"


def test_an_encoded_slash_belongs_to_the_id(api):
    response = api.http.get("/jobs/a%2Fhistory")
    assert response.json()["message"] == "Resource not found"


def test_a_known_path_with_another_method_names_the_methods_it_answers(api):
    response = api.http.patch("/jobs")
    assert error(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD, POST"


def test_head_answers_like_get_without_a_body(api):
    response = api.http.head("/jobs/stats")
    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) > 0


def test_unknown_members_of_a_body_are_ignored(api):
    api.create(colour="blue")


def test_a_body_that_is_not_json_is_invalid_json(api):
    response = api.http.post("/jobs", content=b'{"queue_name":', headers={"content-type": "application/json"})
    assert error(response) == (400, "INVALID_JSON")
    assert response.json()["details"][0]["field"] == "body"
    assert response.json()["details"][0]["code"] == "invalid_json"
    assert response.json()["error"] == "Invalid JSON"


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_has_a_detail_code_of_its_own(api, body):
    response = api.http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert error(response) == (400, "INVALID_JSON")
    assert response.json()["details"][0]["code"] == "empty_body"


def test_a_missing_content_type_is_invalid_json(api):
    response = api.http.post("/jobs", content=b'{"queue_name":"q","payload":1}')
    assert error(response) == (400, "INVALID_JSON")
    assert "Content-Type" in response.json()["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"]
)
def test_every_spelling_of_a_json_content_type_is_taken(api, content_type):
    response = api.http.post(
        "/jobs", content=b'{"queue_name":"q","payload":1}', headers={"content-type": content_type}
    )
    assert response.status_code == 201


def test_a_body_above_two_mebibytes_is_invalid_json(api):
    body = json.dumps({"queue_name": "q", "payload": 1, "x": "y" * (2 * 1024 * 1024)}).encode()
    response = api.http.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert error(response) == (400, "INVALID_JSON")


def test_a_chunked_body_is_read_to_its_end(api):
    def chunks():
        yield b'{"queue_name":"q",'
        yield b'"payload":[1,2]}'

    response = api.http.post("/jobs", content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 201
    assert api.job(response.json()["id"])["payload"] == [1, 2]


def test_a_chunked_body_above_the_limit_is_refused(api):
    chunks = (b" " * 65536 for _ in range(40))
    response = api.http.post("/jobs", content=chunks, headers={"content-type": "application/json"})
    assert error(response) == (400, "INVALID_JSON")


def test_a_missing_member_is_unprocessable(api):
    response = api.post("/jobs", {"payload": 1})
    assert error(response) == (422, "VALIDATION_ERROR")
    assert response.json()["details"] == [
        {"field": "queue_name", "message": "is required", "code": "missing_field"}
    ]
    assert response.json()["error"] == "Validation failed"
    assert response.json()["message"].startswith("queue_name")


@pytest.mark.parametrize("body", [[], "text", None, 5])
def test_a_body_that_is_no_object_is_unprocessable(api, body):
    response = api.http.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"})
    assert error(response) == (422, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == "body"
    assert response.json()["details"][0]["code"] == "invalid_type"


def test_a_member_of_the_wrong_type_is_unprocessable(api):
    response = api.post("/jobs", {"queue_name": 7, "payload": 1})
    assert error(response) == (422, "VALIDATION_ERROR")
    assert response.json()["details"][0]["field"] == "queue_name"
    assert response.json()["details"][0]["code"] == "invalid_type"


@pytest.mark.parametrize(
    "time", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:00"]
)
def test_a_time_without_offset_or_meaning_is_invalid_json(api, time):
    response = api.post("/jobs", {"queue_name": "q", "payload": 1, "scheduled_at": time})
    assert error(response) == (400, "INVALID_JSON")
    assert response.json()["details"][0]["field"] == "scheduled_at"


def test_times_are_sent_in_utc_whatever_offset_came(api):
    job_id = api.create(scheduled_at="2030-01-01T02:00:00.250+02:00")
    assert api.job(job_id)["scheduled_at"] == "2030-01-01T00:00:00.250000Z"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_bytes_that_are_not_http_get_a_json_error(api, request_bytes):
    parts = urlsplit(api.server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
        raw.sendall(request_bytes)
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "BAD_REQUEST"


def test_an_upgrade_to_anything_else_is_answered_in_json_and_ends_the_connection(api):
    response = api.http.get("/jobs", headers={"connection": "Upgrade", "upgrade": "h2c"})
    assert response.status_code == 200
    assert response.json() == []
    assert response.headers["connection"] == "close"


def test_half_a_body_is_not_taken_for_a_whole_one(api, eventually):
    parts = urlsplit(api.server.url)
    api.create()
    with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
        head = f"POST /api/v1/queues/mail/pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {api.key}\r\n"
        raw.sendall(head.encode() + b"content-length: 5\r\n\r\n")
    with socket.create_connection((parts.hostname, parts.port), timeout=HOPELESS) as raw:
        body = json.dumps({"queue_name": "mail", "payload": "half"}).encode()
        head = f"POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {api.key}\r\n"
        raw.sendall(head.encode() + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        raw.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n")
    for _ in range(5):
        assert api.get("/queues/mail").json()["enabled"] is True
        assert api.get("/jobs/stats").json()["total"] == 1
