"""What a session makes of answers: retries, refreshed tokens, landed acks, headers. Same suite for both clients."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from spooled import errors

from .conftest import IMPATIENT, KEY, Client, Kind, make_client, result
from .raw_server import Connection, RawServer

Mocked = Callable[..., Client]

JOB = {"id": "j", "queue_name": "q", "status": "pending", "created_at": "2026-01-01T00:00:00Z"}
ACK = {"worker_id": "w", "lease_id": "l"}


class Script:
    """Answers requests with one response after the other, the last one again and again."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self._responses = list(responses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        if isinstance(response, Exception):
            raise response
        # A response object can be read once.
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which then take no time."""
    waited: list[float] = []

    async def async_sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("spooled._async._session.async_sleep", async_sleep)
    monkeypatch.setattr("spooled._sync._session.sleep", waited.append)
    return waited


def refusal(status: int, code: str = "ERROR", message: str = "no", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": code, "message": message}, headers=named)


TRANSIENT = [
    httpx.ReadError("cut"),
    httpx.ReadTimeout("late"),
    refusal(500),
    refusal(503),
    refusal(408),
]

CALLS: dict[str, tuple[bool, Callable[[Client], Any]]] = {
    "get": (True, lambda c: c.jobs.get("j")),
    "cancel": (True, lambda c: c.jobs.cancel("j")),
    "boost": (True, lambda c: c.jobs.boost_priority("j", 1)),
    "create": (False, lambda c: c.jobs.create(queue_name="q", payload=1)),
    "create with a key": (True, lambda c: c.jobs.create(queue_name="q", payload=1, idempotency_key="k")),
    "bulk": (False, lambda c: c.jobs.bulk_enqueue(queue_name="q", jobs=[{"payload": 1}])),
    "bulk with a key missing": (
        False,
        lambda c: c.jobs.bulk_enqueue(
            queue_name="q", jobs=[{"payload": 1, "idempotency_key": "k"}, {"payload": 2}]
        ),
    ),
    "bulk with keys": (
        True,
        lambda c: c.jobs.bulk_enqueue(queue_name="q", jobs=[{"payload": 1, "idempotency_key": "k"}]),
    ),
    "retry": (False, lambda c: c.jobs.retry("j")),
    "claim": (False, lambda c: c.jobs.claim(queue_name="q", worker_id="w")),
    "complete": (True, lambda c: c.jobs.complete("j", **ACK)),
    "fail": (True, lambda c: c.jobs.fail("j", **ACK, error="e")),
    "heartbeat": (True, lambda c: c.jobs.heartbeat("j", **ACK)),
    "worker heartbeat": (True, lambda c: c.workers.heartbeat("w", current_jobs=0)),
    "register": (False, lambda c: c.workers.register(queue_name="q", hostname="h")),
    "dlq retry": (False, lambda c: c.jobs.dlq.retry()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "failure", TRANSIENT, ids=lambda f: getattr(f, "status_code", None) or type(f).__name__
)
async def test_only_what_does_no_harm_is_sent_again(
    mocked: Mocked, waits: list[float], call: str, failure: Any
) -> None:
    replayed, send = CALLS[call]
    script = Script(failure)
    with pytest.raises(errors.SpooledError) as caught:
        await result(send(mocked(script)))
    assert len(script.requests) == (4 if replayed else 1)
    assert len(waits) == len(script.requests) - 1
    assert caught.value.attempts == len(script.requests)
    assert not replayed or "after 4 attempts" in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
async def test_a_rate_limit_is_waited_out_whatever_the_call(
    mocked: Mocked, waits: list[float], call: str
) -> None:
    script = Script(refusal(429, "RATE_LIMIT_EXCEEDED", Retry_After="7"))
    with pytest.raises(errors.RateLimitError):
        await result(CALLS[call][1](mocked(script)))
    assert waits == [7, 7, 7]


@pytest.mark.parametrize("call", CALLS)
async def test_a_quota_is_reported_at_once(mocked: Mocked, waits: list[float], call: str) -> None:
    script = Script(refusal(429, "QUOTA_EXCEEDED"))
    with pytest.raises(errors.QuotaExceededError):
        await result(CALLS[call][1](mocked(script)))
    assert len(script.requests) == 1
    assert waits == []


async def test_a_retry_after_beyond_patience_is_raised_not_cut(mocked: Mocked, waits: list[float]) -> None:
    script = Script(refusal(429, "RATE_LIMIT_EXCEEDED", Retry_After="61"))
    with pytest.raises(errors.RateLimitError) as caught:
        await result(mocked(script).jobs.get("j"))
    assert caught.value.retry_after == 61
    assert waits == []
    with pytest.raises(errors.RateLimitError):
        await result(mocked(script, max_retry_after=61).jobs.get("j"))
    assert waits == [61, 61, 61]


async def test_success_after_failures(mocked: Mocked, waits: list[float]) -> None:
    script = Script(refusal(500), httpx.ConnectError("x"), httpx.Response(200, json=JOB))
    job = await result(mocked(script, retry={"base_delay": 1, "jitter": False}).jobs.get("j"))
    assert job.id == "j"
    assert waits == [1, 2]
    assert len({request.url for request in script.requests}) == 1


async def test_retries_can_be_switched_off(mocked: Mocked) -> None:
    script = Script(refusal(500))
    with pytest.raises(errors.ServerError):
        await result(mocked(script, retry={"max_retries": 0}).jobs.get("j"))
    assert len(script.requests) == 1


async def test_bugs_are_not_retried(mocked: Mocked) -> None:
    script = Script(TypeError("bug"))
    with pytest.raises(TypeError, match="bug"):
        await result(mocked(script).jobs.get("j"))
    assert len(script.requests) == 1


async def test_many_failures_never_stop_later_calls(mocked: Mocked) -> None:
    """There is no circuit breaker: failing claims must not keep an ack from being sent."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/claim"):
            return refusal(500)
        return httpx.Response(200, json={"success": True})

    client = mocked(handle, circuit_breaker={"failure_threshold": 1})
    for _ in range(20):
        with pytest.raises(errors.ServerError):
            await result(client.jobs.claim(queue_name="q", worker_id="w"))
    assert (await result(client.jobs.complete("j", **ACK))).success


