"""OpenTelemetry: one trace from the producer's `send` to the worker's `process`.

Needs the extra: `pip install "spooled-contrib[otel]"`.
"""

from __future__ import annotations

try:
    import opentelemetry.trace  # noqa: F401 # only to say in one place what is missing
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        'spooled_contrib.otel needs OpenTelemetry: pip install "spooled-contrib[otel]"', name=error.name
    ) from error

from spooled_contrib.otel._middleware import OpenTelemetryMiddleware
from spooled_contrib.otel._payload import TRACE_KEY, inject_trace_context
from spooled_contrib.otel._producer import AsyncTracedJobs, TracedJobs, traced

__all__ = [
    "TRACE_KEY",
    "AsyncTracedJobs",
    "OpenTelemetryMiddleware",
    "TracedJobs",
    "inject_trace_context",
    "traced",
]
