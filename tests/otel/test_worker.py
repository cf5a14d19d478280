"""Producer, server and worker together: one trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry

from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, SpooledWorker
from spooled_contrib.otel import OpenTelemetryMiddleware, traced
from spooled_contrib.prometheus import PrometheusMiddleware
from spooled_contrib.server import EmbeddedServer
from tests.waiting import wait_until


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[SpooledClient]:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as made:
        yield made


def span(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def assert_one_trace(exporter: InMemorySpanExporter) -> None:
    send, process, inner = (span(exporter, name) for name in ("send emails", "process emails", "inner"))
    assert process.parent is not None
    assert process.parent.span_id == send.context.span_id
    assert inner.parent is not None
    assert inner.parent.span_id == process.context.span_id
    assert len({one.context.trace_id for one in exporter.get_finished_spans()}) == 1


def test_threads(client: SpooledClient, exporter: InMemorySpanExporter, provider: TracerProvider):
    registry = CollectorRegistry()
    worker = SpooledWorker(
        client,
        "emails",
        poll_interval=0.05,
        middleware=[
            OpenTelemetryMiddleware(tracer_provider=provider),
            PrometheusMiddleware(registry=registry),
        ],
    )

    @worker.process
    def handle(ctx: Any) -> dict[str, Any]:
        with provider.get_tracer("test").start_as_current_span("inner"):
            return {"payload": ctx.payload}

    made = traced(client, tracer_provider=provider).create(queue_name="emails", payload={"to": "ada"})
    with worker:
        wait_until(lambda: client.jobs.get(made.id).status == "completed", "the job is completed")
    assert client.jobs.get(made.id).result == {"payload": {"to": "ada"}}
    assert_one_trace(exporter)
    for name in ("jobs_claimed", "jobs_completed"):
        assert registry.get_sample_value(f"spooled_worker_{name}_total", {"queue": "emails"}) == 1


async def test_coroutines(server: EmbeddedServer, exporter: InMemorySpanExporter, provider: TracerProvider):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        worker = AsyncSpooledWorker(
            client,
            "emails",
            poll_interval=0.05,
            middleware=[OpenTelemetryMiddleware(tracer_provider=provider)],
        )
        ended = asyncio.Event()
        worker.on("job:completed", lambda event: ended.set())

        @worker.process
        async def handle(ctx: Any) -> None:
            assert ctx.payload == {"to": "ada"}
            with provider.get_tracer("test").start_as_current_span("inner"):
                await asyncio.sleep(0)

        await traced(client, tracer_provider=provider).create(queue_name="emails", payload={"to": "ada"})
        async with worker:
            await asyncio.wait_for(ended.wait(), 10)
    assert_one_trace(exporter)


def test_a_failing_job_is_seen_by_both(
    client: SpooledClient, exporter: InMemorySpanExporter, provider: TracerProvider
):
    registry = CollectorRegistry()
    worker = SpooledWorker(
        client,
        "emails",
        poll_interval=0.05,
        middleware=[
            OpenTelemetryMiddleware(tracer_provider=provider),
            PrometheusMiddleware(registry=registry),
        ],
    )

    @worker.process
    def handle(ctx: Any) -> None:
        raise ZeroDivisionError("boom")

    made = traced(client, tracer_provider=provider).create(queue_name="emails", payload={}, max_retries=0)
    with worker:
        wait_until(lambda: client.jobs.get(made.id).status == "deadletter", "the job is dead")
    process = span(exporter, "process emails")
    assert process.status.status_code is StatusCode.ERROR
    assert process.context.trace_id == span(exporter, "send emails").context.trace_id
    assert registry.get_sample_value("spooled_worker_jobs_failed_total", {"queue": "emails"}) == 1
    assert not trace.get_current_span().get_span_context().is_valid


def test_child_processes(
    server: EmbeddedServer,
    exporter: InMemorySpanExporter,
    provider: TracerProvider,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
    from tests.otel import traced_in_processes

    worker, client = traced_in_processes.worker, traced_in_processes.worker._client
    ids = []
    for _ in range(3):
        made = traced(client, tracer_provider=provider).create(queue_name="emails", payload={"to": "ada"})
        ids.append(made.id)
    worker.start(burst=True)
    results = [client.jobs.get(job_id).result for job_id in ids]
    client.close()
    traces = [trace.format_trace_id(one.context.trace_id) for one in exporter.get_finished_spans()]
    assert [one["trace"] for one in results] == traces
    assert [one["payload"] for one in results] == [{"to": "ada"}] * 3
    assert [len(one["spans"]) for one in results] == [0, 1, 2]
    # No ack is told in a child, so nothing must wait there for one.
    assert {one["waiting for acks"] for one in results} == {0}
