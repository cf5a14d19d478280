"""An app's Celery tasks in a `SpooledWorker`, without Celery's worker.

    from spooled_contrib.kombu import to_spooled
    from spooled_contrib.kombu.bridge import handler

    worker = SpooledWorker(SpooledClient(), to_spooled("celery"), concurrency=10)
    worker.process(handler(app))

So a queue moves from Celery's workers to Spooled's by itself, and back; both may even work on it at the same time.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from celery.app.trace import trace_task
from celery.exceptions import Ignore, Reject
from kombu import serialization as _serialization

from spooled.worker import Discard, JobContext
from spooled_contrib.kombu._envelope import Message, message_of

logger = logging.getLogger("spooled.kombu")

serialization: Any = _serialization  # has no types


class NotATaskError(ValueError):
    """A job is no Celery task, or one that this app does not have."""


def handler(app: Celery, *, hostname: str | None = None) -> Callable[[JobContext[Any]], object]:
    """A handler that runs the app's tasks, for `worker.process(...)`.

    Retries, `bind=True`, `autoretry_for`, chains, callbacks, signals and the result backend are Celery's own: its
    tracer runs the task. A task that asks for a retry is published again by it, and the job is completed. A task that
    has failed for good completes its job with `{"spooled": {"outcome": "discarded", ...}}`, because Celery acks it
    too; `Reject(requeue=True)`, and a worker that dies, let Spooled run it again. A hard time limit is the job's
    time-out: the context's signal is set and the job fails, but a thread cannot be killed.

    Args:
        app: The Celery app. Its broker URL must be a `spooled://` one, so that retries come back here.
        hostname: What tasks see as `self.request.hostname`. Default: as Celery names workers.
    """
    app.finalize()
    name = hostname or f"spooled@{socket.gethostname()}"

    def run(ctx: JobContext[Any]) -> object:
        message = message_of(ctx.payload, redelivered=ctx.retry_count > 0, tag=ctx.lease_id)
        headers: Mapping[str, Any] = message.get("headers") or {}
        task = app.tasks.get(headers.get("task", ""))
        if task is None:
            raise NotATaskError(
                f"job {ctx.job_id} is no task of this app: it names {_named(headers)}; "
                "does the module that declares it get imported?"
            )
        args, kwargs, request = _request(app, message, headers, name)
        try:
            answer = trace_task(task, headers["id"], args, kwargs, request, app=app, hostname=name)
        except (Ignore, Reject) as error:
            return _set_aside(error)
        value, info = answer[0], answer[1]
        if info is None:
            return None if _is_elsewhere(task, headers) else value
        if isinstance(info.retval, Ignore | Reject):
            return _set_aside(info.retval)
        if info.state == "RETRY":
            return {"celery": {"state": "RETRY"}}
        raise Discard(f"the task has failed: {info.retval!r}")

    return run


def _request(
    app: Celery, message: Message, headers: Mapping[str, Any], hostname: str
) -> tuple[Any, Any, dict[str, Any]]:
    """What Celery's own worker makes of a message (protocol 2)."""
    properties = message["properties"]
    body = message["body"]
    if properties.get("body_encoding") == "base64":
        import base64

        body = base64.b64decode(body)
    args, kwargs, embed = serialization.loads(
        body,
        message["content-type"],
        message["content-encoding"],
        accept=serialization.prepare_accept_content(app.conf.accept_content),
    )
    request = {
        **headers,
        **embed,
        "args": args,
        "kwargs": kwargs,
        "hostname": hostname,
        "is_eager": False,
        "called_directly": False,
        "delivery_info": properties["delivery_info"],
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "worker_pid": os.getpid(),
    }
    return args, kwargs, request


def _named(headers: Mapping[str, Any]) -> str:
    return repr(headers["task"]) if headers.get("task") else "none"


def _set_aside(error: Exception) -> object:
    if isinstance(error, Reject) and error.requeue:
        raise error
    return {"celery": {"state": type(error).__name__.upper()}}


def _is_elsewhere(task: Any, headers: Mapping[str, Any]) -> bool:
    """Whether the result is of no interest, or in the app's own backend."""
    return bool(task.ignore_result or headers.get("ignore_result"))
