"""An app's Celery tasks in a `SpooledWorker`, without Celery's worker.

    from spooled_contrib.kombu import to_spooled
    from spooled_contrib.kombu.celery_handler import celery_handler

    worker = SpooledWorker(SpooledClient(), to_spooled("celery"), concurrency=10)
    worker.process(celery_handler(app))

So a queue moves from Celery's workers to Spooled's by itself, and back; both may even work on it at the same time.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, signals
from celery.app.task import Context
from celery.app.trace import trace_task
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, InvalidTaskError, NotRegistered, Reject
from kombu import serialization as _serialization
from kombu.compression import decompress as _decompress
from kombu.exceptions import ContentDisallowed, DecodeError

from spooled.worker import Discard, FallbackResult, JobContext
from spooled_contrib.kombu._envelope import Message, message_of, moment, task_fields
from spooled_contrib.kombu._results import HELD, REJECTED, slot

logger = logging.getLogger("spooled.kombu")

serialization: Any = _serialization  # has no types
decompress: Any = _decompress

UNREADABLE = (ContentDisallowed, DecodeError, InvalidTaskError)


class NotATaskError(ValueError):
    """A job is no Celery task, or one that this app does not have."""


def celery_handler(app: Celery, *, hostname: str | None = None) -> Callable[[JobContext[Any]], object]:
    """Return a handler that runs the app's tasks, for `worker.process(...)`.

    Retries, `bind=True`, `autoretry_for`, chains, callbacks, signals and the result backend are Celery's own: its
    tracer runs the task. A task that asks for a retry is published again by it, and the job is completed. A task that
    has failed for good completes its job, because Celery acks it too: with its result where the app's
    `result_backend` is `spooled://`, else with `{"spooled": {"outcome": "discarded", ...}}`. `Reject(requeue=True)`,
    and a worker that dies, let Spooled run it again. A hard time limit is the job's time-out: the context's signal is
    set and the job fails, but a thread cannot be killed.

    With a result backend, a task that the app does not know, or whose message it cannot read, fails at once, as in
    Celery's worker. Without one nothing but the job could tell: it fails, and ends as a dead letter.

    Args:
        app: The Celery app. Its broker URL must be a `spooled://` one, so that retries come back here.
        hostname: What tasks see as `self.request.hostname`. Default: as Celery names workers.
    """
    app.finalize()
    name = hostname or f"spooled@{socket.gethostname()}"

    def run(ctx: JobContext[Any]) -> object:
        fields = task_fields(ctx.payload)
        if not fields.get("id"):
            raise NotATaskError(f"job {ctx.job_id} is no task of this app: it names none")
        message = message_of(ctx.payload, redelivered=ctx.retry_count > 0, tag=ctx.lease_id)
        message["properties"][HELD] = {"job_id": ctx.job_id}
        app.set_current()  # of this thread: signatures in messages know no app of their own
        ended = None
        with slot(ctx.lease_id) as result:
            try:
                ended = _run(app, ctx, message, name)
            except Discard:
                if result.value is None:
                    raise
        if result.value is None:
            return ended
        return FallbackResult(result.value, result.instead)

    return run


def _run(app: Celery, ctx: JobContext[Any], message: Message, hostname: str) -> object:
    fields = task_fields(ctx.payload)
    try:
        headers, args, kwargs, embed = _decoded(app, message)
        task = app.tasks.get(headers["task"])
        if task is None:
            raise NotRegistered(headers["task"])
    except (NotRegistered, *UNREADABLE) as error:
        return _fail(app, ctx, fields, message, error)
    request = {
        **headers,
        **embed,
        "args": args,
        "kwargs": kwargs,
        "hostname": hostname,
        "is_eager": False,
        "called_directly": False,
        "properties": message["properties"],
        "delivery_info": message["properties"]["delivery_info"],
        "reply_to": message["properties"].get("reply_to"),
        "correlation_id": message["properties"].get("correlation_id"),
        "worker_pid": os.getpid(),
    }
    expires = moment(headers.get("expires"))
    if expires is not None and expires < dt.datetime.now(dt.UTC):
        return _expire(task, request)
    try:
        answer = trace_task(task, headers["id"], args, kwargs, request, app=app, hostname=hostname)
    except (Ignore, Reject) as error:
        return _set_aside(task, request, error)
    value, info = answer[0], answer[1]
    if info is None:
        return None if _ignores_result(task, request) else value
    if isinstance(info.retval, Ignore | Reject):
        return _set_aside(task, request, info.retval)
    if info.state == "RETRY":
        return {"celery": {"state": "RETRY"}}
    raise Discard(f"the task has failed: {info.retval!r}")


def _decoded(app: Celery, message: Message) -> tuple[Mapping[str, Any], Any, Any, Mapping[str, Any]]:
    """Return headers, arguments and what else is in the body, of Celery's message protocol 2 or 1.

    Raises:
        ContentDisallowed: The app does not accept this serializer.
        DecodeError: The body cannot be read.
        InvalidTaskError: It is no task.
    """
    headers, body = message.get("headers") or {}, message["body"]
    try:
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        if headers.get("compression"):
            body = decompress(body, headers["compression"])
    except Exception as error:
        raise DecodeError(f"the message is damaged: {error}") from error
    read = serialization.loads(
        body,
        message["content-type"],
        message["content-encoding"],
        accept=serialization.prepare_accept_content(app.conf.accept_content),
    )
    if isinstance(read, Mapping) and "args" in read:  # protocol 1
        embed = {name: read.get(name) for name in ("callbacks", "errbacks", "chord")}
        args, kwargs = read["args"], read.get("kwargs") or {}
        headers = {**{name: read[name] for name in read if name not in ("args", "kwargs")}, **headers}
    else:
        try:
            args, kwargs, embed = read
        except (TypeError, ValueError):
            raise InvalidTaskError("the body has no arguments") from None
    if not isinstance(kwargs, Mapping) or not isinstance(embed, Mapping | None):
        raise InvalidTaskError("the task's keyword arguments are no mapping")
    if not headers.get("task") or not headers.get("id"):
        raise InvalidTaskError("the message names no task")
    return headers, args, kwargs, embed or {}


def _fail(
    app: Celery, ctx: JobContext[Any], fields: Mapping[str, Any], message: Message, error: Exception
) -> object:
    """Let a task fail that cannot be run, as Celery's worker does."""
    named = fields.get("task") or "a task in its body"
    if isinstance(app.backend, DisabledBackend):
        if isinstance(error, NotRegistered):
            raise NotATaskError(
                f"job {ctx.job_id} is no task of this app: it names {named!r}; "
                "does the module that declares it get imported?"
            )
        raise error
    logger.error("job %s is task %s[%s], which cannot be run: %r", ctx.job_id, named, fields["id"], error)
    request = Context(
        {
            "id": fields["id"],
            "task": fields.get("task"),
            "root_id": fields.get("root_id"),
            "group": fields.get("group"),
            "properties": message["properties"],
            "delivery_info": message["properties"]["delivery_info"],
        }
    )
    app.backend.mark_as_failure(fields["id"], error, request=request)
    raise Discard(f"the task cannot be run: {error!r}")


def _expire(task: Any, request: Mapping[str, Any]) -> object:
    logger.info("task %s[%s] has expired", task.name, request["id"])
    context = Context(request)
    keeps = not _ignores_result(task, request) or task.store_errors_even_if_ignored
    task.backend.mark_as_revoked(request["id"], "expired", request=context, store_result=keeps)
    signals.task_revoked.send(sender=task, request=context, terminated=False, signum=None, expired=True)
    raise Discard("the task has expired")


def _set_aside(task: Any, request: Mapping[str, Any], error: Exception) -> object:
    if not isinstance(error, Reject):
        return {"celery": {"state": "IGNORE"}}
    if error.requeue:
        raise error
    if not _ignores_result(task, request):
        task.backend.mark_as_failure(request["id"], error, request=Context(request))
    return REJECTED


def _ignores_result(task: Any, request: Mapping[str, Any]) -> bool:
    told = request.get("ignore_result")
    return bool(task.ignore_result if told is None else told)
