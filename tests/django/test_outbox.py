"""The outbox: a job is sent if and only if its transaction commits, and once."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connections, transaction
from django.test import override_settings
from shop.jobs import Invoice, gate, make_invoice
from shop.models import Order

from spooled.errors import NetworkError, ValidationError
from spooled_contrib.django import get_client
from spooled_contrib.django._outbox import relay
from spooled_contrib.django._outbox_table import put
from spooled_contrib.django.models import OutboxEntry
from spooled_contrib.django.testing import drain_jobs
from spooled_contrib.server import EmbeddedServer
from tests.django.test_worker import Manage
from tests.waiting import wait_until
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def outbox(spooled_django: Any) -> Iterator[None]:
    with override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": True}):
        yield


LOOK_ALIKE = ["key", "KEY", "kéy", "key ", "ключ", "k" * 255, "k" * 254 + "K", "🔑", "🗝"]
"""Keys of which some are the same under the collations of some databases."""


class Undo(Exception):
    pass


def buy(*, undo: bool = False) -> None:
    with transaction.atomic():
        order = Order.objects.create(customer="Ada")
        make_invoice.enqueue_on_commit(Invoice(order.pk), priority=3, delay=0.0, tags=["x"])
        if undo:
            raise Undo


@pytest.mark.usefixtures("outbox")
def test_a_row_is_a_job_if_and_only_if_it_commits(outside: Outside) -> None:
    with pytest.raises(Undo):
        buy(undo=True)
    assert OutboxEntry.objects.count() == 0
    buy()
    assert OutboxEntry.objects.count() == 1
    assert outside.counts("invoices").get("pending", 0) == 0
    (job,) = drain_jobs()
    assert (job.result, job.priority, job.tags) == ("invoice for Ada", 3, ["x"])
    assert OutboxEntry.objects.count() == 0
    assert drain_jobs() == []


@pytest.mark.usefixtures("outbox")
def test_a_key_makes_one_job_of_two_rows(outside: Outside) -> None:
    for _ in range(2):
        with transaction.atomic():
            gate.enqueue_on_commit("x", idempotency_key="once")
    assert OutboxEntry.objects.count() == 1
    relay(get_client(), "default")
    with transaction.atomic():
        gate.enqueue_on_commit("x", idempotency_key="once")
    relay(get_client(), "default")
    assert OutboxEntry.objects.count() == 0
    assert outside.counts("gates")["total"] == 1


@pytest.mark.usefixtures("outbox")
def test_a_crash_between_sending_and_forgetting_makes_one_job(outside: Outside) -> None:
    buy()
    entry = OutboxEntry.objects.get()
    assert relay(get_client(), "default") == 1
    # As if the process had died before its transaction committed.
    OutboxEntry.objects.create(idempotency_key=entry.idempotency_key, parameters=entry.parameters)
    assert relay(get_client(), "default") == 1
    assert OutboxEntry.objects.count() == 0
    assert outside.counts("invoices")["total"] == 1


@pytest.mark.usefixtures("outbox")
def test_a_server_that_is_away_delays_and_loses_nothing(
    outside: Outside, spooled_server: EmbeddedServer
) -> None:
    for _ in range(3):
        buy()
    spooled_server.stop()
    with pytest.raises(NetworkError):
        relay(get_client(), "default")
    assert OutboxEntry.objects.count() == 3
    spooled_server.start()
    assert relay(get_client(), "default") == 3


@pytest.mark.usefixtures("outbox")
def test_what_the_server_refuses_stays_and_blocks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    buy()
    OutboxEntry.objects.update(parameters={"queue_name": "-bad", "payload": None})
    buy()
    with caplog.at_level("ERROR", "spooled"):
        assert relay(get_client(), "default") == 1
        assert relay(get_client(), "default") == 0
    entry = OutboxEntry.objects.get()
    # Its back-off has begun.
    assert entry.attempts == 1
    assert "queue_name" in entry.last_error
    OutboxEntry.objects.update(next_attempt_at=None)
    with caplog.at_level("ERROR", "spooled"):
        assert relay(get_client(), "default") == 0
    assert OutboxEntry.objects.get().attempts == 2
    # The same reason is told once.
    assert caplog.text.count("stays in the outbox") == 1


@pytest.mark.usefixtures("outbox")
@pytest.mark.parametrize("key", ["", "x" * 256, "\ud800", 7])
def test_a_key_that_the_server_would_refuse_is_refused_where_it_is_written(key: Any) -> None:
    with pytest.raises(ValidationError, match="idempotency_key must be text"):
        gate.enqueue_on_commit("x", idempotency_key=key)
    with (
        override_settings(SPOOLED={**settings.SPOOLED, "OUTBOX": False}),
        pytest.raises(ValidationError, match="idempotency_key must be text"),
    ):
        gate.enqueue_on_commit("x", idempotency_key=key)
    assert OutboxEntry.objects.count() == 0


@pytest.mark.usefixtures("outbox")
def test_keys_that_look_alike_are_different_keys(outside: Outside) -> None:
    for key in LOOK_ALIKE:
        with transaction.atomic():
            gate.enqueue_on_commit("x", idempotency_key=key)
    assert relay(get_client(), "default") == len(LOOK_ALIKE)
    assert outside.counts("gates")["total"] == len(LOOK_ALIKE)


@pytest.mark.usefixtures("outbox")
def test_a_refused_job_is_replaced_by_a_better_one_of_its_key(outside: Outside) -> None:
    gate.enqueue_on_commit("first", idempotency_key="k")
    OutboxEntry.objects.update(parameters={"queue_name": "-bad", "payload": None, "idempotency_key": "k"})
    assert relay(get_client(), "default") == 0
    with transaction.atomic():
        gate.enqueue_on_commit("second", idempotency_key="k")
    assert relay(get_client(), "default") == 1
    assert OutboxEntry.objects.count() == 0
    assert outside.counts("gates")["total"] == 1


@pytest.mark.usefixtures("outbox")
def test_a_key_that_waits_does_not_break_the_transaction() -> None:
    gate.enqueue_on_commit("x", idempotency_key="k")
    with transaction.atomic():
        Order.objects.create(customer="Ada")
        gate.enqueue_on_commit("y", idempotency_key="k")
        Order.objects.create(customer="Bob")
    assert Order.objects.count() == 2
    assert [entry.parameters["payload"] for entry in OutboxEntry.objects.all()] == ["x"]


@pytest.mark.usefixtures("outbox")
def test_another_fault_than_a_known_key_is_not_hidden() -> None:
    with pytest.raises(ValidationError, match="tags"):
        gate.enqueue_on_commit("x", idempotency_key="k", tags=[float("nan")])
    with (
        pytest.raises(IntegrityError),
        transaction.atomic(),
    ):
        # SQLite's own check of what JSON is.
        put({"idempotency_key": "k", "tags": [float("nan")]}, None)
    assert OutboxEntry.objects.count() == 0


@pytest.mark.usefixtures("outbox")
def test_autocommit_off(outside: Outside) -> None:
    """Rows are sent and deleted by transactions that end, and enqueueing ends none."""
    connection = connections["default"]
    connection.set_autocommit(False)
    try:
        gate.enqueue_on_commit("x", idempotency_key="k")
        connection.rollback()
        assert OutboxEntry.objects.count() == 0
        gate.enqueue_on_commit("x", idempotency_key="k")
        gate.enqueue_on_commit("x", idempotency_key="k")
        connection.commit()
        assert relay(get_client(), "default") == 1
        connection.rollback()
        assert OutboxEntry.objects.count() == 0
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    assert outside.counts("gates")["total"] == 1


@pytest.mark.usefixtures("outbox")
def test_times_in_the_past_and_in_the_future(outside: Outside) -> None:
    now = dt.datetime.now(dt.UTC)
    gate.enqueue_on_commit("x", scheduled_at=now - dt.timedelta(days=1))
    gate.enqueue_on_commit("x", scheduled_at=now + dt.timedelta(days=1), expires_at=dt.timedelta(days=2))
    assert relay(get_client(), "default") == 2
    counts = outside.counts("gates")
    assert (counts["pending"], counts["scheduled"]) == (1, 1)


@pytest.mark.usefixtures("outbox")
@pytest.mark.parametrize("count", [0, 101])
def test_no_row_and_one_more_than_a_batch(outside: Outside, count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            gate.enqueue_on_commit(str(number))
    assert relay(get_client(), "default") == count
    assert OutboxEntry.objects.count() == 0
    assert outside.counts("gates").get("pending", 0) == count


@pytest.mark.usefixtures("outbox")
def test_more_than_a_batch(outside: Outside) -> None:
    with transaction.atomic():
        for number in range(250):
            gate.enqueue_on_commit(str(number))
    assert relay(get_client(), "default") == 250
    assert outside.counts("gates")["pending"] == 250


@pytest.fixture
def manage(tmp_path: Any, settings_of: dict[str, Any]) -> Manage:
    return Manage(tmp_path, {**settings_of, "OUTBOX": True})


KILLED = """
import os, signal, django
django.setup()
from django.db import IntegrityError, connections, transaction
from shop.jobs import Invoice, make_invoice
from shop.models import Order

