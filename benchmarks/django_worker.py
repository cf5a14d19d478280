"""`python -m benchmarks.django_worker`: what the Django adapter costs: start-up, and connection hygiene per job.

Start-up: until the worker is started, over `manage.py check` of the same project; medians of alternating runs.
Hygiene: a no-op job through the middleware, with an open SQLite connection in the thread, minus the same without it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from spooled_contrib.server import EmbeddedServer

PROJECT = Path(__file__).parents[1] / "tests" / "django" / "project"
START_BAR, HYGIENE_BAR = 1.0, 0.1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.django_worker", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    start = _start_up(options.repeat)
    hygiene = _hygiene()
    rows = {**start, **hygiene}
    passed = (
        rows["start_over_check_seconds"] <= START_BAR
        and max(rows["hygiene_ms"], rows["hygiene_async_ms"]) <= HYGIENE_BAR
    )
    if options.json:
        print(json.dumps({**rows, "passed": passed}, indent=2))
    else:
        print(f"manage.py check                      {rows['check_seconds']:.2f} s")
        print(f"spooled_worker until started         {rows['start_seconds']:.2f} s")
        over = rows["start_over_check_seconds"]
        print(f"the worker over the check            {over:.2f} s   (bar: at most {START_BAR:g} s)")
        print(
            f"hygiene, plain handler               {rows['hygiene_ms']:.4f} ms a job (bar: {HYGIENE_BAR:g} ms)"
        )
        print(f"hygiene, coroutine handler           {rows['hygiene_async_ms']:.4f} ms a job")
        print("passed" if passed else "FAILED")
    return 0 if passed else 1


def _start_up(repeat: int) -> dict[str, float]:
    checks: list[float] = []
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer() as server:
        environment = {
            **os.environ,
            "PROJECT_DB": str(Path(folder) / "db.sqlite3"),
            "PROJECT_SPOOLED": json.dumps({"API_KEY": server.api_key, "BASE_URL": server.url}),
        }
        manage = [sys.executable, str(PROJECT / "manage.py")]
        for _ in range(repeat + 1):
            begun = time.perf_counter()
            subprocess.run([*manage, "check"], env=environment, check=True, capture_output=True)
            checks.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            with subprocess.Popen(
                [*manage, "spooled_worker", "--queue", "invoices"],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            ) as worker:
                assert worker.stderr is not None
                while "started on queue" not in worker.stderr.readline():
                    pass
                starts.append(time.perf_counter() - begun)
                worker.terminate()
                worker.stderr.read()
    # The first of each has filled the caches.
    check, start = statistics.median(checks[1:]), statistics.median(starts[1:])
    return {"check_seconds": check, "start_seconds": start, "start_over_check_seconds": start - check}


def _hygiene(jobs: int = 20_000) -> dict[str, float]:
    sys.path.insert(0, str(PROJECT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    os.environ["PROJECT_DB"] = ":memory:"
    import django

    django.setup()
    from django.db import connection

    from spooled_contrib.django._database import DatabaseCleanup

    hygiene: Any = DatabaseCleanup()
    ctx: Any = None

    def plain() -> None:
        connection.ensure_connection()

    async def coroutine() -> None:
        pass

    def measure() -> float:
        rounds = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(jobs):
                plain()
            without = time.perf_counter() - begun
            begun = time.perf_counter()
            for _ in range(jobs):
                hygiene.run(ctx, plain)
            rounds.append((time.perf_counter() - begun - without) / jobs * 1000)
        return statistics.median(rounds)

    async def measure_async() -> float:
        rounds = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(jobs // 10):
                await coroutine()
            without = time.perf_counter() - begun
            begun = time.perf_counter()
            for _ in range(jobs // 10):
                await hygiene.run_async(ctx, coroutine)
            rounds.append((time.perf_counter() - begun - without) / (jobs // 10) * 1000)
        return statistics.median(rounds)

    found: dict[str, float] = {}
    thread = threading.Thread(target=lambda: found.update(hygiene_ms=measure()))
    thread.start()
    thread.join()
    found["hygiene_async_ms"] = asyncio.run(measure_async())
    return found


if __name__ == "__main__":
    sys.exit(main())
