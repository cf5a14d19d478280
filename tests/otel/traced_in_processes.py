"""A worker whose handlers are traced in child processes, which import this module."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spooled import SpooledClient
from spooled.worker import SpooledWorker
from spooled_contrib.otel import OpenTelemetryMiddleware

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
middleware = OpenTelemetryMiddleware(tracer_provider=provider)
worker = SpooledWorker(
    SpooledClient(), "emails", isolation="process", concurrency=1, poll_interval=0.05, middleware=[middleware]
)


@worker.process
def handle(ctx: Any) -> dict[str, Any]:
    return {
        "payload": ctx.payload,
        "trace": trace.format_trace_id(trace.get_current_span().get_span_context().trace_id),
        "spans": [span.name for span in exporter.get_finished_spans()],
        "waiting for acks": len(middleware._runs),
    }
