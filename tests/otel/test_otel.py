from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from spooled import AsyncSpooledClient, SpooledClient, ValidationError
from spooled.worker import JobContext
from spooled.worker.control import Snooze
from spooled.worker.middleware import AckInfo, ClaimInfo, wrap_async_handler, wrap_handler
from spooled_contrib.otel import TRACE_KEY, OpenTelemetryMiddleware, inject_trace_context, traced
from spooled_contrib.server import EmbeddedServer


class Telemetry:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.provider.get_tracer("test")

    def middleware(self, **options: Any) -> OpenTelemetryMiddleware:
        return OpenTelemetryMiddleware(tracer_provider=self.provider, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [
            m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name
        ]
        return [point for metric in found for point in metric.data.data_points]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.provider.shutdown()
    made.meters.shutdown()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[SpooledClient]:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as made:
        yield made


def a_context(payload: Any = None) -> JobContext[Any]:
    return JobContext(
        job_id="job-1",
        queue_name="q",
        payload=payload,
        retry_count=1,
        max_retries=3,
        timeout_seconds=300,
        lease_id="l",
        signal=threading.Event(),
    )


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def an_ack(ctx: JobContext[Any], operation: Any, outcome: Any, **more: Any) -> AckInfo:
    return AckInfo(ctx, operation, outcome, attempts=1, seconds=0.2, run_seconds=0.1, **more)


# --- the worker's side --------------------------------------------------------------------------------------


def plainly(middleware: OpenTelemetryMiddleware, handler: Callable[[Any], Any], ctx: Any) -> Any:
    return wrap_handler(handler, [middleware])(ctx)


def on_a_loop(middleware: OpenTelemetryMiddleware, handler: Callable[[Any], Any], ctx: Any) -> Any:
    async def coroutine(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return handler(ctx)

    async def main() -> Any:
        return await wrap_async_handler(coroutine, [middleware])(ctx)

    return asyncio.run(main())


both = pytest.mark.parametrize("run", [plainly, on_a_loop])


@both
def test_a_run_is_a_child_of_what_sent_it_and_links_to_it(telemetry: Telemetry, run: Callable[..., Any]):
    with telemetry.tracer.start_as_current_span("request"):
        payload = inject_trace_context({"n": 1})
    seen: list[Any] = []

    def handler(ctx: JobContext[Any]) -> str:
        seen.append((ctx.payload, trace.get_current_span().get_span_context().span_id))
        return "done"

    assert run(telemetry.middleware(), handler, a_context(payload)) == "done"
    request, process = telemetry.span("request"), telemetry.span("process q")
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert (process.parent.trace_id, process.parent.span_id) == ids(request)
    assert [(link.context.trace_id, link.context.span_id) for link in process.links] == [ids(request)]
    assert seen == [({"n": 1}, process.context.span_id)]
    assert attributes(process) == {
        "messaging.system": "spooled",
        "messaging.destination.name": "q",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": "job-1",
        "spooled.job.attempt": 2,
    }
    assert process.status.status_code is StatusCode.UNSET
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_new_trace_only_links(telemetry: Telemetry):
    with telemetry.tracer.start_as_current_span("request"):
        payload = inject_trace_context({})
    plainly(telemetry.middleware(new_trace=True), lambda ctx: None, a_context(payload))
    request, process = telemetry.span("request"), telemetry.span("process q")
    assert process.parent is None
    assert process.context.trace_id != request.context.trace_id
    assert [link.context.span_id for link in process.links] == [request.context.span_id]


@pytest.mark.parametrize(
    "payload", [None, [1], "text", {"n": 1}, {TRACE_KEY: 1}, {TRACE_KEY: {"traceparent": "no"}}]
)
def test_a_job_without_context_begins_a_trace(telemetry: Telemetry, payload: Any):
    # A span is current where the worker runs; it must not become the parent of every job.
    with telemetry.tracer.start_as_current_span("worker process"):
        result = plainly(telemetry.middleware(), lambda ctx: ctx.payload, a_context(payload))
    process = telemetry.span("process q")
    assert process.parent is None
    assert not process.links
    assert result == ({} if isinstance(payload, dict) and TRACE_KEY in payload else payload)


def test_baggage_travels_too(telemetry: Telemetry):
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with telemetry.tracer.start_as_current_span("request"):
            payload = inject_trace_context({})
    finally:
        otel_context.detach(token)
    assert (
        plainly(telemetry.middleware(), lambda ctx: baggage.get_baggage("tenant"), a_context(payload))
        == "acme"
    )


@both
def test_a_handlers_exception_is_on_its_span(telemetry: Telemetry, run: Callable[..., Any]):
    with pytest.raises(ZeroDivisionError):
        run(telemetry.middleware(), lambda ctx: 1 / 0, a_context())
    process = telemetry.span("process q")
    assert process.status.status_code is StatusCode.ERROR
    assert process.status.description == "ZeroDivisionError: division by zero"
    assert attributes(process)["error.type"] == "ZeroDivisionError"
    (event,) = process.events
    assert event.name == "exception"


def test_an_exception_that_cannot_be_shown_is_still_the_one_that_is_raised(telemetry: Telemetry):
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def handler(ctx: Any) -> None:
        raise UnspeakableError

    with pytest.raises(UnspeakableError):
        plainly(telemetry.middleware(), handler, a_context())
    assert telemetry.span("process q").status.description == "UnspeakableError"


def test_what_a_handler_decides_is_no_error(telemetry: Telemetry):
    def handler(ctx: Any) -> None:
        raise Snooze(60, "too early")

    with pytest.raises(Snooze):
        plainly(telemetry.middleware(), handler, a_context())
    process = telemetry.span("process q")
    assert process.status.status_code is StatusCode.UNSET
    assert attributes(process)["spooled.job.control"] == "snooze"
    assert attributes(process)["spooled.job.control.reason"] == "too early"


def test_a_lease_that_is_lost_while_the_handler_runs_is_on_its_span(telemetry: Telemetry):
    middleware = telemetry.middleware()

    def handler(ctx: JobContext[Any]) -> None:
        ctx.signal.set()
        middleware.acked(an_ack(ctx, "heartbeat", "lost", answer="not found"))

    plainly(middleware, handler, a_context())
    process = telemetry.span("process q")
    (event,) = process.events
    assert event.name == "lease_lost"
    assert dict(event.attributes or {}) == {"spooled.operation": "heartbeat", "spooled.answer": "not found"}
    assert process.status.status_code is StatusCode.ERROR
    assert attributes(process)["spooled.job.aborted"] is True
    assert len(telemetry.spans) == 1


@pytest.mark.parametrize(
    ("operation", "outcome", "kind"),
    [
        ("complete", "lost", "lease_lost"),
        ("fail", "refused", "ack_refused"),
        ("complete", "unsettled", "ack_unsettled"),
    ],
)
def test_an_ack_that_was_not_accepted_has_a_span_below_its_run(
    telemetry: Telemetry, operation: str, outcome: str, kind: str
):
    middleware, ctx = telemetry.middleware(), a_context()
    plainly(middleware, lambda ctx: None, ctx)
    middleware.acked(an_ack(ctx, operation, outcome, answer="because"))
    process, settle = telemetry.span("process q"), telemetry.span(f"{operation} q")
    assert settle.kind is SpanKind.CLIENT
    assert settle.parent is not None
    assert settle.parent.span_id == process.context.span_id
    assert (settle.status.status_code, settle.status.description) == (StatusCode.ERROR, "because")
    assert attributes(settle)["error.type"] == kind
    assert attributes(settle)["messaging.operation.type"] == "settle"


def test_a_job_that_failed_after_its_handler_has_a_span_that_says_so(telemetry: Telemetry):
    middleware, ctx = telemetry.middleware(), a_context()
    plainly(middleware, lambda ctx: object(), ctx)
    middleware.acked(an_ack(ctx, "fail", "accepted", error="the result has no JSON form"))
    assert telemetry.span("fail q").status.description == "the result has no JSON form"


def test_an_ordinary_ack_adds_nothing_and_no_run_is_kept(telemetry: Telemetry):
    middleware = telemetry.middleware()
    for number in range(30):
        ctx = a_context()
        kind = number % 3
        if kind == 0:
            plainly(middleware, lambda ctx: None, ctx)
            middleware.acked(an_ack(ctx, "complete", "accepted"))
        elif kind == 1:
            with pytest.raises(ZeroDivisionError):
                plainly(middleware, lambda ctx: 1 / 0, ctx)
            middleware.acked(an_ack(ctx, "fail", "accepted", error="ZeroDivisionError"))
        else:  # aborted before it could begin: the ack comes first
            ctx.signal.set()
            middleware.acked(an_ack(ctx, "heartbeat", "lost", answer="gone"))
            plainly(middleware, lambda ctx: None, ctx)
    assert {span.name for span in telemetry.spans} == {"process q"}
    assert not middleware._runs


def test_the_measurements_of_the_conventions(telemetry: Telemetry):
    middleware = telemetry.middleware()
    plainly(middleware, lambda ctx: None, a_context())
    with pytest.raises(ZeroDivisionError):
        plainly(middleware, lambda ctx: 1 / 0, a_context())
    middleware.claimed(ClaimInfo("q", "w", asked=5, jobs=3, seconds=0.02))
    middleware.claimed(ClaimInfo("q", "w", asked=5, jobs=0, seconds=0.02, error=OSError("down")))
    assert [point.value for point in telemetry.points("messaging.client.consumed.messages")] == [3]
    runs = {p.attributes.get("error.type"): p.count for p in telemetry.points("messaging.process.duration")}
    assert runs == {None: 1, "ZeroDivisionError": 1}
    asked = {
        p.attributes.get("error.type"): p.count
        for p in telemetry.points("messaging.client.operation.duration")
    }
    assert asked == {None: 1, "OSError": 1}
    assert telemetry.points("messaging.process.duration")[0].explicit_bounds[0] == 0.005
    assert all(
        "messaging.message.id" not in p.attributes for p in telemetry.points("messaging.process.duration")
    )


# --- the payload --------------------------------------------------------------------------------------------


@dataclass
class Email:
    to: str


class Order(msgspec.Struct):
    number: int


class Pydantic:
    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"mode": mode}


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({"n": 1}, {"n": 1}),
        (Email("ada"), {"to": "ada"}),
        (Order(7), {"number": 7}),
        (Pydantic(), {"mode": "json"}),
    ],
)
def test_objects_carry_the_context(telemetry: Telemetry, payload: Any, fields: dict[str, Any]):
    with telemetry.tracer.start_as_current_span("request"):
        carrying = inject_trace_context(payload)
    assert isinstance(carrying, dict)
    trace_id = f"{telemetry.span('request').context.trace_id:032x}"
    assert trace_id in carrying.pop(TRACE_KEY)["traceparent"]
    assert carrying == fields
    assert payload is not carrying


