"""The lease keeper as adapters use it: by itself, on a loop, with a heartbeat of their own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from spooled.errors import ConflictError, LeaseExpiredError, NetworkError, NotFoundError, SpooledError
from spooled.worker import Lease, LeaseKeeper, LeaseState

DURATION = 0.4
"""Seconds: the keeper does not care, only the server wants leases of five seconds or more."""


class Bench:
    def __init__(self) -> None:
        self.beats: Counter[str] = Counter()
        self.timeouts: list[float] = []
        self.lost: list[tuple[str, SpooledError | None]] = []
        self.trouble: list[str] = []
        self.answer: Callable[[Lease], Awaitable[None]] | None = None
        self.moved = asyncio.Event()
        self.keeper = LeaseKeeper(self._beat, on_lost=self._lost, on_trouble=self._trouble)

    def hold(self, name: str = "j") -> Lease:
        now = asyncio.get_running_loop().time()
        return self.keeper.hold(name, f"lease-{name}", "w", duration=DURATION, since=now)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.moved.clear()
                await self.moved.wait()

    async def _beat(self, lease: Lease, timeout: float) -> None:
        self.beats[lease.job_id] += 1
        self.timeouts.append(timeout)
        self.moved.set()
        if self.answer is not None:
            await self.answer(lease)

    def _lost(self, lease: Lease, error: SpooledError | None) -> None:
        self.lost.append((lease.job_id, error))
        self.moved.set()

    def _trouble(self, lease: Lease, error: SpooledError) -> None:
        self.trouble.append(lease.job_id)
        self.moved.set()


@asynccontextmanager
async def keeping() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.keeper.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_many_leases_are_renewed_by_one_task_and_no_thread():
    threads = set(threading.enumerate())  # some may be about to end
    async with keeping() as bench:
        leases = [bench.hold(str(number)) for number in range(200)]
        await bench.until(lambda: len(bench.beats) == 200 and min(bench.beats.values()) >= 3)
        assert set(threading.enumerate()) <= threads
        assert all(lease.state is LeaseState.HELD for lease in leases)
    assert bench.lost == []
    assert max(bench.timeouts) < DURATION / 2


async def test_a_released_lease_is_renewed_no_more():
    async with keeping() as bench:
        first, second = bench.hold("first"), bench.hold("second")
        await bench.until(lambda: bench.beats["first"] and bench.beats["second"])
        bench.keeper.release(first)
        beats = bench.beats["first"]
        await bench.until(lambda: bench.beats["second"] >= 4)
        assert bench.beats["first"] == beats
        assert (first.state, second.state, len(bench.keeper)) == (LeaseState.RELEASED, LeaseState.HELD, 1)


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("gone", 404, "NOT_FOUND"),
        LeaseExpiredError("over", 409, "LEASE_EXPIRED"),
        ConflictError("Job is already completed", 409, "CONFLICT"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_refused_beat_loses_the_lease_once(error: SpooledError):
    async with keeping() as bench:

        async def refuse(lease: Lease) -> None:
            raise error

        bench.answer = refuse
        lease = bench.hold()
        await bench.until(lambda: bench.lost)
        bench.keeper.release(lease)
    assert bench.lost == [("j", error)]
    assert (lease.state, bench.beats["j"]) == (LeaseState.LOST, 1)


async def test_a_server_that_is_away_costs_the_lease_only_when_its_time_is_over():
    async with keeping() as bench:

        async def away(lease: Lease) -> None:
            raise NetworkError("no answer")

        bench.answer = away
        lease = bench.hold()
        await bench.until(lambda: bench.lost)
        assert asyncio.get_running_loop().time() >= lease.expires_at
    assert bench.lost == [("j", None)]
    assert len(bench.trouble) >= 1


async def test_one_failed_beat_is_repeated_and_forgotten():
    async with keeping() as bench:

        async def once(lease: Lease) -> None:
            if bench.beats["j"] == 1:
                raise NetworkError("no answer")

        bench.answer = once
        bench.hold()
        await bench.until(lambda: bench.beats["j"] >= 4)
    assert bench.lost == []
    assert bench.trouble == ["j"]


async def test_a_beat_that_hangs_delays_no_other():
    async with keeping() as bench:
        hung = asyncio.Event()

        async def hang(lease: Lease) -> None:
            if lease.job_id == "hung":
                await hung.wait()

        bench.answer = hang
        bench.hold("hung")
        bench.hold("fine")
        await bench.until(lambda: ("hung", None) in bench.lost and bench.beats["fine"] >= 3)
    assert bench.lost == [("hung", None)]


async def test_a_bug_in_what_the_keeper_calls_costs_no_other_lease(caplog: pytest.LogCaptureFixture):
    async with keeping() as bench:

        async def broken(lease: Lease) -> None:
            if lease.job_id == "broken":
                raise ZeroDivisionError

        bench.answer = broken
        bench.hold("broken")
        bench.hold("fine")
        await bench.until(lambda: bench.beats["broken"] >= 2 and bench.beats["fine"] >= 3)
    assert "failed unexpectedly" in caplog.text