# --- acks that may have landed ---


async def test_a_complete_that_landed_without_its_answer_is_a_success(mocked: Mocked) -> None:
    script = Script(httpx.ReadError("cut"), refusal(409, "CONFLICT", "Job is already completed"))
    assert (await result(mocked(script).jobs.complete("j", **ACK))).success


async def test_a_fail_that_landed_without_its_answer_is_a_success(mocked: Mocked) -> None:
    script = Script(httpx.ReadTimeout("late"), refusal(404, "NOT_FOUND"))
    assert (await result(mocked(script).jobs.fail("j", **ACK, error="e"))).success


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (refusal(409, "CONFLICT", "Job is already completed"), errors.ConflictError),
        (refusal(409, "LEASE_EXPIRED"), errors.LeaseExpiredError),
        (refusal(404, "NOT_FOUND"), errors.NotFoundError),
    ],
)
async def test_a_first_refusal_is_one(mocked: Mocked, first: httpx.Response, kind: Any) -> None:
    client = mocked(Script(first))
    with pytest.raises(kind):
        await result(client.jobs.complete("j", **ACK))
    with pytest.raises(kind):
        await result(client.jobs.fail("j", **ACK, error="e"))


async def test_other_refusals_of_a_second_attempt_are_refusals(mocked: Mocked) -> None:
    with pytest.raises(errors.ConflictError):
        await result(mocked(Script(refusal(500), refusal(409, "LEASE_EXPIRED"))).jobs.complete("j", **ACK))
    with pytest.raises(errors.NotFoundError):
        await result(mocked(Script(refusal(500), refusal(404))).jobs.complete("j", **ACK))
    with pytest.raises(errors.ConflictError):
        await result(mocked(Script(refusal(500), refusal(409))).jobs.fail("j", **ACK, error="e"))


