"""`python -m benchmarks`: how fast each worker drains a backlog against the embedded server.

The server is a process of its own, as it would be in production; the worker is this process, so that its CPU time
can be told from the server's. Handlers do nothing: what is measured is the cost of the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from spooled import SpooledClient
from spooled.worker import AsyncSpooledWorker, SpooledWorker

KEY = "sp_test_benchmark-key-for-loopback-only-00000000"


@dataclass(frozen=True)
class Measurement:
    worker: str
    jobs: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu_seconds * 1000 / self.jobs


@contextmanager
def server_process() -> Iterator[str]:
    command = [sys.executable, "-m", "spooled", "server", "--port", "0", "--db", ":memory:", "--api-key", KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()


def fill(client: SpooledClient, queue: str, jobs: int) -> None:
    for start in range(0, jobs, 100):
        batch = [{"payload": {"n": n}} for n in range(start, min(start + 100, jobs))]
        client.jobs.bulk_enqueue(queue_name=queue, jobs=batch)


class Count:
    """Says when the last of `jobs` completions was accepted."""

    def __init__(self, jobs: int) -> None:
        self.done = threading.Event()
        self._left = jobs

    def __call__(self, event: object) -> None:
        self._left -= 1
        if not self._left:
            self.done.set()


def drain_threaded(client: SpooledClient, jobs: int, concurrency: int) -> Measurement:
    fill(client, "threaded", jobs)
    worker = SpooledWorker(client, "threaded", concurrency=concurrency)
    worker.process(lambda ctx: None)
    count = Count(jobs)
    worker.on("job:completed", count)
    wall, cpu = time.perf_counter(), time.process_time()
    with worker:
        count.done.wait()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Measurement("SpooledWorker", jobs, wall, cpu)


async def drain_async(client: SpooledClient, jobs: int, concurrency: int) -> Measurement:
    await asyncio.to_thread(fill, client, "async", jobs)
    worker = AsyncSpooledWorker(client, "async", concurrency=concurrency)

    @worker.process
    async def handle(ctx: object) -> None:
        return None

    count = Count(jobs)
    worker.on("job:completed", count)
    wall, cpu = time.perf_counter(), time.process_time()
    async with worker:
        await asyncio.to_thread(count.done.wait)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Measurement("AsyncSpooledWorker", jobs, wall, cpu)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000, help="jobs in the backlog (default: 2000)")
    parser.add_argument("--concurrency", type=int, default=10, help="slots of the worker (default: 10)")
    parser.add_argument("--bar", type=float, default=200.0, help="least jobs/s of each worker (default: 200)")
    options = parser.parse_args()
    with server_process() as url, SpooledClient(api_key=KEY, base_url=url) as client:
        results = [
            drain_threaded(client, options.jobs, options.concurrency),
            asyncio.run(drain_async(client, options.jobs, options.concurrency)),
        ]
    table = Table(title=f"{options.jobs} no-op jobs, concurrency {options.concurrency}, embedded server")
    for title in ("worker", "jobs/s", "CPU ms/job", "seconds"):
        table.add_column(title, justify="left" if title == "worker" else "right")
    for one in results:
        table.add_row(one.worker, f"{one.rate:,.0f}", f"{one.cpu_ms:.2f}", f"{one.seconds:.2f}")
    console = Console()
    console.print(table)
    console.print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    slow = [one.worker for one in results if one.rate < options.bar]
    if slow:
        console.print(f"[red]below the bar of {options.bar:,.0f} jobs/s: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