@pytest.mark.parametrize("payload", [None, 1, "text", [1, 2], msgspec.Raw(b"{}"), Email])
def test_other_payloads_are_left_alone(telemetry: Telemetry, payload: Any):
    with telemetry.tracer.start_as_current_span("request"):
        assert inject_trace_context(payload) is payload


def test_without_a_trace_nothing_is_added():
    payload = {"n": 1}
    assert inject_trace_context(payload) is payload


# --- the producer's side ------------------------------------------------------------------------------------


def test_a_job_is_sent_in_a_span_of_its_own(telemetry: Telemetry, client: SpooledClient):
    jobs = traced(client, tracer_provider=telemetry.provider)
    with telemetry.tracer.start_as_current_span("request"):
        made = jobs.create(queue_name="q", payload={"n": 1})
    send, request = telemetry.span("send q"), telemetry.span("request")
    assert send.kind is SpanKind.PRODUCER
    assert send.parent is not None
    assert send.parent.span_id == request.context.span_id
    assert attributes(send) == {
        "messaging.system": "spooled",
        "messaging.destination.name": "q",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": made.id,
    }
    payload = client.jobs.get(made.id).payload
    assert (
        f"{send.context.trace_id:032x}-{send.context.span_id:016x}" in payload.pop(TRACE_KEY)["traceparent"]
    )
    assert payload == {"n": 1}


