"""`@job`: jobs as functions in any installed app's `jobs.py`."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from django.db import models, transaction
from django.utils.module_loading import autodiscover_modules

from spooled.definition import OMITTED, EnqueueOptions, JobDefaults, JobDefinition, definition_of
from spooled.errors import ValidationError
from spooled.models import CreateJobResponse
from spooled.worker import AsyncJobContext, JobContext
from spooled.worker.signature import signature_of
from spooled_contrib.django import conf
from spooled_contrib.django._client import get_async_client, get_client

P = TypeVar("P")
R = TypeVar("R", covariant=True)
S = ParamSpec("S")

KEY_LIMIT = 255
"""Characters of an idempotency key (contract api-v1 §3.2)."""


@dataclass(slots=True)
class PendingEnqueue:
    """A job that is sent when a transaction commits.

    Attributes:
        idempotency_key: Finds the job afterwards; made here unless one was given.
        job_id: Its id, once it was sent from this process. It stays None with the outbox, and after a rollback.
    """

    idempotency_key: str
    job_id: str | None = field(default=None)


class Job(Generic[P, S, R]):
    """A function that runs in a worker, and the ways to have it run.

    Calling it calls the function, here and now.

    Attributes:
        definition: Queue, job type, payload type and defaults.
        concurrency: How many of the queue's jobs run at the same time in one process, or None.
        function: What was decorated.
    """

    def __init__(
        self, function: Callable[..., Any], definition: JobDefinition[P], concurrency: int | None
    ) -> None:
        self.signature = signature_of(function)
        for parameter in self.signature.others:
            if parameter.default is parameter.empty:
                raise TypeError(
                    f"{self.signature.name} has a parameter {parameter.name!r} that nothing fills: a job takes its "
                    "payload or its context; put several values into one payload, such as a dataclass"
                )
        self.definition = definition
        self.concurrency = concurrency
        self.function = function
        functools.update_wrapper(self, function)

    @property
    def queue_name(self) -> str:
        """The queue that it is enqueued on."""
        return self.definition.queue_name

    @property
    def job_type(self) -> str | None:
        """What tells it from other jobs of its queue; None when it takes them all."""
        return self.definition.job_type

    @property
    def path(self) -> str:
        """Where the function is."""
        return f"{self.function.__module__}.{self.signature.name}"

    @overload
    def enqueue(
        self: Job[None, ..., Any], payload: None = None, **options: Unpack[EnqueueOptions]
    ) -> CreateJobResponse: ...
    @overload
    def enqueue(self, payload: P, **options: Unpack[EnqueueOptions]) -> CreateJobResponse: ...
    def enqueue(self, payload: Any = OMITTED, **options: Unpack[EnqueueOptions]) -> CreateJobResponse:
        """Put a job on the queue now, whatever becomes of the transaction. Contract: api-v1 §3.2.

        Args:
            payload: As the function declares it. No model instances: pass primary keys.
            options: `priority` (-100 to 100, larger first), `delay` (seconds or a timedelta) or `scheduled_at`,
                `idempotency_key`, `expires_at`, `max_retries`, `timeout_seconds`, `tags`, ...

        Returns:
            The job's id, and `created=False` when the idempotency key was known.

        Raises:
            PayloadError: The payload does not fit the function's type.
            TypeError: There is a model instance in it.
            ImproperlyConfigured: There is no API key.
            SpooledError: As `client.jobs.create`.
        """
        return get_client().jobs.create(**self.parameters(payload, options))

    @overload
    async def aenqueue(
        self: Job[None, ..., Any], payload: None = None, **options: Unpack[EnqueueOptions]
    ) -> CreateJobResponse: ...
    @overload
    async def aenqueue(self, payload: P, **options: Unpack[EnqueueOptions]) -> CreateJobResponse: ...
    async def aenqueue(self, payload: Any = OMITTED, **options: Unpack[EnqueueOptions]) -> CreateJobResponse:
        """As `enqueue`, for coroutines: on the asynchronous client of the running loop."""
        parameters = self.parameters(payload, options)
        return await get_async_client().jobs.create(**parameters)

    @overload
    def enqueue_on_commit(
        self: Job[None, ..., Any],
        payload: None = None,
        *,
        using: str | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> PendingEnqueue: ...
    @overload
    def enqueue_on_commit(
        self, payload: P, *, using: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> PendingEnqueue: ...
    def enqueue_on_commit(
        self, payload: Any = OMITTED, *, using: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> PendingEnqueue:
        """Put a job on the queue when the current transaction commits, and not at all when it does not.

        With `SPOOLED["OUTBOX"]` the job is a row of the same transaction, and the worker sends it: exactly one job
        for each row, also when this process dies after the commit. Without, it is sent after the commit by this
        process, and lost if that dies or the server cannot be reached; the log says so then.

        Args:
            payload: As for `enqueue`; it is checked now.
            using: The database alias of the transaction. Default: the default one.
            options: As for `enqueue`. A `delay` counts from now.

        Raises:
            PayloadError: The payload does not fit the function's type.
            TypeError: There is a model instance in it.
            ValidationError: The idempotency key breaks a rule (contract api-v1 §3.2).
        """
        promised = PendingEnqueue(_checked_key(options.get("idempotency_key")))
        options["idempotency_key"] = promised.idempotency_key
        parameters = self.parameters(payload, options)
        if conf.current().outbox:
            from spooled_contrib.django._outbox_table import put

            put(parameters, using)
            return promised

        def send() -> None:
            promised.job_id = get_client().jobs.create(**parameters).id

        # Robust: the transaction is committed, and what follows it must not be undone by our failure.
        transaction.on_commit(send, using=using, robust=True)
        return promised

    def parameters(self, payload: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `client.jobs.create` takes."""
        _refuse_models(payload, "payload")
        return self.definition.parameters(payload, **options)

    def run(self, ctx: JobContext[Any]) -> Any:
        """Call the function as a worker does. Awaiting what a coroutine function returns runs it."""
        ctx.payload = self.definition.read(ctx.payload)
        first = {"context": (ctx,), "payload": (ctx.payload,), "nothing": ()}[self.signature.first]
        return self.function(*first, **dict.fromkeys(self.signature.contexts, ctx))

    def __call__(self, first: P | JobContext[P], /, *args: S.args, **kwargs: S.kwargs) -> R:
        """Call the function itself."""
        result: R = self.function(first, *args, **kwargs)
        return result

    def __repr__(self) -> str:
        kind = "" if self.job_type is None else f" job_type={self.job_type!r}"
        return f"<Job {self.path} queue_name={self.queue_name!r}{kind}>"


