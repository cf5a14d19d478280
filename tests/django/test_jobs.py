"""`@job`: enqueueing, running, discovery, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings
from shop.jobs import Invoice, broken, gate, make_invoice, remind
from shop.models import Order

from spooled.errors import NetworkError
from spooled.worker import JobContext
from spooled_contrib.django import PendingEnqueue, get_client, job
from spooled_contrib.django._jobs import Registry, registry
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db")


def test_plain_and_coroutine_jobs_run_with_the_database(spooled_django: Any) -> None:
    order = Order.objects.create(customer="Ada")
    made = make_invoice.enqueue(Invoice(order.pk), priority=5)
    asked = remind.enqueue(Invoice(order.pk))
    done = {job.id: job for job in spooled_django()}
    assert done[made.id].result == "invoice for Ada"
    assert done[made.id].priority == 5
    assert done[asked.id].result == "reminded Ada, attempt 1"
    order.refresh_from_db()
    assert order.invoiced == 1


async def test_aenqueue(spooled_django: Any, outside: Outside) -> None:
    made = await remind.aenqueue(Invoice(1), idempotency_key="once")
    again = await remind.aenqueue(Invoice(1), idempotency_key="once")
    assert (made.id, again.created) == (again.id, False)
    assert outside.job(made.id)["payload"] == {"order": 1, "job_type": "remind"}


def test_a_job_that_fails(spooled_django: Any) -> None:
    broken.enqueue()
    (done,) = spooled_django()
    assert (done.status, done.last_error) == ("deadletter", "RuntimeError: no")


def test_on_commit_sends_after_the_commit(spooled_django: Any, outside: Outside) -> None:
    with transaction.atomic():
        promised = make_invoice.enqueue_on_commit(Invoice(1), delay=60)
        assert isinstance(promised, PendingEnqueue)
        assert promised.job_id is None
        assert outside.counts("invoices").get("scheduled", 0) == 0
    assert promised.job_id is not None
    job = outside.job(promised.job_id)
    assert (job["status"], job["idempotency_key"]) == ("scheduled", promised.idempotency_key)


def test_on_commit_sends_nothing_after_a_rollback(spooled_django: Any, outside: Outside) -> None:
    class Undo(Exception): ...

    promises = []

    def buy() -> None:
        with transaction.atomic():
            promises.append(make_invoice.enqueue_on_commit(Invoice(1)))
            raise Undo

    with pytest.raises(Undo):
        buy()
    assert promises[0].job_id is None
    assert spooled_django() == []


def test_on_commit_outside_of_a_transaction_sends_at_once(spooled_django: Any) -> None:
    promised = broken.enqueue_on_commit()
    assert [job.id for job in spooled_django()] == [promised.job_id]


def test_a_server_that_is_away_does_not_break_the_commit(
    spooled_django: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(SPOOLED={"API_KEY": "sp_test_somebody", "BASE_URL": "http://127.0.0.1:9"}):
        with pytest.raises(NetworkError):
            broken.enqueue()
        with caplog.at_level("ERROR", "django"), transaction.atomic():
            Order.objects.create(customer="Bob")
            promised = broken.enqueue_on_commit()
    assert Order.objects.filter(customer="Bob").exists()
    assert promised.job_id is None
    assert "on_commit" in caplog.text


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: {"a": o}, lambda o: [1, [o]]])
def test_model_instances_are_refused_with_a_hint(spooled_django: Any, wrap: Any) -> None:
    order = Order.objects.create(customer="Ada")
    with pytest.raises(TypeError, match=r"holds the Order instance \d+; pass its primary key .*order\.pk"):
        gate.enqueue(wrap(order))
    with pytest.raises(TypeError, match="Order instance"), transaction.atomic():
        gate.enqueue_on_commit(wrap(order))


def test_a_queryset_is_refused(spooled_django: Any) -> None:
    with pytest.raises(TypeError, match="QuerySet of Order; pass a list of primary keys"):
        gate.enqueue(Order.objects.all())  # type: ignore[arg-type]


def test_a_payload_that_does_not_fit_is_refused(spooled_django: Any) -> None:
    with pytest.raises(ValueError, match="no Invoice"):
        make_invoice.enqueue({"ordr": 1})  # type: ignore[arg-type]


def test_without_a_key_it_says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no API key: set SPOOLED\['API_KEY'\]"):
        broken.enqueue()


def test_the_client_follows_the_settings(spooled_django: Any) -> None:
    first = get_client()
    assert get_client() is first
    with override_settings(SPOOLED={"API_KEY": "sp_test_another"}):
        assert get_client() is not first
        assert get_client().config.base_url == "https://api.spooled.cloud"


def test_bad_declarations_are_refused_at_the_decorator() -> None:
    with pytest.raises(TypeError, match="parameter 'subject' that nothing fills"):

        @job("emails")
        def send(payload: str, subject: str) -> None: ...

    with pytest.raises(ValueError, match="queue_name must be"):

        @job("-emails")
        def other(payload: str) -> None: ...

    with pytest.raises(ValueError, match="concurrency must be from 1 to 100"):

        @job("emails", concurrency=0)
        def third(payload: str) -> None: ...

    assert not [one for one in registry.discover() if one.queue_name == "emails"]


def test_a_module_that_is_loaded_again_replaces_its_jobs() -> None:
    mine = Registry()

    def make() -> Any:
        from spooled.definition import JobDefinition
        from spooled_contrib.django import Job

        def same(ctx: JobContext[Any]) -> None: ...

        return Job(same, JobDefinition("q"), None)

    first, second = make(), make()
    mine.add(first)
    mine.add(second)
    assert mine.duplicates() == []
    second.function.__qualname__ = "another"


def test_a_broken_module_raises_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = tmp_path / "brokenapp"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "jobs.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = registry.discover()
    apps = override_settings(INSTALLED_APPS=["brokenapp", "spooled_contrib.django"])
    with apps, pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry.discover()
    assert registry.discover() == before
    sys.modules.pop("brokenapp", None)


def test_other_module_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = tmp_path / "workapp"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "work.py").write_text(
        "from spooled_contrib.django import job\n@job('work')\ndef work(ctx): ...\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    apps = ["workapp", "spooled_contrib.django"]
    try:
        with override_settings(INSTALLED_APPS=apps, SPOOLED={"JOB_MODULES": ["work"]}):
            assert "workapp.work.work" in [one.path for one in registry.discover()]
    finally:
        registry._registry.pop("workapp.work.work")
        sys.modules.pop("workapp", None)
        sys.modules.pop("workapp.work", None)
