"""The producer's side: `send <queue>` spans, and their context in the payloads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast, overload

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

from spooled import AsyncSpooledClient, SpooledClient, __version__
from spooled_contrib.otel import _conventions as names
from spooled_contrib.otel._payload import inject_trace_context

F = TypeVar("F", bound=Callable[..., Any])


class TracedJobs:
    """The calls of `client.jobs` that create jobs, each with a `send <queue>` span that the workers' spans belong to.

    Arguments, results and errors are those of the client. All else stays with `client.jobs`.
    """

    def __init__(self, client: SpooledClient, *, tracer_provider: TracerProvider | None = None) -> None:
        tracer = _tracer(tracer_provider)
        self.create = _sending(client.jobs.create, tracer)
        self.create_and_get = _sending(client.jobs.create_and_get, tracer)
        self.bulk_enqueue = _sending(client.jobs.bulk_enqueue, tracer)


class AsyncTracedJobs:
    """`TracedJobs` for an `AsyncSpooledClient`."""

    def __init__(self, client: AsyncSpooledClient, *, tracer_provider: TracerProvider | None = None) -> None:
        tracer = _tracer(tracer_provider)
        self.create = _sending_async(client.jobs.create, tracer)
        self.create_and_get = _sending_async(client.jobs.create_and_get, tracer)
        self.bulk_enqueue = _sending_async(client.jobs.bulk_enqueue, tracer)


@overload
def traced(client: SpooledClient, *, tracer_provider: TracerProvider | None = None) -> TracedJobs: ...
@overload
def traced(
    client: AsyncSpooledClient, *, tracer_provider: TracerProvider | None = None
) -> AsyncTracedJobs: ...
def traced(
    client: SpooledClient | AsyncSpooledClient, *, tracer_provider: TracerProvider | None = None
) -> TracedJobs | AsyncTracedJobs:
    """Return what to create jobs with, so that they carry the current trace: `traced(client).create(...)`.

    The client itself is not changed. A job that is not a JSON object gets its span, but cannot carry the context.

    Args:
        client: Sends the jobs.
        tracer_provider: Default: OpenTelemetry's global one.
    """
    if isinstance(client, AsyncSpooledClient):
        return AsyncTracedJobs(client, tracer_provider=tracer_provider)
    if isinstance(client, SpooledClient):
        return TracedJobs(client, tracer_provider=tracer_provider)
    raise TypeError(f"traced() needs a SpooledClient or AsyncSpooledClient, got {type(client).__name__}")


def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer(names.SCOPE, __version__, provider)


def _sending(call: F, tracer: Tracer) -> F:
    def send(*args: Any, **keywords: Any) -> Any:
        with _span(tracer, *args, **keywords) as (span, args, keywords):
            answer = call(*args, **keywords)
            _note(span, answer)
            return answer

    return cast("F", send)


def _sending_async(call: F, tracer: Tracer) -> F:
    async def send(*args: Any, **keywords: Any) -> Any:
        with _span(tracer, *args, **keywords) as (span, args, keywords):
            answer = await cast("Awaitable[Any]", call(*args, **keywords))
            _note(span, answer)
            return answer

    return cast("F", send)


@contextmanager
def _span(
    tracer: Tracer, *args: Any, **keywords: Any
) -> Iterator[tuple[Span, tuple[Any, ...], dict[str, Any]]]:
    """A span, and the call's arguments with its context in them. Wrong arguments are the client's to complain about."""
    mapping = args[-1] if args else keywords.get("params")
    given: Mapping[str, Any] = mapping if isinstance(mapping, Mapping) else keywords
    queue_name = given.get("queue_name")
    label = queue_name if isinstance(queue_name, str) else "(unknown)"
    with tracer.start_as_current_span(
        f"send {label}",
        kind=SpanKind.PRODUCER,
        attributes=names.attributes(label, "send", "send"),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        filled = dict(given)
        if "payload" in given:
            filled["payload"] = inject_trace_context(given["payload"])
        if "jobs" in given and not isinstance(given["jobs"], str | bytes | Mapping):
            try:
                filled["jobs"] = [_with_context(job) for job in given["jobs"]]
            except TypeError:  # not iterable
                pass
            else:
                span.set_attribute(names.BATCH_COUNT, len(filled["jobs"]))
        try:
            if given is keywords:
                yield span, args, filled
            elif args:
                yield span, (*args[:-1], filled), keywords
            else:
                yield span, args, {**keywords, "params": filled}
        except BaseException as error:
            names.record_error(span, error)
            raise


def _with_context(job: Any) -> Any:
    if isinstance(job, Mapping) and "payload" in job:
        return {**job, "payload": inject_trace_context(job["payload"])}
    return job


def _note(span: Span, answer: Any) -> None:
    job_id = getattr(answer, "id", None)
    if isinstance(job_id, str):
        span.set_attribute(names.MESSAGE_ID, job_id)
    if getattr(answer, "created", True) is False:
        span.set_attribute("spooled.job.created", False)
    refused = getattr(answer, "failure_count", 0)
    if refused:
        span.set_attribute("spooled.batch.refused_count", refused)
