"""Tasks in Celery's manner without Celery: the same decorators, the same messages, Spooled's worker.

    app = TaskApp("shop", broker="spooled://:sp_live_...@api.spooled.cloud")

    @app.task(bind=True, autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
    def send_mail(self, to): ...

    send_mail.delay("ada@example.org")

    worker = SpooledWorker(SpooledClient(), app.queue_name(), concurrency=10)
    worker.process(app.handler())

Producers and workers of this module and of Celery understand one another (Celery's message protocol 2), in both
directions. What is left out: groups, chords, callbacks and errbacks; a message that has any of these fails with an
error that says so. Chains that Celery has sent are gone through to their end.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import socket
import time
import traceback as tracebacks
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import ContentDisallowed
from kombu.utils import json as _kombu_json

from spooled import SpooledError
from spooled.worker import FallbackResult, JobContext
from spooled_contrib.kombu._connection_manager import ConnectionManager
from spooled_contrib.kombu._envelope import TASK, Message, message_of, moment, parameters, task_fields
from spooled_contrib.kombu._names import to_spooled
from spooled_contrib.kombu._registry import Share
from spooled_contrib.kombu._results import (
    JSON,
    READY,
    ResultRefusedError,
    decoded,
    described,
    failure,
    look_up,
    shortened,
    stored,
    told,
)
from spooled_contrib.kombu._url import Address, masked, parse

__all__ = [
    "AsyncResult",
    "MaxRetriesExceededError",
    "RetryError",
    "TaskApp",
    "TaskFailedError",
    "shared_task",
]

kombu_json: Any = _kombu_json  # has no types

logger = logging.getLogger("spooled.kombu")


class RetryError(Exception):
    """Raised by `self.retry(...)` to end this run; another is enqueued already."""


class MaxRetriesExceededError(Exception):
    """A task has asked for one retry too many."""


class TaskFailedError(Exception):
    """`result.get()` of a task that has failed: the error's type, its text and the traceback.

    Attributes:
        traceback: Where it was raised, as text.
    """

    def __init__(self, text: str, traceback: str | None) -> None:
        super().__init__(text)
        self.traceback = traceback


@dataclass(frozen=True)
class TaskRequest:
    """What a bound task knows of its own run: `self.request`."""

    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    retries: int
    hostname: str
    root_id: str | None
    parent_id: str | None
    delivery_info: Mapping[str, Any]
    headers: Mapping[str, Any] = field(repr=False)
    chain: Sequence[Any] = field(default=(), repr=False)
    priority: int | None = None


class Task:
    """A function that can be sent: `task.delay(...)`. Calling it runs it here and now.

    Attributes:
        name: What messages call it.
        max_retries: Retries before it has failed for good; None for no limit.
    """

    def __init__(self, app: TaskApp, function: Callable[..., Any], name: str, options: _Options) -> None:
        self.app = app
        self.name = name
        self.function = function
        self.max_retries = options.max_retries
        self._options = options
        self.__doc__ = function.__doc__

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Send it with these arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: dt.datetime | None = None,
        expires: float | dt.datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        task_id: str | None = None,
    ) -> AsyncResult:
        """Send it.

        Args:
            args: Positional arguments; anything with a JSON form.
            kwargs: Keyword arguments.
            countdown: Seconds until it may run.
            eta: When it may run; an aware datetime.
            expires: Seconds, or the time, after which it must not begin any more.
            queue: Default: the task's, else the app's.
            priority: 0 to 9, larger first.
            task_id: Default: a new one.

        Raises:
            ValueError: `eta` or `expires` has no time zone.
            SpooledError: The server cannot be reached, or refuses it.
        """
        now = dt.datetime.now(dt.UTC)
        headers = {
            "id": task_id or str(uuid.uuid4()),
            "eta": _moment("eta", eta if countdown is None else now + dt.timedelta(seconds=countdown)),
            "expires": _moment(
                "expires",
                now + dt.timedelta(seconds=expires) if isinstance(expires, int | float) else expires,
            ),
            "ignore_result": self._options.ignore_result,
        }
        where = queue or self._options.queue or self.app.default_queue
        return self.app._send(self.name, list(args), dict(kwargs or {}), headers, where, priority)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self._bound(None), *args, **kwargs)

    def _bound(self, request: TaskRequest | None) -> tuple[Any, ...]:
        return (BoundTask(self, request),) if self._options.bind else ()

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class BoundTask:
    """`self` of a task with `bind=True`."""

    def __init__(self, task: Task, request: TaskRequest | None) -> None:
        self.task = task
        self.name = task.name
        self.max_retries = task.max_retries
        self.request = request or TaskRequest(
            str(uuid.uuid4()), (), {}, 0, socket.gethostname(), None, None, {}, {}
        )

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        eta: dt.datetime | None = None,
        max_retries: int | None = None,
    ) -> RetryError:
        """Send the task again and end this run: `raise self.retry(...)`.

        Args:
            exc: Why; raised when there are no retries left.
            countdown: Seconds until then. Default: the task's `default_retry_delay`, 180.
            eta: The time, in place of it.
            max_retries: In place of the task's own.

        Raises:
            RetryError: Always, unless there are no retries left.
            MaxRetriesExceededError: There are none left, and no `exc`.
        """
        limit = self.max_retries if max_retries is None else max_retries
        request = self.request
        if limit is not None and request.retries >= limit:
            raise exc or MaxRetriesExceededError(f"{self.name}[{request.id}] has had its {limit} retries")
        if eta is None:
            seconds = self.task._options.default_retry_delay if countdown is None else countdown
            eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        headers = {**request.headers, "eta": _moment("eta", eta), "retries": request.retries + 1}
        queue = str(request.delivery_info.get("routing_key") or self.task.app.default_queue)
        self.task.app._send(
            self.name,
            list(request.args),
            dict(request.kwargs),
            headers,
            queue,
            request.priority,
            chain=request.chain,
        )
        raise RetryError(f"again at {eta.isoformat()}") from exc


@dataclass(frozen=True)
class _Options:
    bind: bool = False
    queue: str | None = None
    max_retries: int | None = 3
    default_retry_delay: float = 180.0
    autoretry_for: tuple[type[BaseException], ...] = ()
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    ignore_result: bool = False


class TaskApp:
    """Declares tasks, sends them, and runs them.

    Args:
        name: In front of the names of tasks whose module is `__main__`.
        broker: A `spooled://` URL, as Celery's; see docs/celery.md.
        default_queue: Where tasks go. Default: `celery`, as Celery's.
    """

    def __init__(self, name: str = "app", *, broker: str, default_queue: str = "celery") -> None:
        self.name = name
        self.default_queue = default_queue
        self.tasks: dict[str, Task] = {}
        self._broker = broker
        self._address: Address = parse(broker)
        self._share = Share(lambda: self._address)
        for function, options in _shared:
            self._declare(function, options)
        _apps.append(self)

    def task(
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
    ) -> Any:
        """Declare a task: `@app.task`, or with options `@app.task(bind=True, ...)`.

        Args:
            function: The function.
            name: What messages call it. Default: `module.function`.
            options: `bind`, `queue`, `max_retries` (3; None for no limit), `default_retry_delay` (180 s),
                `autoretry_for`, `retry_backoff`, `retry_backoff_max` (600 s), `retry_jitter` (True), `ignore_result`.

        Raises:
            TypeError: An option is unknown.
        """
        chosen = {"name": name, **options}
        _options(chosen)
        if function is not None:
            return self._declare(function, chosen)
        return lambda decorated: self._declare(decorated, chosen)

    def queue_name(self, queue: str | None = None) -> str:
        """Return the name of a queue in Spooled, for `SpooledWorker`. Default: the app's own queue."""
        return to_spooled(f"{self._address.options.prefix}{queue or self.default_queue}")

    def handler(self) -> Callable[[JobContext[Any]], object]:
        """Return what runs this app's tasks: `worker.process(app.handler())`."""
        return self._run

    def close(self) -> None:
        """Let go of the connections; the app can be used again."""
        self._share.release()

    def _declare(self, function: Callable[..., Any], options: Mapping[str, Any]) -> Task:
        module = function.__module__
        name = options.get("name") or f"{self.name if module == '__main__' else module}.{function.__name__}"
        known = self.tasks.get(name)
        if known is not None and known.function is not function:
            raise ValueError(f"there is a task {name!r} already; give one of them another name")
        task = self.tasks[name] = Task(self, function, name, _options(options))
        return task

    @property
    def manager(self) -> ConnectionManager:
        """The connection of this process."""
        return self._share.manager

    def _send(
        self,
        name: str,
        args: list[Any],
        kwargs: dict[str, Any],
        headers: Mapping[str, Any],
        queue: str,
        priority: int | None,
        *,
        chain: Sequence[Any] = (),
    ) -> AsyncResult:
        task_id = headers["id"]
        embed = {"callbacks": None, "errbacks": None, "chain": list(chain) or None, "chord": None}
        message: Message = {
            "body": kombu_json.dumps([args, kwargs, embed]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "shadow": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": task_id,
                "parent_id": None,
                "argsrepr": repr(args),
                "kwargsrepr": repr(kwargs),
                "origin": f"{os.getpid()}@{socket.gethostname()}",
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
                **headers,
                "task": name,
            },
            "properties": {
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": priority or 0,
                "body_encoding": "utf-8",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
        job = parameters(self.queue_name(queue), message, self._address.options.redeliveries)
        ignored = bool(headers.get("ignore_result"))
        if not ignored:
            # Its result has to say that it expired, so a worker has to see it.
            job.pop("expires_at", None)
        self.manager.call(lambda client: client.jobs.create(**job))
        return AsyncResult(task_id, app=self, ignored=ignored)

    # --- running ----------------------------------------------------------------------------------------------

    def _run(self, ctx: JobContext[Any]) -> object:
        fields = task_fields(ctx.payload)
        if not fields.get("id"):
            raise ValueError(f"job {ctx.job_id} is no task of this app: it names {fields.get('task')!r}")
        message = message_of(ctx.payload, redelivered=ctx.retry_count > 0, tag=ctx.lease_id)
        try:
            request, name = _request(message, fields)
        except ContentDisallowed as error:
            logger.error("job %s is a task that cannot be read here: %s", ctx.job_id, error)
            return failure(fields["id"], error)
        task = self.tasks.get(name)
        if task is None:
            logger.error("job %s is no task of this app: it names %r", ctx.job_id, name)
            unknown = described("NotRegistered", "celery.exceptions", name)
            return _meta(request, "FAILURE", unknown, None)
        expires = moment(request.headers.get("expires"))
        if expires is not None and expires < dt.datetime.now(dt.UTC):
            expired = described("TaskRevokedError", "celery.exceptions", "expired")
            return _meta(request, "REVOKED", expired, None)
        try:
            value = task.function(*task._bound(request), *request.args, **request.kwargs)
        except RetryError:
            return {"celery": {"state": "RETRY"}}
        except Exception as error:
            if self._retries_by_itself(task, request, error):
                return {"celery": {"state": "RETRY"}}
            return _failed(request, error)
        if request.chain:
            self._go_on(request, value)
        if request.headers.get("ignore_result", task._options.ignore_result):
            return None
        try:
            return _meta(request, "SUCCESS", value, None)
        except Exception as error:  # whatever the result's own objects do when they are encoded
            return _failed(request, error)

    def _retries_by_itself(self, task: Task, request: TaskRequest, error: Exception) -> bool:
        options = task._options
        if not isinstance(error, options.autoretry_for):
            return False
        delay = options.default_retry_delay
        if options.retry_backoff:
            factor = 1.0 if options.retry_backoff is True else float(options.retry_backoff)
            delay = min(options.retry_backoff_max, factor * 2**request.retries)
            if options.retry_jitter:
                delay = random.uniform(0, delay)  # noqa: S311 - spreads retries, guards nothing
        try:
            BoundTask(task, request).retry(exc=error, countdown=delay)
        except RetryError:
            return True
        except Exception:
            return False
        return False

    def _go_on(self, request: TaskRequest, value: Any) -> None:
        """Send the next link of a chain that Celery has made."""
        *rest, link = request.chain
        args = list(link["args"]) if link.get("immutable") else [value, *link["args"]]
        options = link.get("options") or {}
        headers = {
            "id": options.get("task_id") or str(uuid.uuid4()),
            "root_id": request.root_id or request.id,
            "parent_id": request.id,
        }
        queue = str(options.get("queue") or options.get("routing_key") or self.default_queue)
        self._send(
            link["task"], args, dict(link["kwargs"]), headers, queue, options.get("priority"), chain=rest
        )

    def __repr__(self) -> str:
        return f"<TaskApp {self.name} {masked(self._broker)}>"


class AsyncResult:
    """What becomes of a task. Each look at it takes two requests.

    Attributes:
        id: The task's id.
        ignored: Whether the task keeps no result.
    """

    def __init__(self, task_id: str, *, app: TaskApp, ignored: bool = False) -> None:
        self.id = task_id
        self.ignored = ignored
        self._app = app

    @property
    def status(self) -> str:
        """`PENDING`, `STARTED`, `RETRY`, `SUCCESS`, `FAILURE` or `REVOKED`."""
        return str(self._look()["status"])

    def ready(self) -> bool:
        """Return whether it has ended."""
        return self.status in READY

    def get(self, timeout: float | None = None, interval: float = 0.2) -> Any:
        """Wait for the result; None at once for a task that keeps none.

        Args:
            timeout: Seconds; None for no limit.
            interval: Seconds between two looks.

        Raises:
            TaskFailedError: The task has failed, or was cancelled.
            TimeoutError: It has not ended in time.
        """
        if self.ignored:
            return None
        give_up_at = None if timeout is None else time.monotonic() + timeout
        while (meta := self._look())["status"] not in READY:
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise TimeoutError(
                    f"task {self.id} has not ended within {timeout:g} s; it is {meta['status']}"
                )
            time.sleep(interval)
        if meta["status"] != "SUCCESS":
            raise TaskFailedError(_text_of(meta), meta.get("traceback"))
        return meta["result"]

    def _look(self) -> Mapping[str, Any]:
        return decoded(self._app.manager.call(lambda client: look_up(client, self.id)), _decoded)

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"


def shared_task(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
) -> Any:
    """Return a task of every `TaskApp` of the process; sent by the one that was made last.

    Raises:
        TypeError: An option is unknown.
    """
    chosen = {"name": name, **options}
    _options(chosen)

    def declare(decorated: Callable[..., Any]) -> SharedTask:
        _shared.append((decorated, chosen))
        for app in _apps:
            app._declare(decorated, chosen)
        return SharedTask(decorated)

    return declare if function is None else declare(function)


class SharedTask:
    """A task of whichever app there is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def _task(self) -> Task:
        for app in reversed(_apps):
            for task in app.tasks.values():
                if task.function is self._function:
                    return task
        raise RuntimeError("there is no TaskApp yet that could send this task")


_shared: list[tuple[Callable[..., Any], Mapping[str, Any]]] = []
_apps: list[TaskApp] = []


def _options(given: Mapping[str, Any]) -> _Options:
    chosen = {name: value for name, value in given.items() if name != "name"}
    for name in chosen:
        if name not in _Options.__dataclass_fields__:
            raise TypeError(
                f"a task has no option {name!r}; it has {', '.join(_Options.__dataclass_fields__)}"
            )
    if "autoretry_for" in chosen:
        chosen["autoretry_for"] = tuple(chosen["autoretry_for"])
    return _Options(**chosen)


def _request(message: Message, fields: Mapping[str, Any]) -> tuple[TaskRequest, str]:
    """Return what a message asks for, in Celery's protocol 2 or 1, and the task's name.

    Raises:
        ContentDisallowed: It is not JSON.
        ValueError: It has what only Celery's worker understands.
    """
    headers: Mapping[str, Any] = message.get("headers") or {}
    if message.get("content-type") != JSON:
        raise ContentDisallowed(f"only JSON is read here, and this message is {message.get('content-type')}")
    if headers.get("compression"):
        raise ContentDisallowed(
            f"this message is compressed with {headers['compression']}, which is not read here"
        )
    body = message["body"]
    properties = message["properties"]
    if properties.get("body_encoding") == "base64":
        import base64

        body = base64.b64decode(body)
    read = kombu_json.loads(body)
    if TASK in properties and isinstance(read, Mapping):
        args, kwargs, embed = read.get("args") or (), read.get("kwargs") or {}, read
        headers = {name: read.get(name) for name in ("id", "task", "retries", "expires", "group")}
    else:
        args, kwargs, embed = read
    for name in ("callbacks", "errbacks", "chord"):
        if embed.get(name):
            raise ValueError(
                f"this message has {name}, which only Celery's own worker and celery_handler understand"
            )
    request = TaskRequest(
        id=fields["id"],
        args=args,
        kwargs=kwargs,
        retries=int(headers.get("retries") or 0),
        hostname=socket.gethostname(),
        root_id=headers.get("root_id"),
        parent_id=headers.get("parent_id"),
        delivery_info=properties["delivery_info"],
        headers=headers,
        chain=embed.get("chain") or (),
        priority=properties.get("priority"),
    )
    return request, str(headers.get("task"))


def _meta(request: TaskRequest, status: str, result: Any, traceback: str | None) -> FallbackResult:
    """Return a result as Celery's backends write it, so that Celery's `AsyncResult` reads it.

    Raises:
        Exception: The result has no JSON form.
    """
    meta = {
        **told(status, result),
        "traceback": None if traceback is None else shortened(traceback),
        "date_done": dt.datetime.now(dt.UTC).isoformat(),
        "task_id": request.id,
    }
    content = kombu_json.dumps(meta)

    def instead(error: SpooledError) -> object:
        return failure(request.id, ResultRefusedError.of(len(content), error))

    return FallbackResult(stored(content), instead)


def _failed(request: TaskRequest, error: BaseException) -> FallbackResult:
    kind = type(error)
    reason = described(kind.__name__, kind.__module__, shortened(str(error)))
    return _meta(request, "FAILURE", reason, "".join(tracebacks.format_exception(error)))


def _decoded(content: str | bytes, content_type: str) -> Mapping[str, Any]:
    if content_type != JSON:
        raise ValueError(f"only JSON is read here, and this result is {content_type}")
    meta: Mapping[str, Any] = kombu_json.loads(content)
    return meta


def _text_of(meta: Mapping[str, Any]) -> str:
    result = meta.get("result")
    if not isinstance(result, Mapping):
        return str(meta["status"])
    message = result.get("exc_message")
    words = ", ".join(str(word) for word in message) if isinstance(message, list | tuple) else str(message)
    return f"{result.get('exc_type')}: {words}"


def _moment(name: str, value: dt.datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, got {value!r}")
    return value.isoformat()
