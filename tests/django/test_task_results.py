"""The result of a task whose job was replaced by a copy, once or often: one task, one id, whatever its jobs are."""

from __future__ import annotations

import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from shop import tasks

from spooled_contrib.django import get_client
from spooled_contrib.django._task_names import TaskResultDoesNotExist, TaskResultStatus
from spooled_contrib.django.testing import drain_jobs
from tests.django.test_worker import Manage, begun
from tests.waiting import wait_until
from tests.worker.conftest import Outside

pytestmark = pytest.mark.usefixtures("db")

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL


def refreshed(result: Any) -> Any:
    result.refresh()
    return result


def successor(outside: Outside, job_id: str) -> str:
    return str(outside.job(job_id)["result"]["spooled"]["successor"])


@pytest.mark.parametrize("how", ["a deploy", "two interrupts"])
def test_a_task_that_is_cut_off_goes_on_under_its_id(
    tmp_path: Path, settings_of: dict[str, Any], spooled_django: Any, outside: Outside, how: str
) -> None:
    grace = 0 if how == "a deploy" else 20
    worker = {"lease_duration": 5, "cleanup_grace": 0.1}
    manage = Manage(tmp_path, {**settings_of, "SHUTDOWN_TIMEOUT": grace, "WORKER": worker})
    result = tasks.gate.enqueue(str(tmp_path))
    with manage.running("spooled_worker", "--queue", "default") as running:
        wait_until(lambda: begun(tmp_path), running.log)
        assert refreshed(result).status == RUNNING
        if how == "a deploy":
            running.terminate()
        else:
            running.send(signal.SIGINT)
            running.wait_for("once more to stop at once")
            running.send(signal.SIGINT)
        running.wait()
    assert (refreshed(result).status, result.is_finished, result.finished_at) == (READY, False, None)
    assert (result.attempts, result.errors) == (1, [])
    with pytest.raises(ValueError, match="not finished yet"):
        result.return_value  # noqa: B018
    (tmp_path / "open").touch()
    # The thread of the first run may have gone on for a moment, so the copy waits for a lease's length.
    wait_until(lambda: outside.counts("default")["pending"] == 1, "the copy is due")
    manage("spooled_worker", "--queue", "default", "--burst")
    assert (refreshed(result).status, result.return_value) == (SUCCESSFUL, "done")
    assert (result.attempts, result.errors) == (2, [])
    assert len(set(result.worker_ids)) == 2
    assert result.enqueued_at <= result.started_at < result.last_attempted_at <= result.finished_at
    assert outside.status(successor(outside, result.id)) == "completed"
    again = tasks.gate.get_result(result.id)
    assert (again.id, again.return_value, again.args) == (result.id, "done", [str(tmp_path)])


@pytest.mark.parametrize("how", ["snooze", "retry"])
def test_a_task_that_asks_for_later(
    spooled_django: Any, tmp_path: Path, signals: list[tuple[str, str, str]], how: str
) -> None:
    result = tasks.later.enqueue(str(tmp_path), 1, how)
    drain_jobs()
    assert (refreshed(result).status, result.return_value) == (SUCCESSFUL, [2, result.id])
    assert (result.attempts, len(result.worker_ids)) == (2, 2)
    assert [error.exception_class.__name__ for error in result.errors] == (
        [] if how == "snooze" else ["Retry"]
    )
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
    # All signals are about the id that the task was enqueued under.
    assert signals == [
        ("enqueued", "READY", result.id),
        ("started", "RUNNING", result.id),
        ("started", "RUNNING", result.id),
        ("finished", "SUCCESSFUL", result.id),
    ]


def test_a_long_chain(spooled_django: Any, tmp_path: Path) -> None:
    result = tasks.later.enqueue(str(tmp_path), 30, "snooze")
    drain_jobs()
    assert (refreshed(result).return_value, result.attempts) == ([31, result.id], 31)


async def test_a_chain_of_coroutines(spooled_django: Any, tmp_path: Path) -> None:
    result = await tasks.later_async.aenqueue(str(tmp_path), 2)
    await sync_to_async(drain_jobs)()
    await result.arefresh()
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, [3, result.id], 3)
    assert (await tasks.later_async.aget_result(result.id)).worker_ids == result.worker_ids


def test_a_task_that_sleeps_is_ready(spooled_django: Any, outside: Outside, tmp_path: Path) -> None:
    result = tasks.wait_a_day.enqueue(str(tmp_path))
    drain_jobs()
    assert (refreshed(result).status, result.attempts, result.finished_at) == (READY, 1, None)
    assert outside.status(successor(outside, result.id)) == "scheduled"


def test_a_copy_that_fails(spooled_django: Any, tmp_path: Path, signals: list[tuple[str, str, str]]) -> None:
    result = tasks.later_then_fail.using(backend="other").enqueue(str(tmp_path))
    drain_jobs()
    assert (refreshed(result).status, result.attempts) == (FAILED, 2)
    assert [error.exception_class for error in result.errors] == [tasks.DeclinedError]
    assert result.finished_at is not None
    assert [one for one in signals if one[0] == "finished"] == [("finished", "FAILED", result.id)]


