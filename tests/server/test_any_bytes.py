"""Contract section 1.2: whatever is sent, the answer is JSON with a code and a message, and never a 5xx."""

from __future__ import annotations

import http.client
import json
import string
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spooled_contrib.server import EmbeddedServer
from spooled_contrib.server._api.routes import ROUTES
from tests.waiting import HOPELESS

BOUNDED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
CALLS = sorted(
    {(route.method, route.path) for route in ROUTES if not route.path.startswith("/api/v1/events")}
)

# Text that has broken JSON, SQL, URLs and C strings before.
odd_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            "\0",
            "a\0b",
            "'",
            '"',
            "%",
            "%2f",
            "..",
            "*",
            "\ufffe",
            "\u2028",
            "😀",
            "NULL",
            "1;--",
            "-1",
            "x" * 300,
        ]
    ),
)
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, odd_text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(odd_text, inner, max_size=4)),
    max_leaves=8,
)
FIELDS = """
    queue_name payload priority max_retries timeout_seconds scheduled_at expires_at idempotency_key tags jobs
    parent_job_id completion_webhook worker_id lease_id limit lease_duration_secs result error depends_on
    dependency_mode job_ids confirm older_than hostname metadata current_jobs status name slug queues rate_limit
    is_active permissions api_key token refresh_token settings reason enabled billing_email default_priority
    url events format secret event_type email plan_tier custom_limits return_url
""".split()  # noqa: SIM905 - a list of words reads better than forty strings
good_values = st.sampled_from(
    ["mail", 1, 5, True, {}, [], [{"payload": 1}], ["mail"], "2030-01-01T00:00:00Z", "all", "healthy", "k"]
)
bodies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), st.one_of(good_values, json_values), max_size=12).map(
        lambda value: json.dumps(value).encode()
    ),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"[" * 100_000,
            b'{"payload":' * 2000,
            b'{"queue_name":"mail","payload":"\\ud800"}',
            b'{"queue_name":"\xff","payload":1}',
            b'{"queue_name":"mail","payload":1e999}',
            b'{"queue_name":"mail","payload":' + b"9" * 10_000 + b"}",
            b'{"queue_name":"mail","payload":' + b"[" * 995 + b"]" * 995 + b"}",
            b'{"queue_name":"mail","payload":1,"priority":' + b"9" * 400 + b"}",
            b"\x00" * 10,
            b"\xef\xbb\xbf{}",
            b"\x1f\x8b\x08\x00",
        ]
    ),
)
parameters = st.one_of(odd_text, st.sampled_from(["mail", "x", "dlq", "stats", "a/b", "a%00b", "."]))
QUERY_NAMES = """
    queue_name queue status q job_type created_after created_before tag limit offset order_by order_dir ids
    delete_jobs token api_key since slug email search sort_by sort_order hard_delete
""".split()  # noqa: SIM905
query_names = st.sampled_from(QUERY_NAMES)
queries = st.lists(st.tuples(query_names, st.one_of(odd_text, numbers.map(str))), max_size=4)
content_types = st.sampled_from(
    ["application/json", None, "text/plain", "application/json; charset=utf-16", "é"]
)


@pytest.fixture(scope="module")
def server(fresh_db):
    with EmbeddedServer(db=fresh_db(), admin_key="admin-secret") as running:
        yield running


