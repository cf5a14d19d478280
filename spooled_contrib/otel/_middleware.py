"""The worker's side: a `process <queue>` span for each run of a job, and the measurements of the conventions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, TracerProvider

from spooled import __version__
from spooled.worker import JobContext
from spooled.worker.control import JobControl
from spooled.worker.middleware import AckInfo, ClaimInfo, Middleware, acks_are_told
from spooled_contrib.otel import _conventions as names
from spooled_contrib.otel._payload import split

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds; the ones that the conventions advise for messaging durations."""


@dataclass(slots=True, eq=False)
class _Run:
    span: Span
    ended: bool = False
    failed: bool = False


class OpenTelemetryMiddleware(Middleware):
    """Traces and measures the jobs of a worker.

    Each run of a job has a span `process <queue>` of kind CONSUMER, which is current while the handler runs. It links
    to the span that sent the job and, unless `new_trace` is set, is its child, so that one trace shows both. The
    payload's `TRACE_KEY` is taken out before the handler sees the payload.

    Args:
        tracer_provider: Default: OpenTelemetry's global one.
        meter_provider: Default: OpenTelemetry's global one.
        new_trace: Begin a trace for each run and only link to the sender's. For jobs that run hours after they
            were sent, or that one request sends by the thousand: such traces are hard to read as one.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        new_trace: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, __version__, tracer_provider)
        self._new_trace = new_trace
        meter = metrics.get_meter(names.SCOPE, __version__, meter_provider)
        self._process_duration = meter.create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of running a job's handler.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._request_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            unit="s",
            description="Duration of asking for jobs.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", unit="{message}", description="Jobs that were claimed."
        )
        # Runs whose ack is still to come. An aborted one leaves when it ends, for its ack may have come before it
        # began.
        self._runs: dict[JobContext[Any], _Run] = {}

    def claimed(self, claim: ClaimInfo) -> None:
        """Measure the request. It has no span: an idle worker would send one a second, about nothing."""
        attributes = names.attributes(claim.queue_name, "claim", "receive")
        if claim.error is not None:
            attributes[names.ERROR_TYPE] = names.error_type(claim.error)
        self._request_duration.record(claim.seconds, attributes)
        if claim.jobs:
            self._consumed.add(claim.jobs, attributes)

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        """The span of one run."""
        ctx.payload, carrier = split(ctx.payload)
        # Not the current context: a coroutine handler would inherit the span in which the worker was started.
        base = propagate.extract(carrier, context=Context())
        sender = trace.get_current_span(base).get_span_context()
        attributes = names.attributes(ctx.queue_name, "process", "process")
        span = self._tracer.start_span(
            f"process {ctx.queue_name}",
            context=trace.set_span_in_context(INVALID_SPAN, base) if self._new_trace else base,
            kind=SpanKind.CONSUMER,
            links=[Link(sender)] if sender.is_valid else [],
            attributes={**attributes, names.MESSAGE_ID: ctx.job_id, "spooled.job.attempt": ctx.attempt},
        )
        run = _Run(span)
        if acks_are_told():
            self._runs[ctx] = run
        started = time.perf_counter()
        token = otel_context.attach(trace.set_span_in_context(span, base))
        try:
            yield
        except JobControl as decision:
            # Not a fault: the handler has decided what becomes of its job.
            span.set_attribute("spooled.job.control", type(decision).__name__.lower())
            span.set_attribute("spooled.job.control.reason", decision.reason)
            raise
        except BaseException as error:
            run.failed = True
            attributes[names.ERROR_TYPE] = names.error_type(error)
            names.record_error(span, error)
            raise
        finally:
            otel_context.detach(token)
            if ctx.signal.is_set():
                self._runs.pop(ctx, None)
                attributes.setdefault(names.ERROR_TYPE, "aborted")
                span.set_attribute("spooled.job.aborted", True)
                if not run.failed:
                    span.set_attribute(names.ERROR_TYPE, "aborted")
                    span.set_status(
                        Status(StatusCode.ERROR, "the job was aborted and what its handler returned ignored")
                    )
            self._process_duration.record(time.perf_counter() - started, attributes)
            run.ended = True
            span.end()

    def acked(self, ack: AckInfo) -> None:
        """Record what the run's own span cannot know: that the server did not take its outcome."""
        run = self._runs.pop(ack.context, None)
        if run is None:
            return
        if ack.outcome == "accepted":
            if ack.operation == "complete" or run.failed:
                return
            kind, text = "job_failed", ack.error or "the job failed"
        else:
            kind = "lease_lost" if ack.outcome == "lost" else f"ack_{ack.outcome}"
            text = ack.answer or kind
        if not run.ended:
            run.span.add_event(kind, {"spooled.operation": ack.operation, "spooled.answer": text})
            return
        settle = self._tracer.start_span(
            f"{ack.operation} {ack.queue_name}",
            context=trace.set_span_in_context(run.span, Context()),
            kind=SpanKind.CLIENT,
            attributes={
                **names.attributes(ack.queue_name, ack.operation, "settle"),
                names.MESSAGE_ID: ack.job_id,
                names.ERROR_TYPE: kind,
            },
        )
        settle.set_status(Status(StatusCode.ERROR, text))
        settle.end()