# --- headers ---


async def test_what_every_request_carries(mocked: Mocked) -> None:
    script = Script(httpx.Response(200, json=JOB))
    client = mocked(script, headers={"X-Team": "a"}, admin_key="admin", user_agent="me/1")
    await result(client.jobs.get("a/../b?x"))
    await result(client.jobs.create(queue_name="q", payload={"a": None}))
    first, second = script.requests
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["x-admin-key"] == "admin"
    assert first.headers["x-team"] == "a"
    assert first.headers["user-agent"] == "me/1"
    assert "content-type" not in first.headers
    assert first.url.raw_path == b"/api/v1/jobs/a%2F..%2Fb%3Fx"
    assert second.headers["content-type"] == "application/json"
    assert json.loads(second.content) == {"queue_name": "q", "payload": {"a": None}}


async def test_the_access_token_goes_before_the_key(mocked: Mocked) -> None:
    script = Script(httpx.Response(200, json=JOB))
    await result(mocked(script, access_token="eyJ.a.b").jobs.get("j"))
    assert script.requests[0].headers["authorization"] == "Bearer eyJ.a.b"


async def test_the_rate_limit_of_the_latest_answer(mocked: Mocked) -> None:
    limits = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9", "X-RateLimit-Scope": "organization"}
    script = Script(
        httpx.Response(200, json=JOB),
        httpx.Response(200, json=JOB, headers=limits),
        refusal(404, X_RateLimit_Limit="10", X_RateLimit_Remaining="8"),
    )
    client = mocked(script)
    await result(client.jobs.get("j"))
    assert client.rate_limit is None
    await result(client.jobs.get("j"))
    assert (client.rate_limit.limit, client.rate_limit.remaining) == (10, 9)
    with pytest.raises(errors.NotFoundError):
        await result(client.jobs.get("j"))
    assert client.rate_limit.remaining == 8


async def test_pages_know_whether_there_is_more(mocked: Mocked) -> None:
    for header, more in [({"X-Has-More": "true"}, True), ({"X-Has-More": "false"}, False), ({}, None)]:
        page = await result(mocked(Script(httpx.Response(200, json=[JOB], headers=header))).jobs.list())
        assert page.has_more is more
        assert page[0].id == "j"


# --- tokens ---


class TokenServer:
    """Accepts one access token at a time, and renews it."""

    def __init__(self, *, refresh_works: bool = True) -> None:
        self.good = "eyJ.good.1"
        self.refreshes = 0
        self.calls = 0
        self._refresh_works = refresh_works
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            if request.url.path == "/api/v1/auth/refresh":
                self.refreshes += 1
                assert "authorization" not in request.headers
                assert json.loads(request.content) == {"refresh_token": "refresh-token"}
                if not self._refresh_works:
                    return refusal(401, "UNAUTHORIZED", "refresh token expired")
                return httpx.Response(
                    200, json={"access_token": self.good, "token_type": "Bearer", "expires_in": 1}
                )
            self.calls += 1
            if request.headers["authorization"] != f"Bearer {self.good}":
                return refusal(401, "UNAUTHORIZED", "token expired")
            return httpx.Response(200, json=JOB)


TOKENS = {"api_key": None, "access_token": "eyJ.stale.0", "refresh_token": "refresh-token"}


async def test_a_refused_token_is_renewed_and_the_call_repeated(mocked: Mocked) -> None:
    server = TokenServer()
    client = mocked(server, **TOKENS)
    assert (await result(client.jobs.create(queue_name="q", payload=1))).id == "j"
    assert (server.refreshes, server.calls) == (1, 2)
    await result(client.jobs.get("j"))
    assert (server.refreshes, server.calls) == (1, 3)


