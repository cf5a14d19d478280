"""What a kind of job is: its queue, its type, its payload. Producers and workers agree on it.

Adapters build their `@job` decorators on this: one definition makes the parameters of `client.jobs.create` and reads
the payload back in the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from spooled._http._json import json_form
from spooled.worker._options import check_queue_name
from spooled.worker._routing import JOB_TYPE, PayloadError, read_payload

__all__ = ["EnqueueOptions", "JobDefaults", "JobDefinition", "PayloadError"]

P = TypeVar("P")


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
        payload_type: The payload's type: a pydantic model, dataclass, TypedDict, msgspec Struct, attrs class or any
            type that msgspec can check. None for anything that has a JSON form.
        defaults: Options that every job of this kind gets.

    Raises:
        TypeError: `queue_name` or `job_type` is no text, or there is no default of that name.
        ValueError: They break a rule of the contract.
    """

    queue_name: str
    job_type: str | None = None
    payload_type: Any = None
    defaults: JobDefaults = field(default_factory=JobDefaults)

    def __post_init__(self) -> None:
        check_queue_name(self.queue_name)
        given: object = self.job_type
        if given is not None and (not isinstance(given, str) or not given):
            raise TypeError(f"job_type must be text with at least one character, got {given!r}")
        for name in self.defaults:
            if name not in JobDefaults.__annotations__:
                known = ", ".join(sorted(JobDefaults.__annotations__))
                raise TypeError(f"a job has no default {name!r}; it may have {known}")

    def parameters(self, payload: P, **options: Unpack[EnqueueOptions]) -> dict[str, Any]:
        """What `client.jobs.create(...)` takes to enqueue this.

        The payload is checked here, so that the one who made the mistake hears of it, and not the worker.

        Raises:
            PayloadError: The payload does not fit the type; it is a ValueError.
            TypeError: An option is unknown, or a typed job's payload is no object.
            ValueError: Both `delay` and `scheduled_at` are given.
        """
        chosen: dict[str, Any] = {**self.defaults}
        for name, value in options.items():
            if name not in EnqueueOptions.__annotations__ and name not in JobDefaults.__annotations__:
                known = ", ".join(sorted({**EnqueueOptions.__annotations__, **JobDefaults.__annotations__}))
                raise TypeError(f"enqueue has no option {name!r}; it has {known}")
            if value is not None:
                chosen[name] = value
        delay = chosen.pop("delay", None)
        if delay is not None:
            if chosen.get("scheduled_at") is not None:
                raise ValueError("give either delay or scheduled_at, not both")
            chosen["scheduled_at"] = _delay(delay)
        return {"queue_name": self.queue_name, "payload": self._sent(payload), **chosen}

    def read(self, payload: object) -> P:
        """The payload of a claimed job in its own type.

        Raises:
            PayloadError: It does not fit.
        """
        kind = self.payload_type
        if kind is None:
            return payload  # type: ignore[return-value] # there is nothing to check it against
        if self.job_type is not None and isinstance(payload, dict) and not _declares(kind, JOB_TYPE):
            # We have put it there; a type that forbids unknown members must not be refused for it.
            payload = {name: value for name, value in payload.items() if name != JOB_TYPE}
        return read_payload(payload, kind)  # type: ignore[no-any-return]

    def _sent(self, payload: object) -> object:
        form = json_form(payload, "payload")
        kind = self.payload_type
        if kind is not None and not (isinstance(kind, type) and _is_one(payload, kind)):
            read_payload(form, kind)
        if self.job_type is None:
            return form
        if form is None:
            form = {}
        if not isinstance(form, Mapping):
            raise TypeError(
                f"a job of type {self.job_type!r} needs a payload that is a JSON object, to hold its job_type; "
                f"got {type(payload).__name__}"
            )
        return {**form, JOB_TYPE: self.job_type}


def _delay(delay: object) -> timedelta:
    if isinstance(delay, timedelta):
        return delay
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"delay must be a number of seconds or a timedelta, got {delay!r}")
    return timedelta(seconds=delay)


def _is_one(value: object, kind: type) -> bool:
    try:
        # Containers are looked into: a list is no proof for what is in it.
        return isinstance(value, kind) and not isinstance(value, dict | list | tuple | set)
    except TypeError:
        return False  # a TypedDict


def _declares(kind: Any, name: str) -> bool:
    for attribute in ("model_fields", "__struct_fields__", "__dataclass_fields__", "__annotations__"):
        fields = getattr(kind, attribute, None)
        if fields:
            return name in fields
    # A plain mapping takes whatever is sent, except that what the producer did not send is not shown.
    return False
