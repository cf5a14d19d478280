"""`python -m benchmarks.celery_broker`: Celery's own worker on Spooled and on Redis, in one run.

No-op tasks, thread pool of 10, acks_late. Tasks are published first and drained then; each side is a process of its
own, and so is each broker. Runs alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from spooled_contrib.server import DEVELOPMENT_KEY


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.celery_broker", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--jobs", type=int, default=3000, metavar="N", help="tasks of a run (default: 3000)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    redis = shutil.which("redis-server")
    if redis is None:
        print("no redis-server to compare with (Debian: apt install redis-server)", file=sys.stderr)
        return 2
    rates: dict[str, dict[str, list[float]]] = {
        name: {"publish": [], "work": []} for name in ("spooled", "redis")
    }
    for number in range(options.repeat):
        for name, broker in (("spooled", _spooled), ("redis", lambda: _redis(redis))):
            with broker() as url:
                environment = {**os.environ, "BENCH_BROKER": url, "BENCH_JOBS": str(options.jobs)}
                for step in ("publish", "work"):
                    rates[name][step].append(_run(environment, step))
        print(f"run {number + 1} of {options.repeat}", file=sys.stderr, flush=True)
    medians = {
        name: {step: statistics.median(found) for step, found in steps.items()}
        for name, steps in rates.items()
    }
    ratio = medians["spooled"]["work"] / medians["redis"]["work"]
    if options.json:
        print(json.dumps({"tasks_per_second": medians, "ratio": ratio, "passed": ratio >= 1}, indent=2))
    else:
        print(f"{'broker':<10}{'published/s':>12}{'tasks/s':>10}")
        for name, steps in medians.items():
            print(f"{name:<10}{steps['publish']:>12,.0f}{steps['work']:>10,.0f}")
        print(
            f"bar: at least as many tasks/s as on Redis: {ratio:.2f}, {'passed' if ratio >= 1 else 'FAILED'}"
        )
    return 0 if ratio >= 1 else 1


def _run(environment: dict[str, str], step: str) -> float:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.drivers.celery_broker", step],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("rate "):
                process.terminate()
                return float(line.split()[1])
    raise RuntimeError(f"{step} ended without a rate")


@contextmanager
def _spooled() -> Iterator[str]:
    command = [sys.executable, "-m", "spooled", "server", "--db", ":memory:", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        yield f"spooled+{url.replace('http://', f'http://:{DEVELOPMENT_KEY}@')}"
        process.terminate()


@contextmanager
def _redis(program: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    ) as process:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


if __name__ == "__main__":
    sys.exit(main())
