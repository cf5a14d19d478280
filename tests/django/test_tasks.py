"""The Tasks backend: what Django's own suite asks of any backend, and what is Spooled's."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone
from shop import tasks
from shop.models import Order

from spooled.clock import ManualClock
from spooled_contrib.django import get_client
from spooled_contrib.django._task_names import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
)
from spooled_contrib.django.tasks import SpooledBackend, SpooledTask, _load, _read_error
from spooled_contrib.django.testing import drain_jobs, using_server
from spooled_contrib.server import EmbeddedServer
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db")


def test_flags() -> None:
    backend = task_backends["default"]
    assert isinstance(backend, SpooledBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert isinstance(tasks.add, SpooledTask)


def test_a_task_from_enqueue_to_result(spooled_django: Any, outside: Outside, signals: Any) -> None:
    result = tasks.add.enqueue(2, two=3)
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [2], {"two": 3})
    assert (result.backend, result.attempts, result.errors) == ("default", 0, [])
    assert result.enqueued_at is not None
    assert not result.is_finished
    with pytest.raises(ValueError, match="not finished yet"):
        result.return_value  # noqa: B018
    assert outside.job(result.id)["payload"]["job_type"] == "shop.tasks.add"

    drain_jobs()
    assert result.status == TaskResultStatus.READY
    result.refresh()
    assert (result.status, result.return_value, result.is_finished) == (TaskResultStatus.SUCCESSFUL, 5, True)
    assert result.attempts == 1
    assert result.worker_ids[0]
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert signals == [
        ("enqueued", "READY", result.id),
        ("started", "RUNNING", result.id),
        ("finished", "SUCCESSFUL", result.id),
    ]

    again = tasks.add.get_result(result.id)
    assert (again.return_value, again.task.func, again.task.queue_name) == (5, tasks.add.func, "default")


async def test_everything_async(spooled_django: Any) -> None:
    result = await tasks.greet.aenqueue("Ada")
    assert (await tasks.greet.aget_result(result.id)).status == TaskResultStatus.READY
    from asgiref.sync import sync_to_async

    await sync_to_async(drain_jobs)()
    await result.arefresh()
    assert result.return_value == "hello Ada"
    assert await Order.objects.filter(customer="Ada").aexists()
    with pytest.raises(TaskResultDoesNotExist):
        await tasks.greet.aget_result("00000000-0000-0000-0000-000000000000")


def test_priority_queue_and_run_after_reach_spooled(spooled_django: Any, outside: Outside) -> None:
    at = timezone.now() + dt.timedelta(hours=1)
    result = tasks.greet.using(run_after=at, priority=-100).enqueue("Ada")
    job = outside.job(result.id)
    assert (job["queue_name"], job["priority"], job["status"]) == ("slow", -100, "scheduled")
    assert abs(dt.datetime.fromisoformat(job["scheduled_at"]) - at) < dt.timedelta(milliseconds=1)
    assert (job["max_retries"], job["tags"]) == (1, None)
    result.refresh()
    assert result.status == TaskResultStatus.READY
    assert outside.job(tasks.greet.enqueue("Bob").id)["priority"] == 7


def test_options_of_the_backend(spooled_django: Any, outside: Outside) -> None:
    job = outside.job(tasks.decline_once.enqueue(5).id)
    assert (job["max_retries"], job["timeout_seconds"], job["tags"]) == (0, 60, ["task"])


def test_options_of_the_task(spooled_django: Any, outside: Outside) -> None:
    task: Any = tasks.limited
    if task is None:
        pytest.skip("Django 6.0 has no options of a backend's own in @task")
    assert isinstance(task, SpooledTask)
    job = outside.job(task.enqueue(1).id)
    assert (job["max_retries"], job["timeout_seconds"]) == (5, 7)


def test_the_context_counts_attempts(spooled_django: Any) -> None:
    result = tasks.attempt.enqueue()
    drain_jobs()
    result.refresh()
    assert result.return_value == [1, result.id, 1]


def test_a_failure_is_retried_and_then_final(signals: Any, db: None) -> None:
    with EmbeddedServer(clock=ManualClock()) as server, using_server(server):
        result = tasks.decline.enqueue(100)
        drain_jobs()
        result.refresh()
        # One run has failed; another comes, so nothing has finished.
        assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.READY, 1, 1)
        assert [name for name, *_ in signals] == ["enqueued", "started"]
        server.advance(3600)
        drain_jobs()
        result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 2, 2)
    assert result.is_finished
    assert result.finished_at is not None
    assert signals[-1] == ("finished", "FAILED", result.id)
    for error in result.errors:
        assert error.exception_class is tasks.DeclinedError
        assert error.exception_class_path == "shop.tasks.DeclinedError"
        assert 'raise DeclinedError(f"{amount} is too much")' in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018


def test_the_error_in_spooled_reads_well(spooled_django: Any, outside: Outside) -> None:
    result = tasks.decline_once.enqueue(100)
    drain_jobs()
    job = outside.job(result.id)
    assert job["status"] == "deadletter"
    assert job["last_error"].startswith("shop.tasks.DeclinedError: 100 is too much\n\nTraceback (most recent")


def test_a_long_traceback_keeps_its_end(spooled_django: Any) -> None:
    result = tasks.decline_once.enqueue("x" * 5000)  # type: ignore[arg-type]
    drain_jobs()
    result.refresh()
    (error,) = result.errors
    assert error.exception_class is tasks.DeclinedError
    assert error.traceback.endswith("x is too much")


def test_an_error_that_is_not_a_tasks_own() -> None:
    error = _read_error("Lease expired (worker timeout)")
    assert (error.exception_class, error.traceback) == (RuntimeError, "Lease expired (worker timeout)")


def test_what_has_no_json_form(spooled_django: Any) -> None:
    with pytest.raises(TypeError):
        tasks.add.enqueue(object())
    with pytest.raises(TypeError, match="pass its primary key"):
        tasks.add.enqueue(Order.objects.create(customer="Ada"))


def test_invalid_tasks_are_refused(spooled_django: Any) -> None:
    with pytest.raises(InvalidTask, match="priority"):
        tasks.add.using(priority=101)
    with pytest.raises(InvalidTask, match="aware"):
        tasks.add.using(run_after=dt.datetime(2030, 1, 1))
    with pytest.raises(InvalidTask, match=r"[Qq]ueue"):
        tasks.add.using(queue_name="nowhere")
    tasks.add.using(queue_name="anywhere", backend="other")  # whose QUEUES are empty: any


def test_results_that_are_none(spooled_django: Any) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("00000000-0000-0000-0000-000000000000")
    other = get_client().jobs.create(queue_name="default", payload={"no": "task"})
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(other.id)
    gone = get_client().jobs.create(
        queue_name="default",
        payload={"job_type": "shop.tasks.gone", "backend": "default", "args": [], "kwargs": {}},
    )
    with pytest.raises(TaskResultDoesNotExist, match="gone"):
        tasks.add.get_result(gone.id)
    with pytest.raises(Exception, match="does not match"):
        tasks.greet.get_result(tasks.add.enqueue(1).id)


@pytest.mark.parametrize("path", ["shop.tasks.no_task", "os.system", "shop.tasks.nothing", "no.module"])
def test_a_payload_cannot_call_what_is_no_task(spooled_django: Any, path: str) -> None:
    with pytest.raises(ImportError):
        _load(path)
    get_client().jobs.create(
        queue_name="default",
        payload={"job_type": path, "backend": "default", "args": [1], "kwargs": {}},
        max_retries=0,
    )
    (job,) = drain_jobs()
    assert job.status == "deadletter"
    assert "ImportError" in str(job.last_error) or "ModuleNotFoundError" in str(job.last_error)


def test_a_job_that_is_no_task_says_so(spooled_django: Any) -> None:
    get_client().jobs.create(queue_name="default", payload={"some": "thing"}, max_retries=0)
    (job,) = drain_jobs()
    assert "neither a task nor of a type that a @job takes" in str(job.last_error)


def test_a_task_whose_queue_is_gone_from_the_settings_still_has_a_result(spooled_django: Any) -> None:
    job = get_client().jobs.create(
        queue_name="retired",
        payload={"job_type": "shop.tasks.add", "backend": "default", "args": [1], "kwargs": {}},
    )
    assert tasks.add.get_result(job.id).task.queue_name == "retired"


def test_a_cancelled_task_has_failed(spooled_django: Any) -> None:
    result = tasks.add.enqueue(1)
    get_client().jobs.cancel(result.id)
    result.refresh()
    assert result.status == TaskResultStatus.FAILED


def test_other_backends_are_left_alone(spooled_django: Any) -> None:
    assert tasks.immediate.enqueue(3).return_value == 3