with transaction.atomic():
    order = Order.objects.create(customer="Bob")
    make_invoice.enqueue_on_commit(Invoice(order.pk))
    if {before}:
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_process_that_is_killed_around_its_commit(manage: Manage, outside: Outside, before: bool) -> None:
    manage("migrate", "-v0")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(before=before)],
        env={**manage.environment, "DJANGO_SETTINGS_MODULE": "settings"},
        check=False,
    )
    assert killed.returncode == -9
    assert outside.counts("invoices").get("total", 0) == 0
    manage("spooled_worker", "--burst", "--queue", "invoices")
    assert outside.counts("invoices").get("completed", 0) == (0 if before else 1)


def test_the_worker_sends_what_comes_while_it_runs(manage: Manage, outside: Outside) -> None:
    manage("migrate", "-v0")
    with manage.running("spooled_worker", "--queue", "invoices") as running:
        wait_until(lambda: "started on queue invoices" in running.log)
        program = KILLED.format(before=False)
        environment = {**manage.environment, "DJANGO_SETTINGS_MODULE": "settings"}
        for _ in range(3):
            subprocess.run([sys.executable, "-c", program], env=environment, check=False)
        wait_until(lambda: outside.counts("invoices").get("completed") == 3, running.log)
    status = manage("spooled_status").stdout
    assert "outbox  0 waiting" in status


def test_a_worker_without_the_table_says_so_once_and_works(manage: Manage, outside: Outside) -> None:
    with manage.running("spooled_worker", "--queue", "sql") as running:
        job = outside.enqueue("sql", "SELECT 1")
        wait_until(lambda: outside.status(job) == "completed", running.log)
        assert running.log.count("the outbox of database 'default' cannot be sent") == 1