async def test_calls_refused_together_share_one_refresh(mocked: Mocked, kind: Kind) -> None:
    server = TokenServer()
    client = mocked(server, **TOKENS)
    if kind == "async":
        await asyncio.gather(*(client.jobs.get("j") for _ in range(10)))
    else:
        barrier = threading.Barrier(10)

        def call() -> None:
            barrier.wait()
            client.jobs.get("j")

        threads = [threading.Thread(target=call) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.refreshes == 1


async def test_a_refused_refresh_is_final(mocked: Mocked) -> None:
    server = TokenServer(refresh_works=False)
    client = mocked(server, **TOKENS)
    for _ in range(3):
        with pytest.raises(errors.AuthenticationError, match="token expired"):
            await result(client.jobs.get("j"))
    assert (server.refreshes, server.calls) == (1, 3)


async def test_a_new_token_that_is_refused_too_ends_it(mocked: Mocked) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/refresh"):
            return httpx.Response(200, json={"access_token": "eyJ.new"})
        return refusal(401)

    with pytest.raises(errors.AuthenticationError):
        await result(mocked(handle, **TOKENS).jobs.get("j"))


async def test_a_refresh_that_fails_for_a_moment_is_tried_again(mocked: Mocked) -> None:
    server = TokenServer()
    shaky = iter([refusal(503)])

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/refresh"):
            return next(shaky, None) or server(request)
        return server(request)

    assert (await result(mocked(handle, **TOKENS).jobs.get("j"))).id == "j"


@pytest.mark.parametrize("options", [{"refresh_token": None}, {"auto_refresh_token": False}])
async def test_without_a_refresh_a_401_is_raised(mocked: Mocked, options: dict[str, Any]) -> None:
    server = TokenServer()
    with pytest.raises(errors.AuthenticationError):
        await result(mocked(server, **(TOKENS | options)).jobs.get("j"))
    assert server.refreshes == 0


# --- secrets and logs ---


async def test_an_echo_of_the_credentials_is_hidden(mocked: Mocked) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text=f"proxy error, headers were {dict(request.headers)}")

    with pytest.raises(errors.ServerError) as caught:
        await result(mocked(echo, retry={"max_retries": 0}, admin_key="admin-secret").jobs.get("j"))
    assert KEY not in str(caught.value)
    assert "admin-secret" not in str(caught.value)
    assert "proxy error" in str(caught.value)


async def test_debug_logs_requests_without_secrets(
    mocked: Mocked, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    script = Script(refusal(500), httpx.Response(200, json=JOB))
    with caplog.at_level(logging.DEBUG, "spooled.http"):
        await result(mocked(script, debug=True).jobs.get("j"))
    assert "GET /api/v1/jobs/j: 200" in caplog.text
    assert "retry 1 in" in caplog.text
    assert KEY not in caplog.text
    assert capsys.readouterr().out == ""


async def test_without_debug_requests_are_not_logged(
    mocked: Mocked, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "spooled.http"):
        await result(mocked(Script(httpx.Response(200, json=JOB))).jobs.get("j"))
    assert caplog.text == ""


# --- health ---


async def test_health_asks_once(mocked: Mocked, kind: Kind) -> None:
    script = Script(refusal(503))
    client = mocked(script)
    assert await result(client.health.readiness()) is False
    assert await result(client.health.liveness()) is False
    with pytest.raises(errors.ServerError):
        await result(client.health.get())
    assert len(script.requests) == 3
    assert await result(mocked(Script(httpx.ConnectError("x"))).health.liveness()) is False
    assert await result(mocked(Script(httpx.Response(200))).health.readiness()) is True


# --- end to end over a bad line ---


async def test_a_keyed_create_survives_a_lost_answer(kind: Kind) -> None:
    answers = iter([b"", b'HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n{"id":"j","created":false}'])

    def handle(connection: Connection) -> None:
        while connection.read_request() is not None:
            answer = next(answers)
            if not answer:
                return  # closes the connection
            connection.send(answer)

    with RawServer(handle) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url, retry=IMPATIENT)
        made = await result(client.jobs.create(queue_name="q", payload=1, idempotency_key="k"))
        assert (made.id, made.created) == ("j", False)
        assert len(server.requests) == 2
        await result(client.close())
