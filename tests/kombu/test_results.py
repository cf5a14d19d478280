"""`result_backend="spooled://"`: results ride on the jobs, with every pool."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord, group
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult
from kombu.pools import reset as reset_pools

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import POOLS, url_of
from tests.kombu.test_celery import worker as celery_worker
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

APP = """
import os
import spooled_contrib.kombu
from celery import Celery
from celery.exceptions import Ignore

app = Celery("results", broker=os.environ["BROKER"], backend="spooled://", set_as_current=True)
app.conf.update(result_chord_retry_interval=0.2, broker_connection_retry_on_startup=True)

@app.task(name="add", shared=False)
def add(one, two=0):
    return one + two

@app.task(name="late", acks_late=True, shared=False)
def late(n):
    return n * 2

@app.task(name="total", shared=False)
def total(numbers):
    return sum(numbers)

@app.task(name="fail", shared=False)
def fail(text):
    raise ValueError(text)

@app.task(name="ignored", shared=False)
def ignored():
    raise Ignore()

@app.task(name="quiet", ignore_result=True, shared=False)
def quiet():
    return 1

@app.task(name="retried", bind=True, max_retries=1, shared=False)
def retried(self):
    if not self.request.retries:
        raise self.retry(countdown=0.1)
    return "second time"

@app.task(name="progress", bind=True, shared=False)
def progress(self):
    self.update_state(state="PROGRESS", meta={"percent": 50})
    import time, pathlib
    # The test is another process, and lets this go on with a file; nothing but a look says that it is there.
    while not (pathlib.Path(__file__).parent / "open").exists():
        time.sleep(0.01)
    return "done"