def test_every_form_of_the_call_is_traced(telemetry: Telemetry, client: SpooledClient):
    jobs = traced(client, tracer_provider=telemetry.provider)
    job = {"queue_name": "q", "payload": {"n": 1}}
    jobs.create(job)
    jobs.create(params=job)
    assert TRACE_KEY in jobs.create_and_get(**job).payload
    assert job == {"queue_name": "q", "payload": {"n": 1}}
    first = jobs.create(queue_name="q", payload=1, idempotency_key="k")
    again = jobs.create(queue_name="q", payload=1, idempotency_key="k")
    assert (first.created, again.created) == (True, False)
    sent = [span for span in telemetry.spans if span.name == "send q"]
    assert len(sent) == 5
    assert attributes(sent[4])["spooled.job.created"] is False
    assert client.jobs.get(first.id).payload == 1


def test_a_batch_is_one_span(telemetry: Telemetry, client: SpooledClient):
    jobs = traced(client, tracer_provider=telemetry.provider)
    answer = jobs.bulk_enqueue(queue_name="q", jobs=({"payload": {"n": n}} for n in range(3)))
    send = telemetry.span("send q")
    assert attributes(send)["messaging.batch.message_count"] == 3
    for one in answer.succeeded:
        payload = client.jobs.get(one.job_id).payload
        assert f"{send.context.span_id:016x}" in payload[TRACE_KEY]["traceparent"]


