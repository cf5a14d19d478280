"""JSON that is hostile or means different things to different readers."""

from __future__ import annotations

import json

import pytest

JSON = {"content-type": "application/json"}


def send(api, body, path="/jobs"):
    return api.http.post(path, content=body, headers=JSON)


@pytest.mark.parametrize("depth", [600, 5_000, 100_000, 500_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(api, depth, opening, closing):
    nested = opening * depth + b"1" + closing * depth
    response = send(api, b'{"queue_name":"mail","payload":' + nested[: 2 * 1024 * 1024 - 100] + b"}")
    assert response.status_code in (201, 400)
    if response.status_code == 201:
        assert api.get(f"/jobs/{response.json()['id']}").status_code == 200
    else:
        assert response.json()["code"] in ("INVALID_JSON", "VALIDATION_ERROR")
    assert api.get("/jobs").status_code == 200


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1.", b".5", b"0x10", b"1e"]
)
def test_what_is_no_json_number_is_refused(api, number):
    for body in (
        b'{"queue_name":"mail","payload":' + number + b"}",
        b'{"queue_name":"mail","payload":{"a":[' + number + b"]}}",
        b'{"queue_name":"mail","payload":1,"priority":' + number + b"}",
        b'{"queue_name":"mail","payload":1,"unknown":' + number + b"}",
    ):
        response = send(api, body)
        assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON"), body


@pytest.mark.parametrize(
    "text", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"']
)
def test_text_that_is_no_unicode_is_refused_wherever_it_is(api, text):
    for body in (
        b'{"queue_name":' + text + b',"payload":1}',
        b'{"queue_name":"mail","payload":' + text + b"}",
        b'{"queue_name":"mail","payload":{' + text + b":1}}",
        b'{"queue_name":"mail","payload":1,"tags":[' + text + b"]}",
    ):
        response = send(api, body)
        assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON"), body


def test_of_a_repeated_member_the_last_counts_as_in_python(api):
    response = send(api, b'{"queue_name":"first","queue_name":"last","payload":1,"payload":{"a":1,"a":2}}')
    job = api.job(response.json()["id"])
    assert job["queue_name"] == "last"
    assert job["payload"] == {"a": 2}
    (claimed,) = api.claim("last")
    assert claimed["payload"] == {"a": 2}


def test_a_repeated_member_does_not_pass_a_scope(api):
    response = send(api.scoped("mine"), b'{"queue_name":"mine","queue_name":"other","payload":1}')
    assert response.status_code == 403


@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_endless_numbers_do_not_hold_the_server_up(api, digits):
    response = send(api, b'{"queue_name":"mail","payload":' + b"9" * digits + b"}")
    assert response.status_code in (201, 400)
    response = send(api, b'{"queue_name":"mail","payload":1,"priority":' + b"9" * digits + b"}")
    assert response.status_code in (400, 422)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_only_utf8_is_json(api, encoding):
    body = json.dumps({"queue_name": "mail", "payload": 1}).encode(encoding)
    response = send(api, body)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_JSON")


def test_many_members_cost_no_more_than_their_size(api):
    members = ",".join(f'"m{number}":0' for number in range(100_000))
    assert send(api, f'{{"queue_name":"mail","payload":1,{members}}}'.encode()).status_code == 201


def test_a_bulk_of_more_than_a_hundred_is_refused_whole(api):
    body = {"queue_name": "mail", "jobs": [{"payload": 1}] * 10_000}
    response = api.post("/jobs/bulk", body)
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")
    assert api.get("/jobs/stats").json()["total"] == 0
