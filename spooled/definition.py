"""What a kind of job is: its queue, its type, its payload. Producers and workers agree on it.

Adapters build their `@job` decorators on this: one definition makes the parameters of `client.jobs.create` and reads
the payload back in the worker.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypedDict, TypeVar, Unpack

from spooled._http._fields import JOB
from spooled._http._rules import body
from spooled.codec import PayloadCodec, PayloadError
from spooled.worker._options import check_queue_name
from spooled.worker.signature import HandlerSignature

__all__ = ["OMITTED", "EnqueueOptions", "JobDefaults", "JobDefinition", "PayloadError", "definition_of"]

P = TypeVar("P")


class _Omitted:
    """Stands for a payload that was not given. None is a payload."""

    def __repr__(self) -> str:
        return "OMITTED"


OMITTED: Final[Any] = _Omitted()


class JobDefaults(TypedDict, total=False):
    """What a kind of job is enqueued with unless the caller says otherwise; see `AsyncJobs.create` for limits."""

    priority: int | None
    max_retries: int | None
    timeout_seconds: int | None
    tags: object


class EnqueueOptions(JobDefaults, total=False):
    """How one job is enqueued; see `AsyncJobs.create` for what each means and its limits.

    `delay`, in seconds or as a timedelta, is another way to say `scheduled_at`; give one of them. What is None
    counts as not given.
    """

    delay: float | timedelta | None
    scheduled_at: datetime | timedelta | None
    expires_at: datetime | timedelta | None
    idempotency_key: str | None
    parent_job_id: str | None
    completion_webhook: str | None
    completion_webhook_secret: str | None


@dataclass(frozen=True)
class JobDefinition(Generic[P]):
    """One kind of job.

    Attributes:
        queue_name: Its queue (contract api-v1 §3.2).
        job_type: What tells it from other kinds on the same queue: sent as `job_type` in the payload, which must be a
            JSON object then. None for a queue with one kind of job.
        payload_type: The payload's type: any annotation that pydantic or msgspec can read from JSON, such as a model,
            `list[Model]`, a dataclass, TypedDict, msgspec Struct or attrs class. None for anything with a JSON form.
        defaults: Options that every job of this kind gets.
        default: The payload of a job that is enqueued without one. Default: None, JSON's null.

    Raises:
        TypeError: `queue_name` or `job_type` is no text, there is no default of that name, the payload's type cannot
            be read from JSON, or it has a field of its own that is called `job_type`.
        ValueError: They break a rule of the contract.
    """

    queue_name: str
    job_type: str | None = None
    payload_type: Any = None
    defaults: JobDefaults = field(default_factory=JobDefaults)
    default: Any = OMITTED
    _codec: PayloadCodec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_queue_name(self.queue_name)
        given: object = self.job_type
        if given is not None and (not isinstance(given, str) or not given):
            raise TypeError(f"job_type must be text with at least one character, got {given!r}")
        for name in self.defaults:
            if name not in JobDefaults.__annotations__:
                known = ", ".join(sorted(JobDefaults.__annotations__))
                raise TypeError(f"a job has no default {name!r}; it may have {known}")
        _check_options({**self.defaults})
        codec = PayloadCodec(self.payload_type, self.job_type)
        codec.check_job_type()
        object.__setattr__(self, "_codec", codec)

    def parameters(self, payload: P = OMITTED, **options: Unpack[EnqueueOptions]) -> dict[str, Any]:
        """Return what `client.jobs.create(...)` takes to enqueue this.

        All of it is checked here, so that the caller who made a mistake is told of it, and not the worker. The payload
        is read back as the worker will read it, and must be what was given.

        Raises:
            PayloadError: The payload does not fit the type, or would not arrive as it is; it is a ValueError.
            TypeError: An option is unknown, or a typed job's payload is no object.
            ValueError: Both `delay` and `scheduled_at` are given.
            ValidationError: An option breaks a rule of the contract, or JSON cannot say the payload.
        """
        chosen: dict[str, Any] = {**self.defaults}
        for name, value in options.items():
            if name not in _OPTIONS:
                raise TypeError(f"enqueue has no option {name!r}; it has {', '.join(sorted(_OPTIONS))}")
            if value is not None:
                chosen[name] = value
        delay = chosen.pop("delay", None)
        if delay is not None:
            if chosen.get("scheduled_at") is not None:
                raise ValueError("give either delay or scheduled_at, not both")
            chosen["scheduled_at"] = _delay(delay)
        sent = self._sent(payload)
        _check_options({**chosen, "payload": sent})
        return {"queue_name": self.queue_name, "payload": sent, **chosen}

    def read(self, payload: object) -> P:
        """Return the payload of a claimed job in its own type.

        Raises:
            PayloadError: It does not fit.
        """
        try:
            return self._codec.load(payload)  # type: ignore[no-any-return]
        except PayloadError:
            if payload is None and self.default is not OMITTED:
                return self.default  # type: ignore[no-any-return]
            raise

    def _sent(self, payload: object) -> object:
        if payload is OMITTED:
            payload = None if self.default is OMITTED else self.default
        try:
            return self._codec.dump(payload)
        except PayloadError as error:
            if payload is None and self.default is not OMITTED:
                return self._sent(self.default)
            named = "" if self.job_type is None else f" {self.job_type!r}"
            raise PayloadError(f"a job{named} for queue {self.queue_name!r}: {error}") from error.__cause__


def definition_of(
    signature: HandlerSignature, queue_name: str, job_type: str | None, defaults: JobDefaults
) -> JobDefinition[Any]:
    """Return the definition of the job that a function with this signature runs.

    Raises:
        TypeError: As `JobDefinition`, with the function's name.
        ValueError: As `JobDefinition`.
    """
    default = OMITTED if signature.default is inspect.Parameter.empty else signature.default
    try:
        return JobDefinition(queue_name, job_type, signature.payload_type, defaults, default)
    except TypeError as error:
        raise TypeError(f"{signature.name}: {error}") from error


_OPTIONS = frozenset(EnqueueOptions.__annotations__) | frozenset(JobDefaults.__annotations__)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what the server would refuse, with the client's own rules."""
    body(JOB, **options)


def _delay(delay: object) -> timedelta:
    if isinstance(delay, timedelta):
        return delay
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"delay must be a number of seconds or a timedelta, got {delay!r}")
    return timedelta(seconds=delay)
