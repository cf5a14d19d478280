from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from spooled.worker import JobContext
from spooled.worker.control import Discard
from spooled.worker.middleware import AckInfo, ClaimInfo, wrap_async_handler, wrap_handler
from spooled_contrib.prometheus import PrometheusMiddleware


def a_context(payload: Any = None) -> JobContext[Any]:
    return JobContext(
        job_id="job-1",
        queue_name="q",
        payload=payload,
        retry_count=0,
        max_retries=3,
        timeout_seconds=300,
        lease_id="l",
        signal=threading.Event(),
    )


def an_ack(operation: Any, outcome: Any, **more: Any) -> AckInfo:
    return AckInfo(a_context(), operation, outcome, attempts=1, seconds=0.2, run_seconds=0.1, **more)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"spooled_worker_{name}", {"queue": "q", **labels})


def test_claims_and_what_they_bring(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry)
    middleware.claimed(ClaimInfo("q", "w", asked=5, jobs=3, seconds=0.1))
    middleware.claimed(ClaimInfo("q", "w", asked=5, jobs=0, seconds=0.1))
    middleware.claimed(ClaimInfo("q", "w", asked=5, jobs=0, seconds=0.1, error=OSError("down")))
    assert value(registry, "claims_total") == 2
    assert value(registry, "claim_errors_total") == 1
    assert value(registry, "jobs_claimed_total") == 3


def test_each_ack_counts_once(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry)
    middleware.acked(an_ack("complete", "accepted"))
    middleware.acked(an_ack("fail", "accepted", error="boom"))
    middleware.acked(an_ack("heartbeat", "lost", answer="gone"))
    middleware.acked(an_ack("complete", "lost", answer="gone"))
    middleware.acked(an_ack("fail", "refused", answer="no"))
    middleware.acked(an_ack("fail", "unsettled"))
    middleware.acked(an_ack("complete", "accepted", control="snoozed"))
    assert value(registry, "jobs_completed_total") == 1
    assert value(registry, "jobs_failed_total") == 1
    assert value(registry, "jobs_lost_total") == 2
    assert value(registry, "jobs_unsettled_total") == 2
    assert value(registry, "jobs_controlled_total", control="snoozed") == 1


def test_handlers_are_timed_by_how_they_end(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry)

    def running(ctx: JobContext[Any]) -> float | None:
        return value(registry, "jobs_running")

    def discard(ctx: JobContext[Any]) -> None:
        raise Discard("useless")

    def aborted(ctx: JobContext[Any]) -> None:
        ctx.signal.set()

    async def coroutine(ctx: JobContext[Any]) -> float | None:
        await asyncio.sleep(0)
        return value(registry, "jobs_running")

    async def main() -> object:
        return await wrap_async_handler(coroutine, [middleware])(a_context())

    assert wrap_handler(running, [middleware])(a_context()) == 1
    assert asyncio.run(main()) == 1
    with pytest.raises(ZeroDivisionError):
        wrap_handler(lambda ctx: 1 / 0, [middleware])(a_context())
    with pytest.raises(Discard):
        wrap_handler(discard, [middleware])(a_context())
    wrap_handler(aborted, [middleware])(a_context())
    assert value(registry, "jobs_running") == 0
    counts = {
        r: value(registry, "job_run_seconds_count", result=r) for r in ("ok", "error", "control", "aborted")
    }
    assert counts == {"ok": 2, "error": 1, "control": 1, "aborted": 1}


def test_job_types_are_told_apart_when_they_are_named(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry, job_types=["email"])
    handler = wrap_handler(lambda ctx: None, [middleware])
    for payload in ({"job_type": "email"}, {"job_type": "who knows"}, {"job_type": ["email"]}, {}, None):
        handler(a_context(payload))
    assert value(registry, "job_run_seconds_count", result="ok", job_type="email") == 1
    assert value(registry, "job_run_seconds_count", result="ok", job_type="other") == 4
    middleware.acked(an_ack("complete", "accepted", job_type="email"))
    middleware.acked(an_ack("complete", "accepted", job_type="who knows"))
    assert value(registry, "jobs_completed_total", job_type="email") == 1
    assert value(registry, "jobs_completed_total", job_type="other") == 1


def test_no_label_holds_an_id(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry, job_types=["email"])
    wrap_handler(lambda ctx: None, [middleware])(a_context({"job_type": "x-1"}))
    middleware.claimed(ClaimInfo("q", "worker-1", asked=1, jobs=1, seconds=0.1))
    middleware.acked(an_ack("fail", "accepted", error="message-1", job_type="x-1"))
    shown = generate_latest(registry).decode()
    assert not [word for word in ("job-1", "worker-1", "message-1", "x-1") if word in shown]


def test_names_and_buckets_can_be_chosen(registry: CollectorRegistry):
    middleware = PrometheusMiddleware(registry=registry, namespace="mine", buckets=[1, 2])
    middleware.claimed(ClaimInfo("q", "w", asked=1, jobs=1, seconds=0.1))
    assert registry.get_sample_value("mine_jobs_claimed_total", {"queue": "q"}) == 1
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusMiddleware(registry=registry, namespace="mine")
    with pytest.raises(TypeError, match="a list of job types, got 'email'"):
        PrometheusMiddleware(registry=registry, job_types="email")
    with pytest.raises(TypeError, match="regstry"):
        PrometheusMiddleware(regstry=registry)  # type: ignore[call-arg]


def test_a_missing_extra_is_said_in_one_sentence():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try:\n    import spooled_contrib.prometheus\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (
        shown
        == 'spooled_contrib.prometheus needs prometheus-client: pip install "spooled-contrib[prometheus]"\n'
    )
