"""What one pass over the outbox does: whom trouble stops, whom it does not, and what is held meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connections, transaction
from django.db.models import JSONField, Value
from django.test import override_settings
from django.utils import timezone
from shop.jobs import gate, run_sql
from shop.models import Order

from spooled import SpooledClient
from spooled.errors import AuthenticationError, RateLimitError, ServerError, SpooledError
from spooled_contrib.django import _outbox_table as table
from spooled_contrib.django._outbox import Sender, relay
from spooled_contrib.django.models import OutboxEntry
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db", "outbox")

Rule = Callable[[dict[str, Any]], httpx.Response | None]


@pytest.fixture
def outbox(spooled_django: Any) -> Iterator[None]:
    with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}):
        yield


@pytest.fixture
def answering(spooled_server: EmbeddedServer) -> Iterator[Callable[[Rule], SpooledClient]]:
    """Makes clients of the real server, except for requests that a rule answers, for what our server never says."""
    real = httpx.HTTPTransport()
    made: list[SpooledClient] = []

    def make(rule: Rule) -> SpooledClient:
        def handle(request: httpx.Request) -> httpx.Response:
            return rule(json.loads(request.content)) or real.handle_request(request)

        transport = httpx.MockTransport(handle)
        made.append(
            SpooledClient(
                api_key=spooled_server.api_key,
                base_url=spooled_server.url,
                transport=transport,
                retry={"max_retries": 0},
            )
        )
        return made[-1]

    yield make
    for client in made:
        client.close()
    real.close()


def error(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": "said the test", **more}, headers=headers)


def write(*payloads: str) -> None:
    with transaction.atomic():
        for payload in payloads:
            gate.enqueue_on_commit(payload)


def payloads() -> list[str]:
    return [entry.parameters["payload"] for entry in OutboxEntry.objects.order_by("pk")]


def due() -> None:
    """As if all back-offs were over."""
    OutboxEntry.objects.update(next_attempt_at=None)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: error(413, "PAYLOAD_TOO_LARGE"),
        lambda: error(403, "ACCESS_DENIED"),
        lambda: error(400, "VALIDATION_ERROR"),
        lambda: error(422, "VALIDATION_ERROR"),
        lambda: error(409, "CONFLICT"),
        lambda: error(429, "QUOTA_EXCEEDED", resource="queues", limit=2, plan="free"),
        lambda: httpx.Response(413, text="<html>too large</html>"),
    ],
)
def test_a_row_that_is_refused_stays_with_its_reason_and_the_others_go(
    answering: Callable[[Rule], SpooledClient], outside: Outside, answer: Callable[[], httpx.Response]
) -> None:
    write("1", "poison", "3")
    client = answering(lambda job: answer() if job["payload"] == "poison" else None)
    assert relay(client, "default") == 2
    entry = OutboxEntry.objects.get()
    assert entry.parameters["payload"] == "poison"
    assert entry.attempts == 1
    assert str(answer().status_code) in entry.last_error
    assert entry.claimed_by is None
    assert entry.next_attempt_at is not None
    assert entry.next_attempt_at > timezone.now()
    # Not before its back-off is over, which grows.
    assert relay(client, "default") == 0
    pauses = []
    for attempts in range(2, 15):
        before = timezone.now()
        due()
        assert relay(client, "default") == 0
        entry.refresh_from_db()
        assert entry.attempts == attempts
        assert entry.next_attempt_at is not None
        pauses.append((entry.next_attempt_at - before).total_seconds())
    assert pauses[0] >= 20
    assert pauses == sorted(pauses) or pauses[-1] >= 3600
    assert table.LONGEST_BACKOFF <= pauses[-1] < 2 * table.LONGEST_BACKOFF
    due()
    assert relay(answering(lambda job: None), "default") == 1
    assert outside.counts("gates")["total"] == 3


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"queue_name": "gates", "payload": 1, "colour": "red"}, "colour"),
        ({"queue_name": "gates"}, "payload"),
        ({"queue_name": "gates", "payload": 1, "scheduled_at": "tomorrow"}, "tomorrow"),
        ({"queue_name": "gates", "payload": 1, "expires_at": 5}, "fromisoformat"),
        ({"queue_name": "gates", "payload": 1, "scheduled_at": "2030-01-01T00:00:00"}, "aware"),
        ({"queue_name": "gates", "payload": 1, "priority": 1000}, "priority"),
        ({"queue_name": "gates", "payload": "\ud800"}, "payload"),
        ({"queue_name": None, "payload": 1}, "queue_name"),
        ({}, "queue_name"),
        ([1, 2], "list"),
        ("text", "str"),
        (None, "NoneType"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused_here(outside: Outside, parameters: Any, reason: str) -> None:
    write("1", "2", "3")
    second = OutboxEntry.objects.order_by("pk")[1]
    OutboxEntry.objects.filter(pk=second.pk).update(parameters=Value(parameters, JSONField()))
    with SpooledClient(**_access()) as client:
        assert relay(client, "default") == 2
    entry = OutboxEntry.objects.get()
    assert entry.pk == second.pk
    assert reason in entry.last_error
    assert entry.attempts == 1


def _access() -> dict[str, Any]:
    return {"api_key": settings.SPOOLED["API_KEY"], "base_url": settings.SPOOLED["BASE_URL"]}


def test_a_row_whose_parameters_have_lost_the_key_is_sent_with_it(outside: Outside) -> None:
    gate.enqueue_on_commit("x", idempotency_key="k")
    OutboxEntry.objects.update(parameters={"queue_name": "gates", "payload": 1})
    with SpooledClient(**_access()) as client:
        assert relay(client, "default") == 1
        assert client.jobs.create(queue_name="gates", payload=1, idempotency_key="k").created is False


@pytest.mark.parametrize(
    "answer",
    [
        lambda: error(401, "UNAUTHORIZED"),
        lambda: error(404, "NOT_FOUND"),
        lambda: error(405, "METHOD_NOT_ALLOWED"),
        lambda: error(408, "REQUEST_TIMEOUT"),
        lambda: error(429, "RATE_LIMIT_EXCEEDED", {"retry-after": "7"}),
        lambda: error(429, "QUOTA_EXCEEDED", resource="active_jobs", limit=10, plan="free"),
        lambda: error(500, "DATABASE_ERROR"),
        lambda: error(503, "SERVICE_UNAVAILABLE"),
        lambda: httpx.Response(502, text="<html>bad gateway</html>"),
        lambda: httpx.Response(302, headers={"location": "https://elsewhere.example"}),
        lambda: httpx.Response(200, text="<html>please log in</html>"),
    ],
)
def test_trouble_of_all_rows_is_held_against_none(
    answering: Callable[[Rule], SpooledClient], outside: Outside, answer: Callable[[], httpx.Response]
) -> None:
    write(*map(str, range(5)))
    asked: list[Any] = []

    def refuse(job: dict[str, Any]) -> httpx.Response:
        asked.append(job["payload"])
        return answer()

    sender = Sender(answering(refuse), "default")
    for number in range(1, 9):
        with pytest.raises(SpooledError):
            sender.send()
        # One request, and the pass is over.
        assert len(asked) == number
    rows = OutboxEntry.objects.values_list("attempts", "last_error", "claimed_by", "next_attempt_at")
    assert list(rows) == [(0, "", None, None)] * 5
    # In order again when it is over.
    assert relay(answering(lambda job: None), "default") == 5
    assert outside.counts("gates")["total"] == 5


def test_retry_after_reaches_the_one_who_waits(answering: Callable[[Rule], SpooledClient]) -> None:
    write("x")
    with pytest.raises(RateLimitError) as caught:
        relay(answering(lambda job: error(429, "RATE_LIMIT_EXCEEDED", {"retry-after": "7"})), "default")
    assert caught.value.server_wait == 7


@pytest.mark.parametrize("poisons", [1, 3, 101])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_rows_that_make_the_server_fail_do_not_block_the_others_for_ever(
    answering: Callable[[Rule], SpooledClient], outside: Outside, poisons: int, status: int
) -> None:
    write(*["poison"] * poisons, "a", "b")

    def rule(job: dict[str, Any]) -> httpx.Response | None:
        return error(status, "INTERNAL_ERROR") if job["payload"] == "poison" else None

    sender = Sender(answering(rule), "default")
    for _ in range(poisons + 10):
        try:
            sender.send()
        except ServerError:
            continue
        break
    due()
    for _ in range(3):
        try:
            sender.send()
        except ServerError:
            due()
    assert set(payloads()) == {"poison"}
    assert outside.counts("gates")["total"] == 2
    refused = OutboxEntry.objects.exclude(last_error="")
    assert refused.count() == poisons
    assert all(entry.attempts >= 1 and str(status) in entry.last_error for entry in refused)
    # They are in nobody's way any more.
    write("c")
    assert sender.send() == 1


def test_one_row_alone_that_fails_is_not_blamed(answering: Callable[[Rule], SpooledClient]) -> None:
    write("x")
    sender = Sender(answering(lambda job: error(500, "DATABASE_ERROR")), "default")
    for _ in range(12):
        with suppress(ServerError):
            sender.send()
    entry = OutboxEntry.objects.get()
    assert (entry.attempts, entry.last_error, entry.next_attempt_at) == (0, "", None)


def test_a_wrong_key_marks_nothing(spooled_server: EmbeddedServer) -> None:
    write("1", "2")
    with (
        SpooledClient(api_key="sp_test_" + "x" * 43, base_url=spooled_server.url) as client,
        pytest.raises(AuthenticationError),
    ):
        relay(client, "default")
    assert OutboxEntry.objects.filter(attempts=0, last_error="", claimed_by=None).count() == 2


def test_order_within_a_queue_is_that_of_the_rows(
    answering: Callable[[Rule], SpooledClient], outside: Outside
) -> None:
    with transaction.atomic():
        for number in range(40):
            gate.enqueue_on_commit(str(number))
            run_sql.enqueue_on_commit(str(number))
    asked: dict[str, list[int]] = {}
    flying: list[int] = []
    lock = threading.Lock()
    most = 0

    def rule(job: dict[str, Any]) -> None:
        nonlocal most
        with lock:
            flying.append(1)
            most = max(most, len(flying))
        asked.setdefault(job["queue_name"], []).append(int(job["payload"]))
        # Until the other queue's request is there as well, if it comes.
        threading.Event().wait(0.005)
        with lock:
            flying.pop()

    assert relay(answering(rule), "default") == 80
    assert asked == {"gates": list(range(40)), "sql": list(range(40))}
    assert most > 1


def test_nothing_of_the_database_is_held_while_sending(answering: Callable[[Rule], SpooledClient]) -> None:
    """A write in the same file succeeds at once while a request hangs."""
    write("1", "2", "3")
    arrived, go = threading.Event(), threading.Event()

    def hang(job: dict[str, Any]) -> None:
        arrived.set()
        assert go.wait(HOPELESS)

    sent: list[int] = []
    client = answering(hang)

    def work() -> None:
        try:
            sent.append(relay(client, "default"))
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert arrived.wait(HOPELESS)
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 0")
        for number in range(5):
            with transaction.atomic():
                Order.objects.create(customer=str(number))
                gate.enqueue_on_commit(f"late {number}")
    finally:
        go.set()
        thread.join(HOPELESS)
        connections["default"].close()
    assert sum(sent) == 8
    assert OutboxEntry.objects.count() == 0


def test_two_senders_share_the_work(answering: Callable[[Rule], SpooledClient], outside: Outside) -> None:
    write(*map(str, range(250)))
    asked: list[str] = []
    client = answering(lambda job: asked.append(job["payload"]))
    counts: list[int] = []
    begin = threading.Barrier(3)

    def work() -> None:
        try:
            begin.wait(HOPELESS)
            sender = Sender(client, "default")
            sent = 0
            while OutboxEntry.objects.filter(claimed_by=None).exists():
                sent += sender.send()
            counts.append(sent)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HOPELESS)
    assert sum(counts) == 250
    assert sorted(asked, key=int) == [str(number) for number in range(250)]
    assert OutboxEntry.objects.count() == 0


def test_a_claim_that_nobody_renews_ends(outside: Outside) -> None:
    """As when a sender is killed: its rows are left alone while they are its own, and then taken by another."""
    write("1", "2")
    _, rows = table.claim("default", 0)
    assert len(rows) == 2
    write("3")
    with SpooledClient(**_access()) as client:
        assert relay(client, "default") == 1
        OutboxEntry.objects.update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))
        assert relay(client, "default") == 2
    assert outside.counts("gates")["total"] == 3


def test_a_claim_is_renewed_while_a_request_takes_long(
    answering: Callable[[Rule], SpooledClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "CLAIM", 0.3)
    write("1", "2")
    renewals: list[str] = []
    renew = table.renew
    enough = threading.Event()

    def counted(using: str, token: str) -> None:
        renew(using, token)
        renewals.append(token)
        if len(renewals) >= 3:
            enough.set()

    monkeypatch.setattr(table, "renew", counted)

    def rule(job: dict[str, Any]) -> None:
        assert enough.wait(HOPELESS)

    client = answering(rule)
    assert relay(client, "default") == 2
    assert len(set(renewals)) == 1


def test_rows_that_are_deleted_or_changed_while_they_are_sent(
    answering: Callable[[Rule], SpooledClient], outside: Outside
) -> None:
    write("1", "2", "3")

    def rule(job: dict[str, Any]) -> httpx.Response | None:
        if job["payload"] == "1":
            _elsewhere(lambda: OutboxEntry.objects.all().delete())
        return error(413, "PAYLOAD_TOO_LARGE") if job["payload"] == "2" else None

    # Those that were claimed are sent all the same; what is gone is not written again.
    assert relay(answering(rule), "default") == 2
    assert OutboxEntry.objects.count() == 0


def _elsewhere(act: Callable[[], object]) -> None:
    def work() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(HOPELESS)


def test_a_connection_that_was_closed_under_it_does_not_matter(
    answering: Callable[[Rule], SpooledClient], outside: Outside
) -> None:
    write("1", "2")
    connection = connections["default"]
    # Below Django, which does not know: as when the server has hung up.
    assert connection.connection is not None
    client = answering(lambda job: None)
    sender = Sender(client, "default")
    connection.connection.close()
    with pytest.raises(Exception, match="closed"):
        OutboxEntry.objects.count()
    connection.close()
    assert sender.send() == 2


def test_interrupt_ends_a_pass_after_the_request_that_is_under_way(
    answering: Callable[[Rule], SpooledClient],
) -> None:
    write(*map(str, range(10)))
    arrived, go = threading.Event(), threading.Event()

    def hang(job: dict[str, Any]) -> None:
        arrived.set()
        assert go.wait(HOPELESS)

    sender = Sender(answering(hang), "default")
    sent: list[int] = []

    def work() -> None:
        try:
            sent.append(sender.send())
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert arrived.wait(HOPELESS)
    sender.interrupt()
    go.set()
    thread.join(HOPELESS)
    assert sent == [1]
    assert OutboxEntry.objects.filter(claimed_by=None, next_attempt_at=None).count() == 9


def test_a_reason_that_the_table_cannot_hold_is_written_plainly(
    answering: Callable[[Rule], SpooledClient],
) -> None:
    write("x")
    nasty = "bad \x00 and \ud800" + "y" * 5000
    answer = {"code": "VALIDATION_ERROR", "message": "@"}
    text = json.dumps(answer).replace("@", json.dumps(nasty)[1:-1])
    assert relay(answering(lambda job: httpx.Response(400, text=text)), "default") == 0
    entry = OutboxEntry.objects.get()
    assert entry.attempts == 1
    assert 0 < len(entry.last_error) <= 2000


def test_a_request_that_hangs_keeps_no_other_queue(
    answering: Callable[[Rule], SpooledClient], outside: Outside
) -> None:
    """What waits for a hanging server does not keep what is in other queues from going."""
    with transaction.atomic():
        gate.enqueue_on_commit("hangs")
        for number in range(3):
            run_sql.enqueue_on_commit(str(number))
    go = threading.Event()

    def rule(job: dict[str, Any]) -> None:
        if job["payload"] == "hangs":
            assert go.wait(HOPELESS)

    def work() -> None:
        try:
            relay(answering(rule), "default")
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: outside.counts("sql").get("total") == 3)
    finally:
        go.set()
        thread.join(HOPELESS)
    assert OutboxEntry.objects.count() == 0