def test_a_copy_that_is_retried_by_hand(spooled_django: Any, outside: Outside, tmp_path: Path) -> None:
    result = tasks.later_then_fail.using(backend="other").enqueue(str(tmp_path))
    drain_jobs()
    get_client().jobs.retry(successor(outside, result.id))
    assert (refreshed(result).status, result.attempts) == (READY, 2)


def test_a_copy_that_is_cancelled(spooled_django: Any, outside: Outside, tmp_path: Path) -> None:
    result = tasks.wait_a_day.enqueue(str(tmp_path))
    drain_jobs()
    get_client().jobs.cancel(successor(outside, result.id))
    assert (refreshed(result).status, result.is_finished, result.attempts) == (FAILED, True, 1)
    assert result.finished_at is not None


def test_a_copy_that_was_deleted(spooled_django: Any, outside: Outside, tmp_path: Path) -> None:
    result = tasks.later_then_fail.using(backend="other").enqueue(str(tmp_path))
    drain_jobs()
    copy = successor(outside, result.id)
    get_client().jobs.dlq.purge(confirm=True)
    with pytest.raises(TaskResultDoesNotExist, match=f"{result.id}.*{copy}.*deleted"):
        result.refresh()


async def test_a_copy_that_was_deleted_async(spooled_django: Any, tmp_path: Path) -> None:
    result = await tasks.later_then_fail.using(backend="other").aenqueue(str(tmp_path))
    await sync_to_async(drain_jobs)()
    await sync_to_async(get_client().jobs.dlq.purge)(confirm=True)
    with pytest.raises(TaskResultDoesNotExist, match="deleted"):
        await result.arefresh()


def test_a_chain_that_goes_round_in_circles(spooled_django: Any) -> None:
    """No worker makes one; one that is made by hand must not be followed for ever."""
    client = get_client()
    ids = [tasks.add.enqueue(n).id for n in range(3)]
    for job in client.jobs.claim(queue_name="default", worker_id="w", limit=3).jobs:
        other = ids[(ids.index(job.id) + 1) % 3]
        note = {"spooled": {"outcome": "snoozed", "successor": other, "reason": ""}}
        client.jobs.complete(job.id, worker_id="w", lease_id=str(job.lease_id), result=note)
    with pytest.raises(TaskResultDoesNotExist, match=ids[0]):
        tasks.add.get_result(ids[0])


def test_a_task_that_is_discarded_has_failed(
    spooled_django: Any, outside: Outside, signals: list[tuple[str, str, str]]
) -> None:
    result = tasks.give_up.enqueue()
    drain_jobs()
    assert (refreshed(result).status, result.attempts, outside.status(result.id)) == (FAILED, 1, "completed")
    (error,) = result.errors
    assert (error.exception_class.__name__, error.traceback) == ("Discard", "the order is gone")
    assert signals[-1] == ("finished", "FAILED", result.id)
    assert len(signals) == 3


def test_a_retry_without_retries_left_has_failed(
    spooled_django: Any, signals: list[tuple[str, str, str]]
) -> None:
    result = tasks.retry_for_ever.enqueue()
    drain_jobs()
    assert (refreshed(result).status, result.attempts) == (FAILED, 2)
    assert ["the mail server is down" in error.traceback for error in result.errors] == [True, True]
    assert [name for name, *_ in signals] == ["enqueued", "started", "started", "finished"]
    assert signals[-1] == ("finished", "FAILED", result.id)


LOOK_ALIKES = [
    {"spooled": {"outcome": "snoozed", "successor": str(uuid.UUID(int=7)), "reason": ""}},
    {"spooled": {"outcome": "released", "successor": "THE TASK", "reason": "Worker shutdown timeout"}},
    {"spooled": {"outcome": "discarded", "reason": "mine"}},
    {"spooled": {"outcome": "returned", "value": 1}},
    {"spooled": {"outcome": "returned", "value": {"spooled": {"outcome": "returned", "value": 1}}}},
    {"spooled": {}},
    {"spooled": {"outcome": None}},
    {"spooled": "text"},
    {"spooled": {"outcome": "snoozed"}, "more": 1},
    {},
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=str)
def test_a_value_that_looks_like_ours_is_the_tasks_own(spooled_django: Any, value: Any) -> None:
    if value.get("spooled") and "THE TASK" in str(value):
        value["spooled"]["successor"] = tasks.add.enqueue(1).id
    result = tasks.echo.enqueue(value)
    drain_jobs()
    assert (refreshed(result).status, result.return_value, result.errors) == (SUCCESSFUL, value, [])


def test_more_history_than_fits_a_page(spooled_django: Any, outside: Outside) -> None:
    """Each run leaves two events."""
    job_id = outside.enqueue(
        "default",
        {"job_type": "shop.tasks.add", "backend": "default", "args": [1], "kwargs": {}},
        max_retries=0,
    )
    client = get_client()
    for _ in range(260):
        (job,) = client.jobs.claim(queue_name="default", worker_id="w").jobs
        client.jobs.fail(job_id, worker_id="w", lease_id=str(job.lease_id), error="no")
        client.jobs.retry(job_id)
    result = tasks.add.get_result(job_id)
    assert (result.status, result.attempts, len(result.errors)) == (READY, 260, 260)


def test_ctrl_c_in_a_task_ends_the_drain(spooled_django: Any) -> None:
    tasks.interrupt.enqueue()
    with pytest.raises(KeyboardInterrupt):
        drain_jobs()