async def test_the_asynchronous_client_is_traced_as_well(telemetry: Telemetry, server: EmbeddedServer):
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        jobs = traced(client, tracer_provider=telemetry.provider)
        made = await jobs.create(queue_name="q", payload={})
        assert TRACE_KEY in (await client.jobs.get(made.id)).payload
        with pytest.raises(ValidationError):
            await jobs.create(queue_name="q", payload={}, priority=1000)
    good, bad = telemetry.spans
    assert attributes(good)["messaging.message.id"] == made.id
    assert bad.status.status_code is StatusCode.ERROR
    assert attributes(bad)["error.type"] == "spooled.errors.ValidationError"


def test_wrong_arguments_are_refused_by_the_client(telemetry: Telemetry, client: SpooledClient):
    jobs = traced(client, tracer_provider=telemetry.provider)
    for call in (
        lambda: jobs.create(queue="q", payload={}),
        lambda: jobs.create(7),
        lambda: jobs.create(),
        lambda: jobs.create({"queue_name": "q"}, payload={}),
    ):
        with pytest.raises(TypeError, match=r"create\(\)"):
            call()
    with pytest.raises(ValidationError):
        jobs.bulk_enqueue(queue_name="q", jobs=7)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        jobs.bulk_enqueue(queue_name="q", jobs=[7])  # type: ignore[list-item]


def test_only_clients_can_be_traced(client: SpooledClient):
    with pytest.raises(TypeError, match="SpooledClient or AsyncSpooledClient, got "):
        traced(client.jobs)  # type: ignore[call-overload]


def test_a_missing_extra_is_said_in_one_sentence():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import spooled_contrib.otel\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == 'spooled_contrib.otel needs OpenTelemetry: pip install "spooled-contrib[otel]"\n'


def test_the_core_does_not_import_it():
    code = "import sys, spooled.worker.middleware; print('opentelemetry' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "False\n"
