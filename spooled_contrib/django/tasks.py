"""Django Tasks on Spooled.

    TASKS = {"default": {"BACKEND": "spooled_contrib.django.tasks.SpooledBackend"}}

`manage.py spooled_worker` runs them, beside the jobs that `@job` declares.
"""

from __future__ import annotations

import datetime as dt
import traceback as tracebacks
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from django.core import checks
from django.utils import timezone
from django.utils.module_loading import import_string

from spooled import Job as SpooledJob
from spooled.definition import JobDefinition
from spooled.errors import NotFoundError
from spooled.models import CreateJobResponse, JobHistoryEvent
from spooled.worker import AsyncSpooledWorker, Fail, JobContext, JobControl, SpooledWorker
from spooled_contrib.django._client import get_async_client, get_client
from spooled_contrib.django._jobs import _refuse_models
from spooled_contrib.django._task_names import (
    BaseTaskBackend,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)

__all__ = ["SpooledBackend", "SpooledTask", "TaskRunner", "task_backends"]

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

_TRACEBACK_LIMIT = 1900
"""Characters of an error text that the server keeps are 2,048 (contract lifecycle §4); the first line needs some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledTask(Task):  # type: ignore[type-arg] # Django's own is not generic at run time
    """A task with options of its own: `@task(max_retries=5, timeout=60)`, from Django 6.1 on.

    Attributes:
        max_retries: Runs after the first failed one, 0 to 100. Default: the backend's option MAX_RETRIES.
        timeout: Seconds that one run may take, 1 to 86400. Default: the backend's option TIMEOUT.
    """

    max_retries: int | None = None
    timeout: int | None = None


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
        """Put a task on its queue: one request.

        Raises:
            InvalidTask: The task does not suit the backend.
            TypeError: An argument has no JSON form, or is a model instance.
            SpooledError: As `client.jobs.create`.
        """
        result, parameters = self._prepare(task, args, kwargs)
        return self._enqueued(result, get_client().jobs.create(**parameters))

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """As `enqueue`, on the asynchronous client of the running loop."""
        result, parameters = self._prepare(task, args, kwargs)
        return self._enqueued(result, await get_async_client().jobs.create(**parameters))

    def get_result(self, result_id: str) -> Any:
        """What became of a task: two requests.

        Raises:
            TaskResultDoesNotExist: There is no such job, it is no task, or its code is gone.
            SpooledError: As `client.jobs.get`.
        """
        client = get_client()
        try:
            return self._restore(client.jobs.get(result_id), client.jobs.history(result_id))
        except NotFoundError as error:
            raise TaskResultDoesNotExist(result_id) from error

    async def aget_result(self, result_id: str) -> Any:
        """As `get_result`, on the asynchronous client of the running loop."""
        client = get_async_client()
        try:
            return self._restore(await client.jobs.get(result_id), await client.jobs.history(result_id))
        except NotFoundError as error:
            raise TaskResultDoesNotExist(result_id) from error

    def check(self, **kwargs: Any) -> list[Any]:
        """What is wrong with the entry of `settings.TASKS`."""
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
        _refuse_models(list(args), "args")
        _refuse_models(kwargs, "kwargs")
        result: Any = TaskResult(
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=dict(kwargs),
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
                # Normalised by the result itself.
                "args": result.args,
                "kwargs": result.kwargs,
            },
            "priority": int(task.priority),
            "scheduled_at": run_after,
            "max_retries": self.options.get("MAX_RETRIES") if retries is None else retries,
            "timeout_seconds": self.options.get("TIMEOUT") if timeout is None else timeout,
            "tags": self.options.get("TAGS"),
        }
        return result, {name: value for name, value in parameters.items() if value is not None}

    def _enqueued(self, result: Any, answer: CreateJobResponse) -> Any:
        _set(result, id=answer.id, enqueued_at=timezone.now())
        task_enqueued.send(type(self), task_result=result)
        return result

    def _restore(self, job: SpooledJob, history: Sequence[JobHistoryEvent]) -> Any:
        payload = job.payload
        if not _is_task(payload) or payload["backend"] != self.alias:
            raise TaskResultDoesNotExist(job.id)
        try:
            task = _load(payload["job_type"])
        except ImportError as error:
            raise TaskResultDoesNotExist(f"{job.id}: {error}") from error
        runs = [event for event in history if event.event_type in ("processing", "claimed")]
        status = _STATUS.get(job.status, TaskResultStatus.READY)
        if status is TaskResultStatus.SUCCESSFUL and _was_discarded(job.result):
            status = TaskResultStatus.FAILED
        result: Any = TaskResult(
            task=_copy(task, priority=job.priority, queue_name=job.queue_name, run_after=job.scheduled_at),
            id=job.id,
            status=status,
            enqueued_at=job.created_at,
            started_at=runs[0].created_at if runs else job.started_at,
            finished_at=_finished_at(job, history) if status in _FINISHED else None,
            last_attempted_at=runs[-1].created_at if runs else job.started_at,
            args=payload["args"],
            kwargs=payload["kwargs"],
            backend=self.alias,
            errors=_errors(job, history),
            worker_ids=[_worker_of(event) for event in runs],
        )
        if status is TaskResultStatus.SUCCESSFUL:
            _set(result, _return_value=job.result)
        return result


_FINISHED = (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)


class TaskRunner:
    """Runs tasks in a worker: the part that Django leaves to backends.

    `task_finished` is sent when a task has succeeded, or has failed with no retries left: a run that will be repeated
    has not finished the task.
    """

    def __init__(self, worker: SpooledWorker | AsyncSpooledWorker) -> None:
        self._worker = worker

    def run(self, ctx: JobContext[Any]) -> Any:
        """The handler of a queue's tasks. Coroutine tasks run by asgiref's rules, in the same thread."""
        payload = ctx.payload
        if not _is_task(payload):
            raise ValueError(
                f"job {ctx.job_id} on {ctx.queue_name} is neither a task nor of a type that a @job takes"
            )
        task = _load(payload["job_type"])
        backend = type(task_backends[payload["backend"]])
        now = timezone.now()
        worker_id = self._worker.worker_id or "unknown"
        result: Any = TaskResult(
            task=_copy(task, queue_name=ctx.queue_name),
            id=ctx.job_id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=None,
            started_at=now,
            finished_at=None,
            last_attempted_at=now,
            args=payload["args"],
            kwargs=payload["kwargs"],
            backend=payload["backend"],
            errors=[],
            # Who ran it before is not known here, only how often.
            worker_ids=["unknown"] * ctx.retry_count + [worker_id],
        )
        task_started.send(backend, task_result=result)
        context: tuple[Any, ...] = (TaskContext(task_result=result),) if task.takes_context else ()
        try:
            value = task.call(*context, *result.args, **result.kwargs)
            _set(result, _return_value=_normalised(value))
        except JobControl:
            # Not over: it says itself what is to become of it.
            raise
        except BaseException as error:
            failed = _task_error(error)
            result.errors.append(failed)
            _set(result, finished_at=timezone.now(), status=TaskResultStatus.FAILED)
            if ctx.retry_count >= ctx.max_retries:
                task_finished.send(backend, task_result=result)
            raise Fail(_error_text(error, failed)) from error
        _set(result, finished_at=timezone.now(), status=TaskResultStatus.SUCCESSFUL)
        task_finished.send(backend, task_result=result)
        return result.return_value


def _is_task(payload: object) -> bool:
    return (
        isinstance(payload, Mapping)
        and {"job_type", "backend", "args", "kwargs"} <= set(payload)
        and isinstance(payload["job_type"], str)
        and payload["backend"] in task_backends.settings
        and isinstance(payload["args"], list)
        and isinstance(payload["kwargs"], Mapping)
    )


def _load(path: str) -> Any:
    """The task of that path.

    Raises:
        ImportError: There is none. Nothing but tasks is ever called for what a payload says.
    """
    found = import_string(path)
    if not isinstance(found, Task):
        raise ImportError(f"{path} is no task; was its @task decorator removed?")
    return found


def _copy(task: Any, **changes: Any) -> Any:
    """The task with other values, and without validating it: settings may have changed since it was enqueued."""
    made = object.__new__(type(task))
    for one in fields(task):
        object.__setattr__(made, one.name, changes.get(one.name, getattr(task, one.name)))
    return made


def _set(result: Any, **values: Any) -> None:
    # Results are frozen for users; Django's own backends change them in this way.
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _normalised(value: Any) -> Any:
    """`value` as JSON has it, so that it is here what it will be when it is read back.

    Raises:
        TypeError: It has no JSON form.
    """
    probe: Any = TaskResult(
        task=None,  # type: ignore[arg-type] # only what it does to its arguments is wanted
        id="",
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=[value],
        kwargs={},
        backend="",
        errors=[],
        worker_ids=[],
    )
    return probe.args[0]


def _task_error(error: BaseException) -> Any:
    kind = type(error)
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(tracebacks.format_exception(error)),
    )


def _error_text(error: BaseException, failed: Any) -> str:
    """What the server keeps: a line for people, and the end of the traceback, which says most."""
    line = f"{failed.exception_class_path}: {error}".partition("\n")[0][:200]
    trace = failed.traceback.strip()
    if len(line) + len(trace) > _TRACEBACK_LIMIT:
        trace = "…" + trace[-(_TRACEBACK_LIMIT - len(line)) :]
    return f"{line}\n\n{trace}"


def _errors(job: SpooledJob, history: Sequence[JobHistoryEvent]) -> list[Any]:
    texts = [
        str(event.details.get("error"))
        for event in history
        if event.event_type in ("retry_scheduled", "deadlettered", "failed")
        and isinstance(event.details, Mapping)
        and event.details.get("error")
    ]
    if not texts and job.last_error:
        texts = [job.last_error]
    return [_read_error(text) for text in texts]


def _read_error(text: str) -> Any:
    line, _, trace = text.partition("\n\n")
    path = line.partition(":")[0]
    if not trace or not path.replace(".", "").replace("_", "").isalnum():
        # Not ours: a lost lease, a time-out.
        return TaskError(exception_class_path="builtins.RuntimeError", traceback=text)
    return TaskError(exception_class_path=path, traceback=trace)


def _finished_at(job: SpooledJob, history: Sequence[JobHistoryEvent]) -> dt.datetime | None:
    if job.completed_at is not None:
        return job.completed_at
    return history[-1].created_at if history else job.updated_at


def _worker_of(event: JobHistoryEvent) -> str:
    details = event.details if isinstance(event.details, Mapping) else {}
    return str(event.worker_id or details.get("worker_id") or "unknown")


def _was_discarded(result: object) -> bool:
    told = result.get("spooled") if isinstance(result, Mapping) else None
    return isinstance(told, Mapping) and told.get("outcome") == "discarded"
