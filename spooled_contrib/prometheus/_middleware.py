"""A worker's metrics, on labels whose number of values is known beforehand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from spooled.worker import JobContext
from spooled.worker.control import JobControl
from spooled.worker.middleware import AckInfo, ClaimInfo, Middleware

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds: from a cache refresh to a report."""


class PrometheusMiddleware(Middleware):
    """Counts and times the jobs of a worker.

    One instance may serve several workers of a process; they are told apart by the label `queue`. A second instance
    on the same registry and namespace is refused by prometheus-client. docs/observability.md lists the metrics.

    Args:
        registry: Where the metrics are registered. Default: the one that `start_http_server` shows.
        namespace: What their names begin with.
        job_types: Values of `payload["job_type"]` to tell apart by a label `job_type` on the metrics of jobs;
            every other value counts as `other`. Default: no such label. A list, because each value of
            a label is one more time series for ever, and what is in a payload is not ours to trust.
        buckets: Upper bounds in seconds of the run time histogram.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry | None = REGISTRY,
        namespace: str = "spooled_worker",
        job_types: Iterable[str] | None = None,
        buckets: Iterable[float] = BUCKETS,
    ) -> None:
        if isinstance(job_types, str):
            raise TypeError(f"job_types must be a list of job types, got {job_types!r}")
        self._job_types = None if job_types is None else frozenset(job_types)
        job = ("queue",) if self._job_types is None else ("queue", "job_type")

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(name, text, labels, namespace=namespace, registry=registry)

        self._claims = counter("claims", "Requests for jobs that were answered.", ("queue",))
        self._claim_errors = counter("claim_errors", "Requests for jobs that failed.", ("queue",))
        self._claimed = counter("jobs_claimed", "Jobs that were claimed.", ("queue",))
        self._completed = counter("jobs_completed", "Jobs whose completion was accepted.", job)
        self._failed = counter("jobs_failed", "Runs of jobs whose failure was accepted.", job)
        self._lost = counter("jobs_lost", "Runs whose lease was lost; they run again.", job)
        self._unsettled = counter("jobs_unsettled", "Runs whose outcome never reached the server.", job)
        self._controlled = counter(
            "jobs_controlled", "Jobs that were retried, snoozed, discarded or released.", (*job, "control")
        )
        self._running = Gauge(
            "jobs_running", "Handlers that are running.", job, namespace=namespace, registry=registry
        )
        self._seconds = Histogram(
            "job_run_seconds",
            "How long handlers ran, by how they ended.",
            (*job, "result"),
            namespace=namespace,
            registry=registry,
            buckets=tuple(buckets),
        )

    def claimed(self, claim: ClaimInfo) -> None:
        """Count the request and what it brought."""
        if claim.error is not None:
            self._claim_errors.labels(claim.queue_name).inc()
            return
        self._claims.labels(claim.queue_name).inc()
        self._claimed.labels(claim.queue_name).inc(claim.jobs)

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        """Time the handler."""
        payload = ctx.payload
        labels = self._labels(ctx.queue_name, payload.get("job_type") if isinstance(payload, dict) else None)
        running = self._running.labels(*labels)
        result = "ok"
        started = time.perf_counter()
        running.inc()
        try:
            yield
        except JobControl:
            result = "control"
            raise
        except BaseException:
            result = "error"
            raise
        finally:
            running.dec()
            if ctx.signal.is_set():
                result = "aborted"
            self._seconds.labels(*labels, result).observe(time.perf_counter() - started)

    def acked(self, ack: AckInfo) -> None:
        """Count how the job ended."""
        labels = self._labels(ack.queue_name, ack.job_type)
        if ack.outcome == "lost":
            self._lost.labels(*labels).inc()
        elif ack.outcome != "accepted":
            self._unsettled.labels(*labels).inc()
        elif ack.control is not None:
            self._controlled.labels(*labels, ack.control).inc()
        elif ack.operation == "complete":
            self._completed.labels(*labels).inc()
        else:
            self._failed.labels(*labels).inc()

    def _labels(self, queue_name: str, job_type: object) -> tuple[str, ...]:
        if self._job_types is None:
            return (queue_name,)
        return queue_name, job_type if isinstance(job_type, str) and job_type in self._job_types else "other"
