"""`@router.job(...)`: jobs declared as functions, in as many modules as an application has."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from pydantic.fields import FieldInfo

from spooled import AsyncSpooledClient
from spooled.definition import OMITTED, EnqueueOptions, JobDefaults, JobDefinition, definition_of
from spooled.models import CreateJobResponse
from spooled.worker import AsyncJobContext, JobContext
from spooled.worker.signature import HandlerSignature, signature_of
from spooled_contrib.fastapi._dependencies import Dependencies, is_dependency

P = TypeVar("P")
R = TypeVar("R", covariant=True)
S = ParamSpec("S")
T = TypeVar("T")


class JobRuntime(Protocol):
    """What a job needs of the application that runs."""

    @property
    def client(self) -> AsyncSpooledClient:
        """The application's client."""

    def run_sync(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine function on the application's loop, from a thread."""


class Job(Generic[P, S, R]):
    """A function that runs in a worker, and the way to have it run: `await job.enqueue(payload)`.

    Calling it calls the function, here and now: for tests, and for code that wants no queue.

    Attributes:
        definition: Queue, job type, payload type and defaults.
        concurrency: How many of the queue's jobs run at the same time in one process, or None when this job leaves
            that to others on its queue.
        function: What was decorated.
    """

    def __init__(
        self, function: Callable[..., Any], definition: JobDefinition[P], concurrency: int | None
    ) -> None:
        self.signature = _signature_of(function)
        self.dependencies = Dependencies(self.signature.name, self.signature.others)
        self.definition = definition
        self.concurrency = concurrency
        self.function = function
        self._find_runtime: Callable[[], JobRuntime] | None = None
        functools.update_wrapper(self, function)

    @property
    def queue_name(self) -> str:
        """The queue that it is enqueued on."""
        return self.definition.queue_name

    @property
    def job_type(self) -> str | None:
        """What tells it from other jobs of its queue; None when it takes them all."""
        return self.definition.job_type

    @overload
    async def enqueue(
        self: Job[None, ..., Any], payload: None = None, **options: Unpack[EnqueueOptions]
    ) -> CreateJobResponse: ...
    @overload
    async def enqueue(self, payload: P, **options: Unpack[EnqueueOptions]) -> CreateJobResponse: ...
    async def enqueue(self, payload: Any = OMITTED, **options: Unpack[EnqueueOptions]) -> CreateJobResponse:
        """Put a job on the queue. Contract: api-v1 §3.2.

        Args:
            payload: As the function declares it.
            options: `priority` (-100 to 100, larger first), `delay` (seconds or a timedelta) or `scheduled_at`,
                `idempotency_key` (a second job with it is not created), `expires_at`, `max_retries`,
                `timeout_seconds`, `tags`, ...; see `AsyncJobs.create`.

        Returns:
            The job's id, and `created=False` when the idempotency key was known.

        Raises:
            PayloadError: The payload does not fit the function's type.
            RuntimeError: The application's lifespan is not running, so there are no connections.
            SpooledError: As `client.jobs.create`.
        """
        parameters = self.definition.parameters(payload, **options)
        answer: CreateJobResponse = await self._runtime().client.jobs.create(**parameters)
        return answer

    @overload
    def enqueue_sync(
        self: Job[None, ..., Any], payload: None = None, **options: Unpack[EnqueueOptions]
    ) -> CreateJobResponse: ...
    @overload
    def enqueue_sync(self, payload: P, **options: Unpack[EnqueueOptions]) -> CreateJobResponse: ...
    def enqueue_sync(self, payload: Any = OMITTED, **options: Unpack[EnqueueOptions]) -> CreateJobResponse:
        """As `enqueue`, from a thread: for endpoints and handlers that are plain functions.

        Raises:
            RuntimeError: It was called on the event loop, which it would block; or as for `enqueue`.
        """
        return self._runtime().run_sync(functools.partial(self.enqueue, payload, **options))

    def __call__(self, first: P | JobContext[P], /, *args: S.args, **kwargs: S.kwargs) -> R:
        """Call the function itself; dependencies are not filled in."""
        result: R = self.function(first, *args, **kwargs)
        return result

    def _runtime(self) -> JobRuntime:
        if self._find_runtime is None:
            raise RuntimeError(
                f"{self.signature.name} belongs to a JobRouter that no application uses; "
                "call spooled.include_router(...) with it"
            )
        return self._find_runtime()

    def __repr__(self) -> str:
        kind = "" if self.job_type is None else f" job_type={self.job_type!r}"
        return f"<Job {self.signature.name} queue_name={self.queue_name!r}{kind}>"


class Registrar(Protocol):
    """What `router.job(...)` returns: the decorator."""

    @overload
    def __call__(self, function: Callable[Concatenate[AsyncJobContext[P], S], R], /) -> Job[P, S, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[P, S], R], /) -> Job[P, S, R]: ...
    @overload
    def __call__(self, function: Callable[[], R], /) -> Job[None, [], R]: ...


