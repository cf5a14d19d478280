"""Celery's tasks in Spooled's worker, beside Celery's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import Ignore, Reject
from kombu.pools import reset as reset_pools

from spooled import SpooledClient
from spooled.clock import ManualClock
from spooled.testing import drain
from spooled.worker import SpooledWorker
from spooled_contrib.kombu import to_spooled
from spooled_contrib.kombu.celery_handler import celery_handler
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import url_of
from tests.worker.conftest import Outside

SEEN: list[Any] = []


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=ManualClock(time.time())) as running:
        yield running


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[Celery]:
    SEEN.clear()
    made = Celery("bridge", broker=url_of(server), set_as_current=False)

    @made.task(shared=False, name="add")
    def add(one: int, two: int = 0) -> int:
        SEEN.append(("add", one, two))
        return one + two

    @made.task(shared=False, name="flaky", bind=True, max_retries=1)
    def flaky(self: Any, until: int) -> str:
        SEEN.append(("flaky", self.request.retries, self.request.hostname))
        if self.request.retries < until:
            raise self.retry(countdown=60)
        return "done"

    @made.task(shared=False, name="auto", autoretry_for=(ValueError,), max_retries=2, retry_backoff=True)
    def auto() -> None:
        SEEN.append("auto")
        raise ValueError("no")

    @made.task(shared=False, name="aside")
    def aside(error: str) -> None:
        SEEN.append(error)
        raise {"ignore": Ignore(), "reject": Reject(), "requeue": Reject(requeue=True)}[error]

    @made.task(shared=False, name="pickled", serializer="pickle")
    def pickled(value: Any) -> str:
        return type(value).__name__

    yield made
    made.pool.force_close_all()
    made.close()
    reset_pools()


@pytest.fixture
def worker(server: EmbeddedServer, app: Celery) -> Iterator[SpooledWorker]:
    with SpooledClient(server.api_key, base_url=server.url) as client:
        made = SpooledWorker(client, to_spooled("celery"))
        made.process(celery_handler(app))
        yield made


def send(app: Celery, name: str, *args: Any, **options: Any) -> None:
    app.tasks[name].apply_async(args, **options)


def test_a_task_runs_and_its_result_is_the_jobs(app: Celery, worker: SpooledWorker) -> None:
    send(app, "add", 1, 2)
    (job,) = drain(worker)
    assert (job.status, job.result, SEEN) == ("completed", 3, [("add", 1, 2)])


def test_chains_go_on(app: Celery, worker: SpooledWorker) -> None:
    chain(app.tasks["add"].s(1, 2), app.tasks["add"].s(10))()
    assert [job.result for job in drain(worker)] == [3, 13]


def test_a_retry_is_a_job_of_its_own_that_waits(
    app: Celery, worker: SpooledWorker, server: EmbeddedServer
) -> None:
    send(app, "flaky", 1)
    (first,) = drain(worker)
    assert first.result == {"celery": {"state": "RETRY"}}
    assert drain(worker) == []
    server.advance(120)
    (second,) = drain(worker)
    assert second.result == "done"
    assert [one[1] for one in SEEN] == [0, 1]
    assert SEEN[0][2].startswith("spooled@")


def test_a_task_that_fails_for_good_is_set_aside(
    app: Celery, worker: SpooledWorker, server: EmbeddedServer
) -> None:
    send(app, "flaky", 5)
    drain(worker)
    server.advance(120)
    (job,) = drain(worker)
    assert job.status == "completed"
    assert job.result["spooled"]["outcome"] == "discarded"
    assert "MaxRetriesExceeded" in job.result["spooled"]["reason"]


def test_autoretry_with_backoff(app: Celery, worker: SpooledWorker, server: EmbeddedServer) -> None:
    send(app, "auto")
    results = []
    for _ in range(3):
        results += drain(worker)
        server.advance(600)
    assert SEEN == ["auto"] * 3
    assert [job.result.get("celery") for job in results[:2]] == [{"state": "RETRY"}] * 2
    assert "ValueError('no')" in results[2].result["spooled"]["reason"]


def test_ignore_and_reject(app: Celery, worker: SpooledWorker) -> None:
    for error in ("ignore", "reject", "requeue"):
        send(app, "aside", error)
    done = {job.payload["kombu"]["body"]: job for job in drain(worker)}
    statuses = [
        next(job for body, job in done.items() if error in body).status for error in ("ignore", "reject")
    ]
    assert statuses == ["completed", "completed"]
    requeued = next(job for body, job in done.items() if "requeue" in body)
    assert requeued.retry_count == 1


def test_what_the_app_does_not_accept_fails(app: Celery, worker: SpooledWorker) -> None:
    send(app, "pickled", {1, 2})
    (job,) = drain(worker)
    assert "ContentDisallowed" in str(job.last_error)


def test_an_unknown_task_says_so(app: Celery, worker: SpooledWorker, server: EmbeddedServer) -> None:
    app.send_task("nobody.knows", task_id="x")
    outside = Outside(server)
    outside.enqueue("celery", {"no": "task"})
    outside.http.close()
    errors = " ".join(str(job.last_error) for job in drain(worker))
    assert "is no task of this app: it names 'nobody.knows'" in errors
    assert "is no task of this app: it names none" in errors
