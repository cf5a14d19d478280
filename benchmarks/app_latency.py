"""`python -m benchmarks.app_latency`: does an in-app worker slow the application's own requests down?

A FastAPI application under uvicorn with its worker in the same process; the embedded server and the load are processes
of their own. Requests come at a fixed rate. In each round they are measured while the worker drains 1,000 jobs of 5 ms
of I/O, and for as long while it has nothing to do; the order alternates. Samples of all rounds are put together.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp

from spooled import AsyncSpooledClient
from spooled_contrib.server import DEVELOPMENT_KEY

APP = "benchmarks.drivers.fastapi_app:app"
QUEUE = "latency"
JOBS = 1_000
BAR = 1.10

Samples = list[float]


async def main(options: argparse.Namespace) -> int:
    server = subprocess.Popen(
        [sys.executable, "-m", "spooled", "server", "--db", ":memory:", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    app = None
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        port = _free_port()
        app = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--log-level", "warning"],
            env={
                **os.environ,
                "SPOOLED_RUN_WORKER": "1",
                "SPOOLED_API_KEY": DEVELOPMENT_KEY,
                "SPOOLED_BASE_URL": url,
            },
        )
        results = {}
        async with (
            AsyncSpooledClient(DEVELOPMENT_KEY, base_url=url) as client,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        ):
            await _ready(http)
            await client.queues.update_config(QUEUE)  # only a queue with settings can be paused
            for path in ("/io", "/bare"):
                results[path] = await _measure(client, http, path, options)
    finally:
        for process in (app, server):
            if process is not None:
                process.terminate()
                process.wait()
    return _report(results, options)


async def _measure(
    client: AsyncSpooledClient, http: aiohttp.ClientSession, path: str, options: argparse.Namespace
) -> tuple[Samples, Samples, Samples]:
    with_jobs: Samples = []
    without: Samples = []
    drains: Samples = []
    seconds = 1.0
    for number in range(options.rounds + 1):
        for draining in (True, False) if number % 2 else (False, True):
            started = time.perf_counter()
            if draining:
                samples = await _under_load(http, path, options.rate, await _drain(client))
                seconds = time.perf_counter() - started
            else:
                samples = await _under_load(
                    http, path, options.rate, functools.partial(asyncio.sleep, seconds)
                )
            if number:  # the first round warms up
                (with_jobs if draining else without).extend(samples)
                if draining:
                    drains.append(seconds)
        print(f"{path}: round {number} of {options.rounds}", file=sys.stderr, flush=True)
    return with_jobs, without, drains


async def _drain(client: AsyncSpooledClient) -> Callable[[], Awaitable[None]]:
    """Enqueue the jobs on a queue that waits; what is returned lets them go and waits until all have run."""
    await client.queues.pause(QUEUE)
    for _ in range(JOBS // 100):
        await client.jobs.bulk_enqueue(queue_name=QUEUE, jobs=[{"payload": {"n": n}} for n in range(100)])
    done = (await client.jobs.get_stats(QUEUE)).completed

    async def drained() -> None:
        await client.queues.resume(QUEUE)
        while (await client.jobs.get_stats(QUEUE)).completed < done + JOBS:
            await asyncio.sleep(0.1)

    return drained


async def _under_load(
    http: aiohttp.ClientSession, path: str, rate: float, during: Callable[[], Awaitable[object]]
) -> Samples:
    """Milliseconds of each request that began while `during` ran, one every 1 / rate seconds."""
    samples: Samples = []

    async def request() -> None:
        begun = time.perf_counter()
        async with http.get(path) as answer:
            await answer.read()
        samples.append((time.perf_counter() - begun) * 1000)

    work = asyncio.ensure_future(during())
    requests = []
    due = time.perf_counter()
    while not work.done():
        requests.append(asyncio.ensure_future(request()))
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(work, *requests)
    return samples


async def _ready(http: aiohttp.ClientSession) -> None:
    while True:
        try:
            async with http.get("/spooled/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)


def _report(results: dict[str, tuple[Samples, Samples, Samples]], options: argparse.Namespace) -> int:
    rows = {}
    for path, (with_jobs, without, drains) in results.items():
        row: dict[str, float] = {
            "requests": len(with_jobs) + len(without),
            "drain_seconds": statistics.median(drains),
        }
        for name, samples in (("with", with_jobs), ("without", without)):
            cuts = statistics.quantiles(samples, n=100)
            row |= {f"p50_{name}": cuts[49], f"p99_{name}": cuts[98]}
        row["p99_ratio"] = row["p99_with"] / row["p99_without"]
        rows[path] = row
    passed = rows["/io"]["p99_ratio"] <= BAR
    if options.json:
        print(json.dumps({"rate": options.rate, "jobs": JOBS, "rows": rows, "passed": passed}, indent=2))
    else:
        print(f"{options.rate:g} requests/s; {JOBS} jobs of 5 ms in the application's process; milliseconds")
        print(
            f"{'endpoint':<9}{'requests':>9}{'p50':>8}{'with jobs':>11}{'p99':>8}{'with jobs':>11}{'ratio':>8}"
        )
        for path, row in rows.items():
            print(
                f"{path:<9}{row['requests']:>9.0f}{row['p50_without']:>8.2f}{row['p50_with']:>11.2f}"
                f"{row['p99_without']:>8.2f}{row['p99_with']:>11.2f}{row['p99_ratio']:>8.2f}"
            )
        print(f"bar: p99 of /io at most {BAR:.2f} times as long: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.app_latency", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="rounds (default: 10)")
    parser.add_argument(
        "--rate", type=float, default=100.0, metavar="N", help="requests a second (default: 100)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    sys.exit(asyncio.run(main(parser.parse_args())))
