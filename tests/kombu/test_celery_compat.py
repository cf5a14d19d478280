"""Tasks without Celery, and Celery's own on the other side: in both directions."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import NotRegistered
from kombu.exceptions import ContentDisallowed
from kombu.pools import reset as reset_pools

from spooled import SpooledClient
from spooled.clock import ManualClock
from spooled.testing import drain
from spooled.worker import SpooledWorker
from spooled_contrib.kombu import celery_compat
from spooled_contrib.kombu.celery_compat import TaskApp, TaskFailedError, shared_task
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import url_of
from tests.kombu.result_ways import Ways
from tests.kombu.test_celery import worker as celery_worker
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

SEEN: list[Any] = []


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=ManualClock(time.time())) as running:
        yield running


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[TaskApp]:
    SEEN.clear()
    made = TaskApp("shop", broker=url_of(server))

    @made.task(name="add")
    def add(one: int, two: int = 0) -> int:
        SEEN.append(("add", one, two))
        return one + two

    @made.task(name="flaky", bind=True, max_retries=2)
    def flaky(self: Any, until: int) -> list[Any]:
        SEEN.append(("flaky", self.request.retries))
        if self.request.retries < until:
            raise self.retry(countdown=60)
        return [self.request.retries, self.request.id]

    @made.task(name="auto", autoretry_for=[OSError], retry_backoff=2, retry_jitter=False, max_retries=2)
    def auto(error: str) -> None:
        SEEN.append("auto")
        raise OSError(error) if error == "io" else ValueError(error)

    yield made
    made.close()
    celery_compat._apps.remove(made)


@pytest.fixture
def worker(server: EmbeddedServer, app: TaskApp) -> Iterator[SpooledWorker]:
    with SpooledClient(server.api_key, base_url=server.url) as client:
        made = SpooledWorker(client, app.queue_name())
        made.process(app.handler())
        yield made


def test_a_task_from_delay_to_its_result(app: TaskApp, worker: SpooledWorker) -> None:
    result = app.tasks["add"].delay(1, two=2)
    assert result.status == "PENDING"
    assert not result.ready()
    with pytest.raises(TimeoutError, match="it is PENDING"):
        result.get(timeout=0.01, interval=0.01)
    drain(worker)
    assert (result.status, result.get()) == ("SUCCESS", 3)
    assert app.tasks["add"](5, 6) == 11


def test_retries(app: TaskApp, worker: SpooledWorker, server: EmbeddedServer) -> None:
    result = app.tasks["flaky"].delay(2)
    for _ in range(3):
        drain(worker)
        if result.status != "SUCCESS":
            assert result.status == "RETRY"
        server.advance(61)
    assert result.get() == [2, result.id]
    assert SEEN == [("flaky", 0), ("flaky", 1), ("flaky", 2)]


def test_too_many_retries_fail(app: TaskApp, worker: SpooledWorker, server: EmbeddedServer) -> None:
    result = app.tasks["flaky"].delay(9)
    for _ in range(4):
        drain(worker)
        server.advance(61)
    with pytest.raises(TaskFailedError, match="MaxRetriesExceededError: flaky"):
        result.get()


def test_autoretry_with_backoff(app: TaskApp, worker: SpooledWorker, server: EmbeddedServer) -> None:
    result = app.tasks["auto"].delay("io")
    for seconds in (0, 3, 5):  # 2 and 4 seconds of back-off
        server.advance(seconds)
        drain(worker)
    assert SEEN == ["auto"] * 3
    with pytest.raises(TaskFailedError, match="OSError: io") as caught:
        result.get()
    assert "raise OSError(error)" in str(caught.value.traceback)
    other = app.tasks["auto"].delay("value")
    drain(worker)
    assert (len(SEEN), other.status) == (4, "FAILURE")


def test_options_of_a_message(app: TaskApp, server: EmbeddedServer) -> None:
    outside = Outside(server)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    result = app.tasks["add"].apply_async(
        (1,), countdown=60, expires=later, queue="other", priority=9, task_id="id-1"
    )
    assert result.id == "id-1"
    (job,) = outside.http.get("/jobs", params={"tag": "id:id-1"}).json()
    full = outside.job(job["id"])
    assert (full["queue_name"], full["priority"], full["status"]) == ("other", 90, "scheduled")
    # A worker has to see it, because its result says that it has expired.
    assert full["expires_at"] is None
    with pytest.raises(ValueError, match="eta must have a time zone"):
        app.tasks["add"].apply_async((1,), eta=dt.datetime(2030, 1, 1))
    outside.http.close()


def test_mistakes(app: TaskApp, worker: SpooledWorker, server: EmbeddedServer) -> None:
    with pytest.raises(TypeError, match="no option 'retries'; it has bind, queue"):
        app.task(retries=3)
    with pytest.raises(ValueError, match="there is a task 'add' already"):
        app.task(name="add")(lambda: None)
    outside = Outside(server)
    outside.enqueue("celery", {"no": "task"}, max_retries=0)
    outside.http.close()
    (job,) = drain(worker)
    assert "no task of this app: it names None" in str(job.last_error)
    assert server.api_key not in repr(app)


def test_shared_tasks(app: TaskApp, worker: SpooledWorker) -> None:
    @shared_task(name="shared", max_retries=1)
    def shared(n: int) -> int:
        return n * 10

    try:
        result = shared.delay(4)
        drain(worker)
        assert result.get() == 40
        assert shared(5) == 50
    finally:
        celery_compat._shared.clear()


def test_what_a_producer_gets_for_tasks_that_keep_no_result(app: TaskApp, worker: SpooledWorker) -> None:
    app.task(name="quiet", ignore_result=True)(lambda: 1)
    result = app.tasks["quiet"].delay()
    assert result.get() is None
    (job,) = drain(worker)
    assert job.result is None


def test_a_task_that_expires_before_it_runs(app: TaskApp, worker: SpooledWorker) -> None:
    result = app.tasks["add"].apply_async((1,), expires=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1))
    drain(worker)
    assert (result.status, SEEN) == ("REVOKED", [])
    with pytest.raises(TaskFailedError, match="TaskRevokedError: expired"):
        result.get()


def test_a_result_without_a_json_form_fails_once(app: TaskApp, worker: SpooledWorker) -> None:
    app.task(name="odd")(lambda: SEEN.append("odd") or object())  # type: ignore[func-returns-value]
    result = app.tasks["odd"].delay()
    (job,) = drain(worker)
    assert (job.status, SEEN) == ("completed", ["odd"])
    with pytest.raises(TaskFailedError, match=r"not JSON serializable|EncodeError"):
        result.get()


def test_a_result_that_the_server_does_not_take_fails_once(app: TaskApp, worker: SpooledWorker) -> None:
    app.task(name="big")(lambda: SEEN.append("big") or "x" * 3_000_000)  # type: ignore[func-returns-value]
    result = app.tasks["big"].delay()
    (job,) = drain(worker)
    assert (job.status, SEEN) == ("completed", ["big"])
    with pytest.raises(TaskFailedError, match=r"ResultRefusedError: .* 3000\d\d\d bytes.*2097152"):
        result.get()


def test_a_retry_keeps_its_priority(app: TaskApp, worker: SpooledWorker, server: EmbeddedServer) -> None:
    result = app.tasks["flaky"].apply_async((1,), priority=9)
    drain(worker)
    outside = Outside(server)
    jobs = outside.http.get("/jobs", params={"tag": f"id:{result.id}"}).json()
    outside.http.close()
    assert [job["priority"] for job in jobs] == [90, 90]


# --- with the real Celery -------------------------------------------------------------------------------------


@pytest.fixture
def celery(server: EmbeddedServer) -> Iterator[Celery]:
    """An app that knows the same tasks by name only."""
    made = Celery("other", broker=url_of(server), backend="spooled://", set_as_current=False)
    yield made
    made.backend.close()
    made.pool.force_close_all()
    made.close()
    reset_pools()


def test_celery_sends_and_task_app_runs(celery: Celery, worker: SpooledWorker) -> None:
    add, fail = celery.signature("add", (1, 2)), celery.signature("auto", ("value",))
    one, bad = add.apply_async(), fail.apply_async()
    chained = chain(
        celery.signature("add", (1, 1)), celery.signature("add", (10,)), celery.signature("add", (100,))
    )()
    drain(worker)
    assert one.get(timeout=HOPELESS) == 3
    assert chained.get(timeout=HOPELESS) == 112
    with pytest.raises(ValueError, match="value"):
        bad.get(timeout=HOPELESS)


def test_what_only_celery_understands_is_refused(celery: Celery, worker: SpooledWorker) -> None:
    celery.signature("add", (1, 2)).apply_async(link=celery.signature("add", (3,)))
    (job,) = drain(worker)
    assert "this message has callbacks" in str(job.last_error)


@pytest.mark.parametrize("protocol", [1, 2])
def test_arguments_of_every_type_of_kombus_json(
    celery: Celery, worker: SpooledWorker, app: TaskApp, protocol: int
) -> None:
    celery.conf.task_protocol = protocol
    app.task(name="same")(lambda *values: list(values))
    values = [
        dt.datetime(2030, 1, 2, tzinfo=dt.UTC),
        dt.date(2030, 1, 2),
        uuid.UUID(int=7),
        Decimal("1.50"),
        b"\xff\0",
    ]
    result = celery.send_task("same", values)
    drain(worker)
    assert result.get(timeout=HOPELESS) == values


@pytest.mark.parametrize("protocol", [1, 2])
def test_an_unknown_task_and_an_unreadable_one_fail_at_once(
    celery: Celery, worker: SpooledWorker, protocol: int
) -> None:
    celery.conf.task_protocol = protocol
    unknown, pickled = celery.send_task("no.such"), celery.send_task("add", (1,), serializer="pickle")
    assert {job.status for job in drain(worker)} == {"completed"}
    with pytest.raises(NotRegistered, match=r"no\.such"):
        unknown.get(timeout=HOPELESS)
    with pytest.raises(ContentDisallowed):
        pickled.get(timeout=HOPELESS)


CELERY = """
import os
import spooled_contrib.kombu
from celery import Celery

