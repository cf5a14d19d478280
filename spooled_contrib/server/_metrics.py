"""The server's counters and histograms, and the text that Prometheus reads (contract section 2)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from spooled_contrib.server._rules import counting

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_JOB_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_COUNTER_HELP = {
    counting.ENQUEUED: "Jobs created",
    counting.COMPLETED: "Jobs completed",
    counting.FAILED: "Failures that workers reported",
    counting.RETRIED: "Jobs put back for another execution: by a back-off, a lost lease or a client",
    counting.DEADLETTERED: "Jobs that went to the dead-letter queue",
}
_GAUGE_HELP = {
    "jobs_pending": "Jobs that are pending",
    "jobs_processing": "Jobs that are leased by a worker",
    "job_max_age_seconds": "Age of the oldest pending job",
    "workers_active": "Workers that are not offline",
    "workers_healthy": "Workers that are healthy",
    "database_connections_active": "Open connections to the database",
}


class Histogram:
    """How often a value fell below each of some bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterable[str]:
        below = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            below += count
            yield f'{name}_bucket{{le="{bound:g}"}} {below}'
        total = sum(self._counts)
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self._sum:.9g}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts since the start of this process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counters = dict.fromkeys(counting.NAMES, 0)
        self._requests: dict[tuple[str, int], int] = {}
        self._request_seconds = Histogram(_REQUEST_SECONDS)
        self._job_seconds = Histogram(_JOB_SECONDS)

    def tally(self, amounts: Mapping[str, Any]) -> None:
        """Something was committed; see `counting`."""
        for name, amount in amounts.items():
            if name == counting.JOB_SECONDS:
                self._job_seconds.observe(amount)
            else:
                self._counters[name] = self._counters.get(name, 0) + amount

    def answered(self, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        # A method is whatever a stranger sends; each new one would be a time series of its own.
        key = (method if method in _METHODS else "OTHER", status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._request_seconds.observe(seconds)

    def render(self, gauges: Mapping[str, float]) -> str:
        """Everything in Prometheus' text format.

        Args:
            gauges: Values by name, without prefix.
        """
        lines: list[str] = []

        def family(name: str, kind: str, help_text: str, samples: Iterable[str]) -> None:
            lines.extend((f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *samples))

        for counter, count in self._counters.items():
            name = f"spooled_{counter}_total"
            family(name, "counter", _COUNTER_HELP.get(counter, counter), [f"{name} {count}"])
        name = "spooled_api_requests_total"
        requests = [
            f'{name}{{method="{method}",status="{status}"}} {count}'
            for (method, status), count in sorted(self._requests.items())
        ]
        family(name, "counter", "HTTP requests answered", requests)
        name = "spooled_redis_operations_total"
        family(name, "counter", "Always 0: this server uses no Redis", [f"{name} 0"])
        for gauge, value in gauges.items():
            name = f"spooled_{gauge}"
            family(name, "gauge", _GAUGE_HELP[gauge], [f"{name} {value:.15g}"])
        name = "spooled_job_duration_seconds"
        family(name, "histogram", "From claim to completion", self._job_seconds.lines(name))
        name = "spooled_api_request_duration_seconds"
        family(name, "histogram", "Time to answer a request", self._request_seconds.lines(name))
        return "\n".join(lines) + "\n"
