"""The measurements: draining a backlog, being idle until a job comes, and enqueueing."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._contenders import Contender
from benchmarks._processes import KEY, STUBS, MeasurementError, Target, driver, target

WARM_UP = 2
"""Jobs whose pick-up does not count, because connections and threads are made for them."""


@dataclass
class Row:
    """All values that were measured for one contender against one server, and their medians."""

    contender: Contender
    target: str
    values: dict[str, list[float]] = field(default_factory=dict)
    lacks: set[str] = field(default_factory=set)

    def add(self, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                self.values.setdefault(name, []).append(value)

    def get(self, name: str) -> float | None:
        values = self.values.get(name)
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Setup:
    """What all runs share."""

    pythons: dict[str, Path]
    redis: str | None


def drain(
    setup: Setup, row: Row, jobs: int, *, memory_after: tuple[int, ...] = (), seconds: float = 60
) -> None:
    """Work off a backlog of `jobs` once, and add what was measured to the row.

    Raises:
        MeasurementError: It could not be measured.
    """
    contender = row.contender
    with target(row.target, setup.redis) as server:
        config = _config(contender, server, "drain", jobs) | {"memory_after": memory_after}
        with driver(setup.pythons[contender.environment], contender.script, config) as process:
            _, before = process.until("ready", seconds)
            row.lacks |= {line["lacks"] for line in before if "lacks" in line}
            # The official driver and ours reset the stub themselves; Redis counted the filling until now.
            if row.target == "redis":
                server.requests()
            done, lines = process.until("done", seconds)
        asked = server.requests()
    for line in lines:
        if "memory_after" in line:
            row.add(**{f"memory_{line['memory_after']}": line["bytes"] / 1e6})
    row.add(
        rate=(jobs - 1) / done["seconds"],
        cpu_ms=done["cpu"] * 1000 / jobs,
        threads=done["threads"],
        memory=done["memory"] / 1e6,
        requests=None if asked is None else asked / jobs,
    )


def publish(setup: Setup, row: Row, jobs: int, seconds: float = 60) -> None:
    """Enqueue so many jobs from one thread, and add what was measured to the row.

    Raises:
        MeasurementError: It could not be measured.
    """
    contender = row.contender
    with target(row.target, setup.redis) as server:
        config = _config(contender, server, "publish", jobs)
        with driver(setup.pythons[contender.environment], contender.script, config) as process:
            done, _ = process.until("published", seconds)
    row.add(
        publish_rate=done["published"] / done["seconds"],
        publish_p50=done["p50"] * 1000,
        publish_p99=done["p99"] * 1000,
        publish_cpu=done["cpu"] / done["published"] * 1e6,
    )


@dataclass(frozen=True)
class Calm:
    """How long to be idle, in seconds, and how many jobs to send then."""

    settle: float
    window: float
    jobs: int
    interval: tuple[float, float] = (0.5, 1.5)


def calm(setup: Setup, rows: list[Row], how: Calm) -> None:
    """Be idle, then pick up single jobs: all rows at the same time, each with a server of its own."""
    with ExitStack() as stack:
        started = []
        for row in rows:
            try:
                server = stack.enter_context(target(row.target, setup.redis))
                python = setup.pythons[row.contender.environment]
                config = _config(row.contender, server, "calm", how.jobs)
                worker = stack.enter_context(driver(python, row.contender.script, config))
                _, before = worker.until("ready", 30)
                row.lacks |= {line["lacks"] for line in before if "lacks" in line}
                started.append((row, server, worker, config))
            except MeasurementError as error:
                print(f"{row.contender.name}: {error}", file=sys.stderr)
        time.sleep(how.settle)
        for _, server, _, _ in started:
            server.requests()
        time.sleep(how.window)
        for row, server, _, _ in started:
            asked = server.requests()
            row.add(idle=None if asked is None else asked / how.window)
        producers = [
            stack.enter_context(
                driver(
                    setup.pythons[row.contender.environment],
                    row.contender.script,
                    config | {"mode": "produce", "interval": how.interval},
                )
            )
            for row, _, _, config in started
        ]
        give_up_at = time.monotonic() + how.jobs * how.interval[1] + 20
        for (row, _, worker, _), producer in zip(started, producers, strict=True):
            try:
                sent = dict(_jobs(producer, how.jobs, give_up_at))
                picked = dict(_jobs(worker, how.jobs, give_up_at))
            except MeasurementError as error:
                print(f"{row.contender.name}: {error}", file=sys.stderr)
                continue
            # A handler may have started before the producer had read the answer.
            delays = sorted(max(0.0, picked[n] - sent[n]) * 1000 for n in range(WARM_UP, how.jobs))
            row.add(pickup_p50=statistics.median(delays), pickup_p99=delays[int(len(delays) * 0.99)])


def _jobs(process: Any, count: int, give_up_at: float) -> list[tuple[int, float]]:
    lines = [process.until("job", give_up_at - time.monotonic())[0] for _ in range(count)]
    return [(line["job"], line["at"]) for line in lines]


def _config(contender: Contender, server: Target, mode: str, jobs: int) -> dict[str, Any]:
    return {
        **contender.config,
        "mode": mode,
        "jobs": jobs,
        "url": server.url,
        "direct": server.direct,
        "key": KEY,
        "bare": server.kind in STUBS,
    }