@pytest.fixture(scope="module")
def send(server):
    """A raw request: http.client sends any path and any header, where httpx would tidy up."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=HOPELESS)

    def request(method, target, body=b"", headers=()):
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    yield request
    connection.close()


@pytest.fixture(scope="module")
def webhook_token(server, send):
    _, _, body = send("POST", "/api/v1/organizations/webhook-token/regenerate", b"", [bearer(server)])
    return json.loads(body)["webhook_token"].encode()


def check(method, status, headers, body):
    assert status < 500, body
    assert b"Traceback" not in body
    if method == "HEAD" or status == 204:
        assert body == b""
    elif status >= 400:
        assert headers["content-type"] == "application/json"
        error = json.loads(body)
        assert error["code"].isupper()
        assert error["message"]
    elif body and headers["content-type"] == "application/json":
        json.loads(body)


def bearer(server):
    return ("authorization", f"Bearer {server.api_key}")


@settings(BOUNDED, max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_call_survives_any_body_query_and_parameter(server, send, method, path, data):
    segments = [
        quote(data.draw(parameters), safe="") or "%20" if part.startswith("{") else part
        for part in path.split("/")
    ]
    target = "/".join(segments)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in data.draw(queries))
    content_type = data.draw(content_types)
    headers = [bearer(server), ("x-admin-key", b"admin-secret")]
    if content_type is not None:
        headers.append(("content-type", content_type.encode()))
    check(method, *send(method, f"{target}?{query}", data.draw(bodies), headers))


OWN = "00000000-0000-4000-8000-000000000001"
VALID = {
    ("POST", "/api/v1/jobs"): {
        "queue_name": "mail",
        "payload": {"job_type": "x"},
        "priority": 1,
        "max_retries": 1,
        "timeout_seconds": 1,
        "scheduled_at": "2030-01-01T00:00:00Z",
        "expires_at": "2030-01-01T00:00:00Z",
        "idempotency_key": "k",
        "tags": ["t"],
        "completion_webhook": "https://example.com",
        "completion_webhook_secret": "s",
    },
    ("POST", "/api/v1/jobs/bulk"): {
        "queue_name": "mail",
        "jobs": [{"payload": 1, "priority": 1, "idempotency_key": "k"}],
        "default_priority": 1,
        "default_max_retries": 1,
        "default_timeout_seconds": 1,
    },
    ("POST", "/api/v1/jobs/claim"): {
        "queue_name": "mail",
        "worker_id": "w",
        "limit": 5,
        "lease_duration_secs": 5,
    },
    ("POST", "/api/v1/jobs/{job}/complete"): {"worker_id": "w", "lease_id": "l", "result": {}},
    ("POST", "/api/v1/jobs/{job}/fail"): {"worker_id": "w", "lease_id": "l", "error": "e"},
    ("POST", "/api/v1/jobs/{job}/heartbeat"): {"worker_id": "w", "lease_id": "l", "lease_duration_secs": 5},
    ("PUT", "/api/v1/jobs/{job}/priority"): {"priority": 5},
    ("POST", "/api/v1/jobs/{job}/dependencies"): {"depends_on": ["{job}"], "dependency_mode": "any"},
    ("POST", "/api/v1/jobs/dlq/retry"): {"queue_name": "mail", "job_ids": ["x"], "limit": 5},
    ("POST", "/api/v1/jobs/dlq/purge"): {
        "confirm": True,
        "queue_name": "mail",
        "older_than": "2030-01-01T00:00:00Z",
        "limit": 5,
    },
    ("PUT", "/api/v1/queues/mail/config"): {
        "max_retries": 1,
        "default_timeout": 1,
        "rate_limit": 1,
        "enabled": True,
        "settings": {},
    },
    ("POST", "/api/v1/queues/mail/pause"): {"reason": "r"},
    ("POST", "/api/v1/workers/register"): {
        "queue_name": "mail",
        "hostname": "h",
        "worker_id": "w",
        "worker_type": "t",
        "max_concurrency": 1,
        "metadata": {},
        "version": "v",
    },
    ("POST", "/api/v1/workers/w/heartbeat"): {"current_jobs": 0, "status": "healthy", "metadata": {}},
    ("POST", "/api/v1/organizations"): {"name": "n", "slug": "s", "billing_email": "a@b"},
    ("POST", "/api/v1/api-keys"): {
        "name": "n",
        "queues": ["mail"],
        "rate_limit": 1,
        "expires_at": "2030-01-01T00:00:00Z",
    },
    ("POST", "/api/v1/auth/validate"): {"token": "t"},
    ("POST", "/api/v1/schedules"): {
        "name": "n",
        "description": "d",
        "cron_expression": "* * * * *",
        "timezone": "UTC",
        "queue_name": "mail",
        "payload_template": 1,
        "priority": 1,
        "max_retries": 1,
        "timeout_seconds": 1,
        "tags": ["t"],
        "metadata": {},
    },
    ("PUT", "/api/v1/schedules/s"): {
        "name": "n",
        "description": "d",
        "cron_expression": "* * * * *",
        "timezone": "UTC",
        "payload_template": 1,
        "is_active": True,
        "tags": ["t"],
        "metadata": {},
    },
    ("POST", "/api/v1/workflows"): {
        "name": "n",
        "description": "d",
        "metadata": {},
        "jobs": [{"key": "a", "queue_name": "mail", "payload": 1}],
    },
    ("POST", "/api/v1/outgoing-webhooks"): {
        "name": "n",
        "url": "https://hooks.invalid/x",
        "events": ["job.created"],
        "secret": "s",
        "enabled": False,
        "format": "slack",
    },
    ("PUT", f"/api/v1/organizations/{OWN}"): {"name": "n", "billing_email": "a@b", "settings": {"a": 1}},
    ("POST", f"/api/v1/webhooks/{OWN}/custom"): {
        "queue_name": "mail",
        "event_type": "push",
        "payload": {"job_type": "x"},
        "idempotency_key": "k",
        "priority": 1,
    },
    ("PATCH", f"/api/v1/admin/organizations/{OWN}"): {
        "name": "n",
        "billing_email": "a@b",
        "plan_tier": None,
        "custom_limits": {"max_queues": None},
    },
}


@settings(BOUNDED, max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("call", VALID, ids=" ".join)
def test_a_valid_body_survives_any_odd_value_in_it(server, send, webhook_token, call, data):
    method, path = call
    headers = [
        bearer(server),
        ("content-type", "application/json"),
        ("x-admin-key", b"admin-secret"),
        ("x-webhook-token", webhook_token),
    ]
    _, _, made = send("POST", "/api/v1/jobs", b'{"queue_name":"mail","payload":1}', headers)
    job_id = json.loads(made)["id"]
    body = dict(VALID[call])
    for field in data.draw(st.lists(st.sampled_from(sorted(body)), max_size=2)):
        body[field] = data.draw(json_values)
    encoded = json.dumps(body).replace("{job}", job_id).encode()
    check(method, *send(method, path.replace("{job}", job_id), encoded, headers))


@BOUNDED
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"]),
    tail=st.text(alphabet=string.printable.strip() + "é\x7f", max_size=40).map(
        lambda text: text.replace("#", "%")
    ),
    prefix=st.sampled_from(
        ["/", "/api/v1/", "/api/v1/jobs/", "/api/v1/queues/", "/health/", "/api/v1/workers/x/"]
    ),
    body=st.binary(max_size=50),
)
def test_any_path_and_method_is_answered_in_json(server, send, method, tail, prefix, body):
    target = quote(prefix + tail, safe="/%?&=+;:@!$'()*,[]~^|\\{}`\"<>")
    if target.startswith("/api/v1/events"):
        return
    check(method, *send(method, target, body, [bearer(server), ("content-type", "application/json")]))


@BOUNDED
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                ["authorization", "x-request-id", "x-api-version", "content-type", "x-admin-key", "cookie"]
            ),
            st.binary(max_size=60).map(
                lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F)
            ),
        ),
        max_size=6,
    ),
    call=st.sampled_from(CALLS),
)
def test_any_header_is_answered_in_json(send, headers, call):
    method, path = call
    check(method, *send(method, path.replace("{", "").replace("}", ""), b"{}", headers))


@BOUNDED
@given(
    bearer=st.binary(max_size=100).map(
        lambda raw: b"Bearer eyJ" + raw.replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    )
)
def test_nothing_that_looks_like_a_token_lets_anybody_in(send, bearer):
    cleaned = bytes(byte for byte in bearer if byte >= 0x20 and byte != 0x7F)
    status, headers, body = send("GET", "/api/v1/jobs", b"", [("authorization", cleaned)])
    assert status == 401
    check("GET", status, headers, body)


def test_the_server_still_works_after_all_this(server, send):
    status, _, _ = send("GET", "/health/ready")
    assert status == 200