app = Celery("app", broker=os.environ["BROKER"], backend="spooled://", set_as_current=True)
app.conf.broker_connection_retry_on_startup = True

@app.task(name="add", shared=False)
def add(one, two=0):
    return one + two

@app.task(name="auto", shared=False)
def auto(error):
    raise ValueError(error)
"""


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_task_app_sends_and_celery_runs(
    app: TaskApp, server: EmbeddedServer, tmp_path: Path, pool: str
) -> None:
    (tmp_path / "app.py").write_text(CELERY, encoding="utf-8")
    with celery_worker(tmp_path, {**os.environ, "BROKER": url_of(server)}, pool) as running:
        Ways.wait_until_ready(running)
        good, bad = app.tasks["add"].delay(20, two=22), app.tasks["auto"].delay("broken")
        wait_until(good.ready, running.log)
        assert good.get() == 42
        wait_until(bad.ready, running.log)
        with pytest.raises(TaskFailedError, match="ValueError: broken"):
            bad.get()


def test_it_needs_no_celery(server: EmbeddedServer) -> None:
    program = f"""
import sys
sys.modules["celery"] = None
from spooled_contrib.kombu.celery_compat import TaskApp
app = TaskApp(broker={url_of(server)!r})
@app.task
def add(one, two): return one + two
print(add.delay(1, 2).status, add.name)
app.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "PENDING app.add\n", done.stderr
