"""Run Django Tasks in a worker: the part that Django leaves to backends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.dispatch import Signal
from django.utils import timezone

from spooled.worker import AsyncSpooledWorker, Discard, Fail, JobContext, JobControl, Retry, SpooledWorker
from spooled_contrib.django._task_chain import as_result
from spooled_contrib.django._task_errors import error_text, task_error
from spooled_contrib.django._task_json import result_form
from spooled_contrib.django._task_names import (
    TaskContext,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_finished,
    task_started,
)
from spooled_contrib.django._task_payload import _load, continued, is_task, origin, set_values, with_values

logger = logging.getLogger("spooled.django")


class TaskRunner:
    """Runs tasks in a worker.

    `task_finished` is sent when a task has succeeded, or has failed and will not run again. A run that will be
    repeated has not finished the task, and neither has one that was cut off: by a time-out, a lost lease, or the end
    of its worker.
    """

    def __init__(self, worker: SpooledWorker | AsyncSpooledWorker) -> None:
        self._worker = worker

    def run(self, ctx: JobContext[Any]) -> Any:
        """Run one task: the handler of its queue. Coroutine tasks run by asgiref's rules, in the same thread.

        Raises:
            Fail: The task has raised; it is run again while there are retries left.
            Discard: It has returned what cannot be kept. It is not run again, which would only do its work twice.
            JobControl: What the task itself has raised.
        """
        payload = ctx.payload
        if not is_task(payload):
            raise ValueError(
                f"job {ctx.job_id} on {ctx.queue_name} is neither a task nor of a type that a @job takes"
            )
        task = _load(payload["job_type"])
        task_id, before = origin(payload, ctx.job_id)
        runs = before + ctx.retry_count + 1
        ctx.reenqueue_payload = continued(payload, task_id, runs)
        now = timezone.now()
        result: Any = TaskResult(
            task=with_values(task, queue_name=ctx.queue_name),
            id=task_id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=None,
            started_at=now,
            finished_at=None,
            last_attempted_at=now,
            args=payload["args"],
            kwargs=payload["kwargs"],
            backend=payload["backend"],
            errors=[],
            # Those that ran it before are not known here, only how often.
            worker_ids=["unknown"] * (runs - 1) + [self._worker.worker_id or "unknown"],
        )
        backend = type(task_backends[payload["backend"]])
        _send(task_started, backend, result)
        context: tuple[Any, ...] = (TaskContext(task_result=result),) if task.takes_context else ()
        try:
            value = task.call(*context, *result.args, **result.kwargs)
        except JobControl as control:
            # The task itself says what is to become of it.
            if isinstance(control, Discard) or (isinstance(control, Retry) and _is_last_run(ctx)):
                _failed(ctx, backend, result, control)
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if _is_last_run(ctx):
                _failed(ctx, backend, result, error)
            raise Fail(error_text(error, task_error(error))) from error
        try:
            form = result_form(value)
        except Exception as error:
            logger.error(
                "task %s (job %s) has run, but cannot be finished, and is not run again: %s",
                payload["job_type"],
                ctx.job_id,
                error,
            )
            _failed(ctx, backend, result, error)
            raise Discard(error_text(error, task_error(error))) from error
        set_values(result, _return_value=form, finished_at=timezone.now(), status=TaskResultStatus.SUCCESSFUL)
        _finished(ctx, backend, result)
        return as_result(form)


def _is_last_run(ctx: JobContext[Any]) -> bool:
    return ctx.retry_count >= ctx.max_retries


def _failed(ctx: JobContext[Any], backend: type, result: Any, error: BaseException) -> None:
    result.errors.append(task_error(error))
    set_values(result, finished_at=timezone.now(), status=TaskResultStatus.FAILED)
    _finished(ctx, backend, result)


def _finished(ctx: JobContext[Any], backend: type, result: Any) -> None:
    # When the job was aborted meanwhile, this run counts for nothing, and another one may follow.
    if not ctx.signal.is_set():
        _send(task_finished, backend, result)


def _send(signal: Signal, backend: type, result: Any) -> None:
    """Send a signal. A receiver that raises is logged, and the task is what it would be without it."""
    try:
        signal.send_robust(backend, task_result=result)
    except (Exception, SystemExit, asyncio.CancelledError):
        # Django catches and logs most, but not those that are no Exception, nor what happens between receivers.
        logger.exception("sending a signal of task %s (%s) failed", result.task.module_path, result.id)
