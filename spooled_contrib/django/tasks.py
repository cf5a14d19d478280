"""Django Tasks on Spooled.

    TASKS = {"default": {"BACKEND": "spooled_contrib.django.tasks.SpooledBackend"}}

`manage.py spooled_worker` runs them, beside the jobs that `@job` declares.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core import checks
from django.utils import timezone

from spooled.definition import JobDefinition
from spooled.errors import NotFoundError
from spooled.models import CreateJobResponse, JobHistoryEvent
from spooled_contrib.django._client import get_async_client, get_client
from spooled_contrib.django._task_chain import Chain, Part, returned
from spooled_contrib.django._task_errors import DISCARDED, RETRIED, _read_error
from spooled_contrib.django._task_json import json_form
from spooled_contrib.django._task_names import (
    BaseTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from spooled_contrib.django._task_payload import _load, is_task, set_values, with_values
from spooled_contrib.django._task_runner import TaskRunner

__all__ = ["SpooledBackend", "SpooledTask", "TaskRunner", "task_backends"]

logger = logging.getLogger("spooled.django")

OPTIONS = ("MAX_RETRIES", "TIMEOUT", "TAGS")

_STATUS = {
    "pending": TaskResultStatus.READY,
    "scheduled": TaskResultStatus.READY,
    "processing": TaskResultStatus.RUNNING,
    "completed": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "deadletter": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}

_FINISHED = (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)

declared_queues: dict[str, set[str]] = {}
"""The queues of the tasks that were declared, by the alias of their backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledTask(Task):  # type: ignore[type-arg] # Django's own is not generic at run time
    """A task with options of its own: `@task(max_retries=5, timeout=60)`, from Django 6.1 on.

    Attributes:
        max_retries: Runs after the first failed one, 0 to 100. Default: the backend's option MAX_RETRIES.
        timeout: Seconds that one run may take, 1 to 86400. Default: the backend's option TIMEOUT.
    """

    max_retries: int | None = None
    timeout: int | None = None

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        declared_queues.setdefault(self.backend, set()).add(self.queue_name)