"""


@pytest.fixture
def app(server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The app as a producer sees it."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    monkeypatch.setenv("BROKER", url_of(server))
    names: dict[str, Any] = {"__name__": "app", "__file__": str(tmp_path / "app.py")}
    exec(compile(APP, "app.py", "exec"), names)
    made: Celery = names["app"]
    yield made
    made.backend.close()
    made.pool.force_close_all()
    made.close()
    reset_pools()


@pytest.fixture(params=POOLS)
def worker(request: pytest.FixtureRequest, app: Celery, tmp_path: Path) -> Iterator[Process]:
    with celery_worker(tmp_path, dict(os.environ), request.param) as running:
        yield running


def get(result: Any) -> Any:
    return result.get(timeout=HOPELESS, interval=0.05)


def test_results_groups_and_chords(app: Celery, worker: Process, outside: Outside) -> None:
    add, late, total = app.tasks["add"], app.tasks["late"], app.tasks["total"]
    first = add.delay(1, 2)
    assert get(first) == 3, worker.log
    assert first.status == "SUCCESS"
    assert get(late.delay(21)) == 42
    failed = app.tasks["fail"].delay("broken")
    with pytest.raises(ValueError, match="broken"):
        get(failed)
    assert failed.status == "FAILURE"
    assert "raise ValueError(text)" in failed.traceback
    assert get(app.tasks["retried"].delay()) == "second time"
    assert get(group(add.s(n, n) for n in range(5))()) == [0, 2, 4, 6, 8]
    assert get(chord([add.s(n, 1) for n in range(4)])(total.s())) == 10
    # The result rides on the job itself, and so does the error of a run that is tried again: there is nothing else.
    job = outside.http.get("/jobs", params={"tag": f"id:{first.id}"}).json()
    assert len(job) == 1
    assert '"result": 3' in outside.job(job[0]["id"])["result"]["celery"]
    assert outside.http.get("/jobs", params={"queue_name": "celery-results"}).json() == []


def test_tasks_without_a_result_are_completed_too(app: Celery, worker: Process, outside: Outside) -> None:
    app.tasks["ignored"].delay()
    app.tasks["quiet"].delay()
    wait_until(lambda: outside.counts("celery").get("completed") == 2, worker.log)
    worker.terminate()
    assert worker.wait() == 0


def test_a_state_of_the_users_own(app: Celery, worker: Process, tmp_path: Path) -> None:
    result = app.tasks["progress"].delay()
    wait_until(lambda: result.status == "PROGRESS", worker.log)
    assert result.info == {"percent": 50}
    (tmp_path / "open").touch()
    wait_until(lambda: result.status == "SUCCESS", worker.log)
    assert result.result == "done"


def test_states_of_tasks_that_have_not_run(app: Celery, server: EmbeddedServer, outside: Outside) -> None:
    waiting, later = app.tasks["add"].delay(1), app.tasks["add"].apply_async((1,), countdown=60)
    assert [waiting.status, later.status, AsyncResult("nobody", app=app).status] == ["PENDING"] * 3
    with pytest.raises(CeleryTimeoutError):
        waiting.get(timeout=0.05, interval=0.01)
    (job,) = outside.http.get("/jobs", params={"tag": f"id:{later.id}"}).json()
    outside.http.delete(f"/jobs/{job['id']}")
    assert later.status == "REVOKED"
    (job,) = outside.http.get("/jobs", params={"tag": f"id:{waiting.id}"}).json()
    outside.http.post("/jobs/claim", json={"queue_name": "celery", "worker_id": "w"})
    # It may only be prefetched: STARTED is what a worker says, with `task_track_started`.
    assert waiting.status == "PENDING"


def test_an_expired_task_is_revoked(app: Celery, tmp_path: Path, outside: Outside) -> None:
    late = app.tasks["add"].apply_async((1,), expires=0.001)
    (job,) = outside.http.get("/jobs", params={"tag": f"id:{late.id}"}).json()
    assert outside.job(job["id"])["expires_at"] is None
    with celery_worker(tmp_path, dict(os.environ), "solo") as running:
        wait_until(lambda: late.status == "REVOKED", running.log)


def test_groups_are_saved_and_restored(app: Celery) -> None:
    made = group(app.tasks["add"].s(n) for n in range(3))()
    made.save()
    restored = GroupResult.restore(made.id, app=app)
    assert [one.id for one in restored.results] == [one.id for one in made.results]
    made.delete()
    assert GroupResult.restore(made.id, app=app) is None


def test_forgetting_and_the_url(app: Celery, server: EmbeddedServer) -> None:
    app.tasks["add"].delay(1).forget()
    assert app.backend.as_uri() == "spooled://"
    with_key = Celery("x", backend=url_of(server), set_as_current=False).backend
    assert server.api_key not in with_key.as_uri()
    assert server.api_key in with_key.as_uri(include_password=True)


@pytest.mark.parametrize("expires", [dt.timedelta(hours=1), 3600, 3600.0])
def test_what_rides_on_no_job_expires_as_the_setting_says(
    app: Celery, outside: Outside, expires: Any
) -> None:
    app.conf.result_expires = expires
    app.backend.store_result("some-task", {"done": 1}, "PROGRESS")
    (one,) = outside.http.get("/jobs", params={"queue_name": "celery-results"}).json()
    job = outside.job(one["id"])
    lives = dt.datetime.fromisoformat(job["expires_at"]) - dt.datetime.fromisoformat(job["created_at"])
    assert dt.timedelta(minutes=50) < lives < dt.timedelta(minutes=70)


@pytest.mark.parametrize(
    "several", ["spooled://:k@one;spooled://:k@two", ["spooled://:k@one", "spooled://:k@two"]]
)
def test_of_several_brokers_results_are_read_from_the_first(several: Any) -> None:
    app = Celery("several", broker=several, backend="spooled://", set_as_current=False)
    assert app.backend._address().base_url == "https://one"


def test_a_prefetched_task_that_is_given_back_and_expires_is_revoked(app: Celery, outside: Outside) -> None:
    late = app.tasks["add"].apply_async((1,), expires=3600)
    with app.connection_for_read() as connection:
        message = app.amqp.queues["celery"](connection.default_channel).get()
        assert outside.counts("celery")["processing"] == 1
        message.requeue()
    (job, before) = outside.http.get("/jobs", params={"tag": f"id:{late.id}"}).json()
    assert (job["status"], before["status"]) == ("pending", "completed")
    # No server deletes it: only a worker can say that it has expired.
    assert outside.job(job["id"])["expires_at"] is None
    assert late.status == "PENDING"