class JobRouter:
    """Declares jobs apart from the application; `spooled.include_router(router)` brings them in.

    jobs = JobRouter()

    @jobs.job("emails", concurrency=10)
    async def send_welcome(mail: Welcome) -> None: ...
    """

    def __init__(self) -> None:
        self.jobs: list[Job[Any, ..., Any]] = []
        self._find_runtime: Callable[[], JobRuntime] | None = None
        self._included_in: list[JobRouter] = []

    def job(
        self,
        queue_name: str,
        job_type: str | None = None,
        *,
        concurrency: int | None = None,
        **defaults: Unpack[JobDefaults],
    ) -> Registrar:
        """Register a function, coroutine or plain, for the jobs of a queue. Use it as a decorator.

        Its first parameter is the payload, or the job's context (`AsyncJobContext[Email]`, in plain functions
        `JobContext[Email]`); it may also have none. All others are dependencies, as in endpoints.

        Coroutines run on the application's event loop, plain functions in threads of the worker's own. What the
        function returns becomes the job's result; an exception fails the job, which is retried.

        Args:
            queue_name: The queue (contract api-v1 §3.2).
            job_type: For several kinds of jobs on one queue; travels as `job_type` in the payload. Without it, the
                function gets all jobs of the queue that no other takes.
            concurrency: How many jobs of the queue run at the same time in one process, 1 to 100. Default 10. Say it
                at one of a queue's jobs, or the same at all.
            defaults: `priority`, `max_retries`, `timeout_seconds` and `tags` of jobs that are enqueued here.

        Raises:
            TypeError: A parameter cannot be filled, or a dependency needs an HTTP request.
            ValueError: The queue or the job type has a handler already, or two concurrencies.
        """

        def register(function: Callable[..., Any]) -> Job[Any, ..., Any]:
            definition = definition_of(_signature_of(function), queue_name, job_type, defaults)
            job: Job[Any, ..., Any] = Job(function, definition, concurrency)
            self._add([job])
            return job

        return register  # type: ignore[return-value] # the overloads say what the implementation does

    def include_router(self, router: JobRouter) -> None:
        """Take the jobs of another router, those it gets later included.

        Raises:
            ValueError: Two jobs want the same queue and type, or the routers include each other.
        """
        if router in (self, *self._parents()):
            raise ValueError("a router cannot include itself")
        self._add(router.jobs)
        router._included_in.append(self)

    def _add(self, jobs: Iterable[Job[Any, ..., Any]]) -> None:
        new = list(jobs)
        routers = [self, *self._parents()]
        for router in routers:
            _check([*router.jobs, *new])
        for router in routers:
            router.jobs.extend(new)
            if router._find_runtime is not None:
                for job in new:
                    job._find_runtime = router._find_runtime

    def _parents(self) -> Iterable[JobRouter]:
        for parent in self._included_in:
            yield parent
            yield from parent._parents()


DEFAULT_CONCURRENCY = 10


def concurrencies(jobs: Iterable[Job[Any, ..., Any]]) -> dict[str, int]:
    """Return how many jobs of each queue run at the same time."""
    found: dict[str, int] = {}
    for job in jobs:
        if job.concurrency is not None:
            found[job.queue_name] = job.concurrency
        else:
            found.setdefault(job.queue_name, 0)
    return {queue: number or DEFAULT_CONCURRENCY for queue, number in found.items()}


def _check(jobs: list[Job[Any, ..., Any]]) -> None:
    taken: dict[tuple[str, str | None], Job[Any, ..., Any]] = {}
    limits: dict[str, Job[Any, ..., Any]] = {}
    for job in jobs:
        other = taken.setdefault((job.queue_name, job.job_type), job)
        if other is not job:
            what = "all other jobs" if job.job_type is None else f"jobs of type {job.job_type!r}"
            raise ValueError(
                f"{job.signature.name} and {other.signature.name} both take {what} of queue {job.queue_name!r}; "
                'give one of them a job type of its own: @spooled.job("queue", "type")'
            )
        if job.concurrency is None:
            continue
        if isinstance(job.concurrency, bool) or not isinstance(job.concurrency, int):
            raise TypeError(f"concurrency must be a whole number, got {job.concurrency!r}")
        if not 1 <= job.concurrency <= 100:
            raise ValueError(f"concurrency must be from 1 to 100, got {job.concurrency!r}")
        first = limits.setdefault(job.queue_name, job)
        if first.concurrency != job.concurrency:
            raise ValueError(
                f"queue {job.queue_name!r} has concurrency {first.concurrency} by {first.signature.name} and "
                f"{job.concurrency} by {job.signature.name}; say it once"
            )


def _signature_of(function: Callable[..., Any]) -> HandlerSignature:
    """Read a function's parameters; `payload: Item = Body(...)` as an endpoint's parameter is read.

    Raises:
        TypeError: The first parameter is a dependency.
    """
    signature = signature_of(function)
    if signature.first == "payload" and _is_filled(function, signature.payload_type):
        raise TypeError(
            f"the first parameter of {signature.name} is a dependency; put the payload or the job's context "
            "first, as in (ctx: AsyncJobContext, ...)"
        )
    default = signature.default
    if not isinstance(default, FieldInfo):
        return signature
    return dataclasses.replace(
        signature,
        payload_type=Annotated[signature.payload_type or Any, default],
        default=inspect.Parameter.empty
        if default.is_required()
        else default.get_default(call_default_factory=True),
    )


def _is_filled(function: Callable[..., Any], payload_type: Any) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()))
    return is_dependency(first.replace(annotation=payload_type))
