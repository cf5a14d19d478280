"""What is promised, and whether this run kept it.

Ratios to a peer come from one run on one machine, and counts do not depend on the machine: those decide the exit code.
Times and CPU do depend on it: they are shown only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks._runs import Row


@dataclass(frozen=True)
class Bar:
    """One promise and what was measured.

    Attributes:
        text: The promise.
        value: What was measured; None when this run did not.
        passed: Whether it was kept.
        decides: Whether breaking it makes the run fail.
    """

    text: str
    value: float | None
    passed: bool
    decides: bool

    def __str__(self) -> str:
        if self.value is None:
            return f"  --   {self.text}: not measured in this run"
        decision = "pass" if self.passed else "FAIL" if self.decides else "fail"
        return f"  {decision} {self.text}: {self.value:.3g}{'' if self.decides else ' (shown only)'}"


def bars(rows: list[Row], producers: list[Row], *, steady: bool) -> list[Bar]:
    """All promises.

    Args:
        rows: What was measured of workers.
        producers: What was measured of producers.
        steady: Whether workers were idle for long enough to have reached their slowest pace.
    """

    def best(prefix: str, target: str, name: str, pick: Callable[..., float] = max) -> float | None:
        found = [
            value
            for row in (*rows, *producers)
            if row.contender.name.startswith(prefix) and row.target == target
            if (value := row.get(name)) is not None
        ]
        return pick(found) if found else None

    def ours(words: str, target: str, name: str, pick: Callable[..., float] = max) -> float | None:
        found = [
            value
            for row in (*rows, *producers)
            if row.contender.name.startswith("ours") and row.target == target
            if set(words.split()) <= set(row.contender.name.split())
            if (value := row.get(name)) is not None
        ]
        return pick(found) if found else None

    def at_least(
        text: str, ours: float | None, peer: float | None, least: float, *, decides: bool = True
    ) -> Bar:
        ratio = None if ours is None or not peer else ours / peer
        return Bar(f"{text} >= {least:g}x", ratio, ratio is not None and ratio >= least, decides)

    def at_most(text: str, value: float | None, most: float, *, decides: bool = True) -> Bar:
        return Bar(f"{text} <= {most:g}", value, value is not None and value <= most, decides)

    result = []
    for target in ("stub", "server"):
        official = best("official", target, "rate")
        decides = target == "stub"  # the embedded server shares the cores, and may be what limits the rate
        for words, least in (("fast", 5), ("plain", 4)):
            text = f"{words}, {target}: jobs/s over the official SDK's best"
            result.append(at_least(text, ours(words, target, "rate"), official, least, decides=decides))
    for peer in ("celery", "dramatiq", "huey", "taskiq"):
        text = f"fast, server, jobs/s over {peer} with Redis"
        result.append(
            at_least(text, ours("fast", "server", "rate"), best(peer, "redis", "rate"), 1, decides=False)
        )
    dramatiq = best("dramatiq", "redis", "rate")
    text = "plain, stub: jobs/s over dramatiq with Redis"
    result.append(at_least(text, ours("plain", "stub", "rate"), dramatiq, 1, decides=False))
    text = "fast, server: jobs/s over dramatiq with Redis"
    result.append(at_least(text, ours("fast", "server", "rate"), dramatiq, 1.5, decides=False))
    created = best("official best threaded", "stub", "publish_rate")
    text = "jobs.create, one thread: jobs/s over the official SDK"
    result.append(at_least(text, ours("threaded plain", "stub", "publish_rate"), created, 3))
    text = "celery on spooled: jobs/s over celery with Redis"
    rate, on_redis = best("ours celery", "server", "rate"), best("celery", "redis", "rate")
    result.append(at_least(text, rate, on_redis, 1, decides=False))
    waited = best("ours celery", "server", "pickup_p50", min)
    result.append(at_most("celery on spooled: pick-up p50 ms", waited, 15, decides=False))
    for row in rows:
        if row.target == "far" and row.contender.name.startswith("ours"):
            rate = row.get("rate")
            text = f"{row.contender.name}, 50 ms away: jobs/s >= 800"
            result.append(Bar(text, rate, rate is not None and rate >= 800, decides=False))
        if row.target == "batches":
            text = f"{row.contender.name}, acks in batches: requests a job"
            result.append(at_most(text, row.get("requests"), 0.3))
        early, late = row.get("memory_10000"), row.get("memory_100000")
        if row.contender.name.startswith("ours") and early is not None and late is not None:
            text = f"{row.contender.name}: MB more after 100,000 jobs than after 10,000"
            result.append(at_most(text, max(0.0, late - early), 5.3))
    for row in rows:
        if row.target != "stub" or not row.contender.name.startswith("ours"):
            continue
        name = row.contender.name
        concurrency = row.contender.config["options"]["concurrency"]
        most = 1.05 if concurrency == 50 else 1.2
        result.append(at_most(f"{name}: requests a job", row.get("requests"), most))
        result.append(at_most(f"{name}: threads", row.get("threads"), concurrency + 3))
        if "fast" in name:
            result.append(at_most(f"{name}: CPU ms a job", row.get("cpu_ms"), 0.5, decides=False))
        if "wake-ups" in name:
            idle = row.get("idle") if steady else None
            result.append(at_most(f"{name}: requests a second when idle", idle, 0.2))
        elif row.contender.calm:
            # By default an empty queue is asked once a second, less up to half of it by chance.
            idle = row.get("idle") if steady else None
            result.append(at_most(f"{name}: requests a second when idle", idle, 1.8))
        if row.contender.calm:
            result.append(at_most(f"{name}: pick-up p50 ms", row.get("pickup_p50"), 15, decides=False))
    return result
