"""Answers that are not the server's own decide nothing, and no answer silences a worker for long."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from spooled import ConfigurationError, SpooledClient, errors
from spooled.config import ClientConfig
from spooled.errors import SpooledError, create_error_from_response
from spooled.testing import drain
from spooled.worker import SpooledWorker
from spooled.worker._ack_policy import Decision, Operation, classify, may_have_arrived
from spooled.worker._wakeups import Wakeups
from tests.faults.conftest import Connect
from tests.faults.proxy import Answer, FaultProxy, Rule
from tests.faults.test_network import QUICK_BEATS, Counting, told
from tests.waiting import wait_until
from tests.worker.conftest import Outside
from tests.worker.harness import KINDS, Running

both = pytest.mark.parametrize("kind", KINDS)

HTML = "<html><head><title>Sign in</title></head><body>Who are you?</body></html>"


def page(status: int, body: str = HTML, content_type: str = "text/html", more: str = "") -> Answer:
    return Answer(status, f"content-type: {content_type}\r\n{more}", body)


PAGES = [
    pytest.param(
        page(status, more="location: https://login.example/\r\n" if status == 302 else ""), id=f"{status}"
    )
    for status in (200, 302, 400, 401, 403, 404, 405, 409, 413, 422, 502)
] + [
    pytest.param(page(403, '{"message": "Forbidden"}', "application/json"), id="403 of a gateway"),
    pytest.param(page(401, '{"error": "unauthorized"}', "application/json"), id="401 of a login"),
    pytest.param(
        page(403, '{"code": 1020, "message": "no"}', "application/json"), id="403 with a number as its code"
    ),
    pytest.param(
        page(404, '{"code": "NoSuchBucket", "message": "no"}', "application/json"), id="404 of a store"
    ),
    pytest.param(page(401, "", "text/plain"), id="401 and nothing"),
    pytest.param(page(200, "", "text/plain"), id="200 and nothing"),
    pytest.param(page(200, "[]", "application/json"), id="200 and a list"),
    pytest.param(page(200, '"<html>"', "application/json"), id="200 and a text"),
]


def proxy_lines(caplog: pytest.LogCaptureFixture, what: str) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.levelno >= logging.WARNING and what in one.getMessage()]


@pytest.mark.parametrize("answer", PAGES)
def test_a_page_in_place_of_a_registration_is_an_outage(
    answer: Answer, proxy: FaultProxy, connect: Connect, outside: Outside, caplog: pytest.LogCaptureFixture
):
    between = proxy.on("register", answer)
    job_id = outside.enqueue()
    running = Running("threads", connect(), Counting("threads"))
    running.start()
    wait_until(lambda: between.hits >= 3)
    assert running.worker.state == "starting"
    assert not running.worker.health.is_ready()
    proxy.off(between)
    wait_until(lambda: outside.status(job_id) == "completed")
    running.stop()
    assert running.error is None
    (line,) = proxy_lines(caplog, "registering worker")
    assert str(answer.status) in line.getMessage()


@pytest.mark.parametrize("answer", PAGES)
def test_a_page_in_place_of_a_claim_is_an_outage(
    answer: Answer, proxy: FaultProxy, connect: Connect, outside: Outside, caplog: pytest.LogCaptureFixture
):
    with Running("threads", connect(), Counting("threads")) as running:
        wait_until(lambda: running.worker.health.is_ready())
        between = proxy.on("claim", answer)
        wait_until(lambda: between.hits >= 3)
        assert running.worker.state == "running"
        assert not running.worker.health.is_ready()
        job_id = outside.enqueue()
        proxy.off(between)
        wait_until(lambda: outside.status(job_id) == "completed")
        wait_until(lambda: running.worker.health.is_ready())
    assert running.error is None
    (line,) = proxy_lines(caplog, "claiming from q")
    said = line.getMessage()
    assert str(answer.status) in said
    if HTML in answer.body:
        assert "text/html" in said or answer.status in (302, 502)
        assert "<html>" in said


@pytest.mark.parametrize("operation", ["complete", "fail"])
@pytest.mark.parametrize("answer", PAGES)
def test_a_page_in_place_of_an_ack_is_no_answer(
    operation: str, answer: Answer, proxy: FaultProxy, connect: Connect, outside: Outside
):
    handler = Counting("threads", errors=1 if operation == "fail" else 0)
    between = proxy.on(operation, answer, times=2)
    job_id = outside.enqueue()
    with Running("threads", connect(), handler) as running:
        wait_until(lambda: told(running, job_id))
        assert between.hits == 2
        assert told(running, job_id) == ["job:completed" if operation == "complete" else "job:failed"]
        assert outside.status(job_id) == ("completed" if operation == "complete" else "pending")


@both
def test_a_page_in_place_of_an_ack_is_endured_until_the_lease_is_gone(
    kind: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on(lambda request: request.kind in ("complete", "heartbeat"), page(403))
    handler, job_id = Counting(kind), outside.enqueue()
    with Running(kind, connect(), handler, lease_duration=5) as running:
        wait_until(lambda: told(running, job_id))
        assert told(running, job_id) == ["job:lease_lost"]
    assert handler.runs[job_id] == 1
    assert outside.status(job_id) == "processing", "nobody has told the server anything"


@both
@pytest.mark.parametrize("status", [404, 409, 200])
def test_a_page_in_place_of_a_heartbeat_costs_no_lease(
    kind: str, status: int, proxy: FaultProxy, connect: Connect, outside: Outside
):
    between = proxy.on("heartbeat", page(status), times=3)
    handler, job_id = Counting(kind, gated=1), outside.enqueue()
    with Running(kind, connect(), handler, **QUICK_BEATS) as running:
        wait_until(lambda: between.hits == 3)
        wait_until(lambda: proxy.seen["heartbeat"] > 4)
        handler.open.set()
        wait_until(lambda: told(running, job_id))
        assert told(running, job_id) == ["job:completed"]
        assert outside.status(job_id) == "completed"


def test_a_page_in_place_of_the_workers_heartbeat_does_not_register_again(
    proxy: FaultProxy, connect: Connect, outside: Outside
):
    proxy.on(
        "register",
        Answer(201, "", '{"id":"w","queue_name":"q","lease_duration_secs":30,"heartbeat_interval_secs":1}'),
    )
    between = proxy.on("worker-heartbeat", page(404))
    with Running("threads", connect(), Counting("threads")) as running:
        wait_until(lambda: between.hits >= 2)
        assert proxy.seen["register"] == 1
        assert running.worker.state == "running"


REFUSALS = {
    400: '{"code": "VALIDATION_ERROR", "message": "limit: too large"}',
    401: '{"code": "UNAUTHORIZED", "message": "Invalid or expired API key"}',
    403: '{"code": "ACCESS_DENIED", "message": "not this queue"}',
}


@pytest.mark.parametrize("where", ["register", "claim"])
@pytest.mark.parametrize("status", REFUSALS)
def test_the_servers_own_refusal_is_final_when_it_is_repeated(
    status: int, where: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    refused = proxy.on(where, page(status, REFUSALS[status], "application/json"))
    running = Running("threads", connect(), Counting("threads"))
    running.start()
    running.join()
    assert isinstance(running.error, SpooledError)
    assert (running.error.status_code, refused.hits) == (status, 2)
    assert running.worker.state == "error"


@pytest.mark.parametrize("where", ["register", "claim"])
def test_a_refusal_that_is_not_repeated_is_endured(
    where: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    refused = proxy.on(where, page(401, REFUSALS[401], "application/json"), times=1)
    job_id = outside.enqueue()
    with Running("threads", connect(), Counting("threads")) as running:
        wait_until(lambda: outside.status(job_id) == "completed")
    assert (running.error, refused.hits) == (None, 1)


def test_refusals_with_something_else_between_them_are_not_repeated(
    proxy: FaultProxy, connect: Connect, outside: Outside
):
    rules: list[Rule] = []

    def alternating(wanted: int) -> Any:
        return lambda request: (
            request.kind == "claim" and proxy.seen["claim"] < 7 and proxy.seen["claim"] % 2 == wanted
        )

    rules.append(proxy.on(alternating(0), page(401, REFUSALS[401], "application/json")))
    rules.append(proxy.on(alternating(1), page(401)))
    job_id = outside.enqueue()
    with Running("threads", connect(), Counting("threads"), poll_interval=0.01) as running:
        wait_until(lambda: outside.status(job_id) == "completed")
    assert running.error is None
    assert all(rule.hits >= 2 for rule in rules)


def test_a_drain_in_a_test_does_not_wait_for_a_proxy(proxy: FaultProxy, connect: Connect, outside: Outside):
    proxy.on("register", page(403))
    worker = SpooledWorker(connect(), "q")
    worker.process(lambda ctx: None)
    with pytest.raises(SpooledError, match="403"):
        drain(worker)


# --- decisions ----------------------------------------------------------------------------------------------


def answered(status: int, body: str) -> SpooledError:
    return create_error_from_response(status, body.encode(), {"content-type": "text/html"})


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize(
    "status", [300, 302, 400, 401, 403, 404, 405, 407, 409, 410, 413, 418, 422, 451, 500, 511]
)
@pytest.mark.parametrize(
    "body", ["", HTML, "{}", "[]", "null", '{"message": "no"}', '{"code": "", "message": ""}']
)
def test_nothing_foreign_decides_anything(body: str, status: int, operation: Operation):
    error = answered(status, body)
    assert error.foreign
    for replay in (False, True):
        assert classify(operation, error, replay=replay, before=error) is Decision.AGAIN
    assert may_have_arrived(error)


@pytest.mark.parametrize(
    "operation", [Operation.COMPLETE, Operation.FAIL, Operation.REGISTER, Operation.CLAIM]
)
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_needs_another_right_before_it(status: int, operation: Operation):
    refusal = answered(status, REFUSALS[status])
    outage = errors.NetworkError("away")
    assert classify(operation, refusal) is Decision.AGAIN
    assert classify(operation, refusal, before=outage) is Decision.AGAIN
    assert classify(operation, refusal, before=answered(status, HTML)) is Decision.AGAIN
    assert classify(operation, refusal, before=refusal) is Decision.REFUSED


# --- Retry-After --------------------------------------------------------------------------------------------

LONG = [
    "1000000000",
    "1e300",
    "Thu, 31 Dec 2099 23:59:59 GMT",
]
STRANGE = ["-5", "inf", "1e400", "nan", "soon", "", "-1e400", "Thu, 99 Foo 2099"]


def asks(seconds: str, status: int = 503) -> Answer:
    code = "RATE_LIMIT_EXCEEDED" if status == 429 else "SERVICE_UNAVAILABLE"
    return Answer(status, f"retry-after: {seconds}\r\n", f'{{"code": "{code}", "message": "later"}}')


@pytest.mark.parametrize("seconds", [*LONG, *STRANGE])
@pytest.mark.parametrize("where", ["register", "claim", "complete", "worker-heartbeat"])
@pytest.mark.parametrize("status", [429, 503])
def test_no_retry_after_silences_a_worker(
    status: int,
    where: str,
    seconds: str,
    proxy: FaultProxy,
    connect: Connect,
    outside: Outside,
    caplog: pytest.LogCaptureFixture,
):
    asked = proxy.on(where, asks(seconds, status), times=2)
    if where == "worker-heartbeat":
        body = '{"id":"w","queue_name":"q","lease_duration_secs":30,"heartbeat_interval_secs":1}'
        proxy.on("register", Answer(201, "", body))
    job_id = outside.enqueue()
    with Running("threads", connect(max_retry_after=0.2), Counting("threads")) as running:
        wait_until(lambda: outside.status(job_id) == "completed")
        wait_until(lambda: asked.hits == 2)
    assert running.error is None
    # Heartbeats have their own pace, whatever is asked.
    bounded = seconds in LONG and where != "worker-heartbeat"
    assert len(proxy_lines(caplog, "(max_retry_after)")) == bounded


@pytest.mark.parametrize("seconds", LONG)
def test_a_client_does_not_wait_longer_than_it_may(
    seconds: str, proxy: FaultProxy, connect: Connect, outside: Outside
):
    asked = proxy.on("other", asks(seconds, 429))
    client: SpooledClient = connect(max_retry_after=0.2)
    with pytest.raises(errors.RateLimitError):
        client.jobs.list()
    assert asked.hits == 1


def test_the_servers_interval_of_heartbeats_is_bounded(proxy: FaultProxy, connect: Connect, outside: Outside):
    for seconds in (10**9, -1, 0):
        body = f'{{"id":"w","queue_name":"q","lease_duration_secs":30,"heartbeat_interval_secs":{seconds}}}'
        rule = proxy.on("register", Answer(201, "", body))
        with Running("threads", connect(), Counting("threads")) as running:
            assert running.worker._engine is not None
            assert 1.0 <= running.worker._engine._worker_heartbeat._interval <= 60.0
        proxy.off(rule)


def test_max_retry_after_is_an_option_with_a_variable(monkeypatch: pytest.MonkeyPatch):
    assert ClientConfig(api_key="sp_test_0123456789").max_retry_after == 60.0
    monkeypatch.setenv("SPOOLED_MAX_RETRY_AFTER", "7.5")
    assert ClientConfig.resolve(api_key="sp_test_0123456789").max_retry_after == 7.5
    monkeypatch.setenv("SPOOLED_MAX_RETRY_AFTER", "inf")
    with pytest.raises(ConfigurationError, match="SPOOLED_MAX_RETRY_AFTER"):
        ClientConfig.resolve(api_key="sp_test_0123456789")


async def test_wake_ups_do_not_stay_away_longer(proxy: FaultProxy, connect: Connect):
    proxy.on("events", asks("1000000000"))
    config = connect(max_retry_after=5.0).config
    wakeups = Wakeups(config, "q", wake=lambda _: None, healthy=lambda _: None)
    from spooled._http._streams import StreamTransport

    connection = StreamTransport(config, None)
    try:
        assert 5.0 <= await wakeups._listen(connection) <= 6.0
    finally:
        await connection.aclose()