class Registrar(Protocol):
    """What `job(...)` returns: the decorator."""

    @overload
    def __call__(self, function: Callable[Concatenate[AsyncJobContext[P], S], R], /) -> Job[P, S, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[P, S], R], /) -> Job[P, S, R]: ...
    @overload
    def __call__(self, function: Callable[[], R], /) -> Job[None, [], R]: ...


def job(
    queue_name: str,
    job_type: str | None = None,
    *,
    concurrency: int | None = None,
    **defaults: Unpack[JobDefaults],
) -> Registrar:
    """Register a function, plain or coroutine, for the jobs of a queue. Use it as a decorator.

    Its first parameter is the payload, or the job's context (`JobContext[Invoice]`), or there is none. Plain functions
    run in threads, coroutines on the worker's event loop. What the function returns becomes the job's result; an
    exception fails the job, which is retried.

    Args:
        queue_name: The queue (contract api-v1 §3.2).
        job_type: For several kinds of jobs on one queue; travels as `job_type` in the payload.
        concurrency: How many jobs of the queue run at the same time in one process, 1 to 100. `SPOOLED["QUEUES"]`
            comes before it, `SPOOLED["CONCURRENCY"]` after it.
        defaults: `priority`, `max_retries`, `timeout_seconds` and `tags` of jobs that are enqueued here.

    Raises:
        TypeError: A parameter cannot be filled, or an annotation cannot be resolved.
        ValueError: A name or number breaks a rule.
    """

    def register(function: Callable[..., Any]) -> Job[Any, ..., Any]:
        definition = definition_of(signature_of(function), queue_name, job_type, defaults)
        made: Job[Any, ..., Any] = Job(function, definition, _checked(concurrency))
        registry.add(made)
        return made

    return register  # type: ignore[return-value] # the overloads say what the implementation does


class Registry:
    """The jobs of this process, in the order in which they were declared."""

    def __init__(self) -> None:
        # `autodiscover_modules` puts this back when a module is broken.
        self._registry: dict[str, Job[Any, ..., Any]] = {}

    def add(self, new: Job[Any, ..., Any]) -> None:
        # By its path, so that a module that is loaded again replaces its jobs.
        self._registry[new.path] = new

    def discover(self) -> list[Job[Any, ..., Any]]:
        """Import the modules that declare jobs, of all installed apps.

        Raises:
            Exception: What a broken module raises.
        """
        autodiscover_modules(*conf.current().job_modules, register_to=self)
        return list(self._registry.values())

    def duplicates(self) -> list[tuple[Job[Any, ..., Any], Job[Any, ..., Any]]]:
        """Pairs of jobs that want the same queue and type."""
        taken: dict[tuple[str, str | None], Job[Any, ..., Any]] = {}
        pairs = []
        for one in self._registry.values():
            other = taken.setdefault((one.queue_name, one.job_type), one)
            if other is not one:
                pairs.append((other, one))
        return pairs


registry = Registry()


def describe_duplicate(first: Job[Any, ..., Any], second: Job[Any, ..., Any]) -> str:
    """Return what is wrong with two such jobs."""
    what = "all other jobs" if first.job_type is None else f"jobs of type {first.job_type!r}"
    return f"{first.path} and {second.path} both take {what} of queue {first.queue_name!r}"


def _checked_key(key: object) -> str:
    """Return the key, or a new one; refuse here, with its traceback, what the server would refuse after the commit."""
    if key is None:
        return uuid.uuid4().hex
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LIMIT:
        length = f" of {len(key)} characters" if isinstance(key, str) else ""
        raise ValidationError(
            f"idempotency_key must be text of 1 to {KEY_LIMIT} characters, got {str(key)[:40]!r}{length}",
            hint="Nothing was enqueued. Shorten the key, for example by a hash of it.",
        )
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"idempotency_key must be text that UTF-8 can encode: {error}") from None
    return key


def _checked(concurrency: int | None) -> int | None:
    given: object = concurrency
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"concurrency must be a whole number, got {given!r}")
    if not 1 <= given <= 100:
        raise ValueError(f"concurrency must be from 1 to 100, got {given!r}")
    return given


def _refuse_models(value: object, where: str) -> None:
    if isinstance(value, models.Model):
        name = type(value).__name__
        raise TypeError(
            f"{where} holds the {name} instance {value.pk!r}; pass its primary key and load it in the job, "
            f"as it is then: {name.lower()}.pk"
        )
    if isinstance(value, models.QuerySet):
        raise TypeError(f"{where} holds a QuerySet of {value.model.__name__}; pass a list of primary keys")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_models(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for index, item in enumerate(value):
            _refuse_models(item, f"{where}[{index}]")