class SpooledBackend(BaseTaskBackend):
    """Keeps tasks in Spooled.

    OPTIONS:
        MAX_RETRIES: Runs after the first failed one, 0 to 100. Default: the queue's own, usually 3. With 0 a task runs
            once, and is lost to the dead letters when its worker dies.
        TIMEOUT: Seconds that one run may take. Default: the queue's own, usually 300.
        TAGS: Tags of every job.
    """

    task_class = SpooledTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Put a task on its queue: one request. What a receiver of `task_enqueued` raises is logged.

        Raises:
            InvalidTask: The task does not suit the backend.
            TypeError: An argument has no JSON form, or is a model instance.
            ValueError: An argument is beyond JSON, such as NaN.
            SpooledError: As `client.jobs.create`.
        """
        result, parameters = self._prepare(task, args, kwargs)
        _note_enqueued(result, get_client().jobs.create(**parameters))
        try:
            task_enqueued.send_robust(type(self), task_result=result)
        except Exception:
            # Not a receiver's own error, which Django has logged; and the job is there.
            logger.exception("task_enqueued could not be sent for %s (%s)", task.module_path, result.id)
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Put a task on its queue, on the asynchronous client of the running loop. Otherwise as `enqueue`."""
        result, parameters = self._prepare(task, args, kwargs)
        _note_enqueued(result, await get_async_client().jobs.create(**parameters))
        try:
            await task_enqueued.asend_robust(type(self), task_result=result)
        except Exception:
            logger.exception("task_enqueued could not be sent for %s (%s)", task.module_path, result.id)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return what became of a task: two requests, and two for each copy that took its job's place.

        Raises:
            TaskResultDoesNotExist: There is no such job, or not any more; it is no task; or its code is gone.
            SpooledError: As `client.jobs.get`.
        """
        client = get_client()
        chain = Chain(result_id)
        while chain.wanted is not None:
            try:
                job = client.jobs.get(chain.wanted)
            except NotFoundError as error:
                raise chain.missing() from error
            try:
                history = list(client.jobs.iterate_history(job.id))
            except NotFoundError:
                history = []  # the server is older than this endpoint
            chain.add(job, history)
        return self._restore(chain)

    async def aget_result(self, result_id: str) -> Any:
        """Return what became of a task, on the asynchronous client of the running loop. Otherwise as `get_result`."""
        client = get_async_client()
        chain = Chain(result_id)
        while chain.wanted is not None:
            try:
                job = await client.jobs.get(chain.wanted)
            except NotFoundError as error:
                raise chain.missing() from error
            try:
                history = [event async for event in client.jobs.iterate_history(job.id)]
            except NotFoundError:
                history = []  # the server is older than this endpoint
            chain.add(job, history)
        return self._restore(chain)

    def check(self, **kwargs: Any) -> list[Any]:
        """Return what is wrong with the entry of `settings.TASKS`."""
        found: list[Any] = list(super().check(**kwargs))
        found += [
            checks.Error(
                f"TASKS[{self.alias!r}]['OPTIONS'] has no option {name!r}.",
                hint=f"It may have {', '.join(OPTIONS)}.",
                id="spooled.E010",
            )
            for name in self.options
            if name not in OPTIONS
        ]
        for name in self.queues:
            try:
                JobDefinition(name)
            except (TypeError, ValueError) as error:
                found.append(checks.Error(f"TASKS[{self.alias!r}]['QUEUES']: {error}.", id="spooled.E011"))
        return found

    def _prepare(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        self.validate_task(task)
        given_args: list[Any] = json_form(list(args), "args")
        given_kwargs: dict[str, Any] = json_form(kwargs, "kwargs")
        result: Any = TaskResult(
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=given_args,
            kwargs=given_kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        retries, timeout = getattr(task, "max_retries", None), getattr(task, "timeout", None)
        run_after = task.run_after
        if run_after is not None and timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after, timezone.get_default_timezone())
        parameters = {
            "queue_name": task.queue_name,
            "payload": {
                "job_type": task.module_path,
                "backend": self.alias,
                "args": given_args,
                "kwargs": given_kwargs,
            },
            "priority": int(task.priority),
            "scheduled_at": run_after,
            "max_retries": self.options.get("MAX_RETRIES") if retries is None else retries,
            "timeout_seconds": self.options.get("TIMEOUT") if timeout is None else timeout,
            "tags": self.options.get("TAGS"),
        }
        return result, {name: value for name, value in parameters.items() if value is not None}

    def _restore(self, chain: Chain) -> Any:
        first, last = chain.parts[0].job, chain.parts[-1].job
        payload = first.payload
        if not is_task(payload) or payload["backend"] != self.alias:
            raise TaskResultDoesNotExist(chain.task_id)
        try:
            task = _load(payload["job_type"])
        except ImportError as error:
            raise TaskResultDoesNotExist(f"{chain.task_id}: {error}") from error
        runs = [run for part in chain.parts for run in _runs(part)]
        status = _STATUS.get(last.status, TaskResultStatus.READY)
        if chain.parts[-1].note is not None:
            # Nothing follows, and it was not done.
            status = TaskResultStatus.FAILED
        result: Any = TaskResult(
            task=with_values(
                task, priority=first.priority, queue_name=first.queue_name, run_after=first.scheduled_at
            ),
            id=chain.task_id,
            status=status,
            enqueued_at=first.created_at,
            started_at=runs[0][0] if runs else None,
            finished_at=_finished_at(chain.parts[-1]) if status in _FINISHED else None,
            last_attempted_at=runs[-1][0] if runs else None,
            args=payload["args"],
            kwargs=payload["kwargs"],
            backend=self.alias,
            errors=[error for part in chain.parts for error in _errors(part)],
            worker_ids=[worker_id for _, worker_id in runs],
        )
        if status is TaskResultStatus.SUCCESSFUL:
            set_values(result, _return_value=returned(last.result))
        return result


def _note_enqueued(result: Any, answer: CreateJobResponse) -> None:
    set_values(result, id=answer.id, enqueued_at=timezone.now())


def _runs(part: Part) -> list[tuple[dt.datetime | None, str]]:
    """Return when each run of a job began, and the worker that it ran on."""
    runs: list[tuple[dt.datetime | None, str]] = [
        (event.created_at, _worker_of(event))
        for event in part.history
        if event.event_type in ("processing", "claimed")
    ]
    job = part.job
    if not runs and job.started_at is not None:
        # The history is kept for a shorter time than the job, and older servers have none.
        runs = [(job.started_at, "unknown")] * job.retry_count
        if job.status != "pending":
            runs.append((job.started_at, job.assigned_worker_id or "unknown"))
    return runs


def _errors(part: Part) -> list[Any]:
    """Return the error of each failed run of a job."""
    texts = [
        str(event.details.get("error"))
        for event in part.history
        if event.event_type in ("retry_scheduled", "deadlettered", "failed")
        and isinstance(event.details, Mapping)
        and event.details.get("error")
    ]
    if not texts and part.job.last_error:
        texts = [part.job.last_error]
    errors = [_read_error(text) for text in texts]
    if part.note is not None and part.note.outcome == "discarded":
        errors.append(_read_error(part.note.reason, DISCARDED))
    elif part.note is not None and part.note.outcome == "retried":
        errors.append(_read_error(part.note.reason, RETRIED))
    return errors


def _finished_at(part: Part) -> dt.datetime | None:
    if part.job.completed_at is not None:
        return part.job.completed_at
    return part.history[-1].created_at if part.history else part.job.updated_at


def _worker_of(event: JobHistoryEvent) -> str:
    details = event.details if isinstance(event.details, Mapping) else {}
    return str(event.worker_id or details.get("worker_id") or "unknown")
