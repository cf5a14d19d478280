"""As fast as it goes: a number of callers that each wait for an answer before the next call."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks.server_load._open import PAYLOAD
from benchmarks.server_load._wire import Wire, decode

CALLERS = 32


async def _every(callers: int, calls: int, call: Callable[[], Awaitable[int]]) -> float:
    """Jobs a second."""
    left = calls
    jobs = 0

    async def caller() -> None:
        nonlocal left, jobs
        while left > 0:
            left -= 1
            made = await call()  # not in one line: other callers add theirs meanwhile
            jobs += made

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return jobs / (time.perf_counter() - begun)


async def creates(wire: Wire, calls: int) -> float:
    """Single jobs created a second."""

    async def create() -> int:
        status, body = await wire.call("POST", "/api/v1/jobs", {"queue_name": "single", "payload": PAYLOAD})
        assert status == 201, body
        return 1

    return await _every(CALLERS, calls, create)


async def bulks(wire: Wire, calls: int, queue: str = "bulk") -> float:
    """Jobs created a second in batches of 100."""
    body = {"queue_name": queue, "jobs": [{"payload": PAYLOAD}] * 100}

    async def create() -> int:
        status, answer = await wire.call("POST", "/api/v1/jobs/bulk", body)
        assert status == 200, answer
        return 100

    return await _every(8, calls, create)


async def claims_and_completes(wire: Wire, jobs: int) -> float:
    """Jobs a second that are claimed, ten at a time, and completed one by one."""
    await bulks(wire, jobs // 100, "claimed")

    async def work() -> int:
        body = {"queue_name": "claimed", "worker_id": "w", "limit": 10, "lease_duration_secs": 600}
        _, answer = await wire.call("POST", "/api/v1/jobs/claim", body)
        claimed = decode(answer)["jobs"]
        for job in claimed:
            done = {"worker_id": "w", "lease_id": job["lease_id"], "result": None}
            status, answer = await wire.call("POST", f"/api/v1/jobs/{job['id']}/complete", done)
            assert status == 200, answer
        return len(claimed)

    return await _every(CALLERS, jobs // 10, work)


async def claim_ratio(few: Wire, many: Wire, rounds: int) -> tuple[float, float]:
    """Median milliseconds of one claim from a small and from a large backlog, taken in turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for wire, times in zip((few, many), taken, strict=True):
            body = {"queue_name": "backlog", "worker_id": "w", "limit": 1, "lease_duration_secs": 600}
            begun = time.perf_counter()
            _, answer = await wire.call("POST", "/api/v1/jobs/claim", body)
            times.append(time.perf_counter() - begun)
            assert decode(answer)["jobs"]
    return 1000 * statistics.median(taken[0]), 1000 * statistics.median(taken[1])
