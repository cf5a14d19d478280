"""`python -m benchmarks`: this library's workers beside the official SDK's and beside Redis queues, in one run.

Handlers do nothing: what is measured is what the queue costs. Every worker is a process of its own, in a virtual
environment of its own, and so is every server. Runs alternate, and medians are shown, because machines are noisy;
compare rows of one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys

from benchmarks._bars import bars
from benchmarks._contenders import CONTENDERS, Contender
from benchmarks._environments import build, packages
from benchmarks._processes import MeasurementError
from benchmarks._report import as_json, show, write
from benchmarks._runs import Calm, Row, Setup, calm, drain, publish

MEMORY_AFTER = (10_000, 100_000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only this library, once, in less than a minute")
    parser.add_argument("--full", action="store_true", help="also memory after 10,000 and 100,000 jobs")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="only workers with NAME in their name"
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument(
        "--redis", metavar="PATH", default=os.environ.get("REDIS_SERVER"), help="the redis-server to start"
    )
    parser.add_argument("--save", action="store_true", help="keep the table in benchmarks/RESULTS.md")
    options = parser.parse_args()
    # So that an end from outside ends servers and workers as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    redis = options.redis or shutil.which("redis-server")
    chosen = [
        contender
        for contender in CONTENDERS
        if (contender.quick or not options.quick)
        and (not options.only or any(name in contender.name for name in options.only))
    ]
    if not chosen:
        parser.error(f"no worker is called that; there are: {', '.join(one.name for one in CONTENDERS)}")
    uses_redis = any("redis" in one.targets for one in chosen)
    if redis is None and uses_redis:
        _say("no redis-server: the Redis queues are left out (Debian: apt install redis-server)")
        chosen = [one for one in chosen if "redis" not in one.targets]
        uses_redis = False
    pythons = build({one.environment for one in chosen})
    chosen = [one for one in chosen if one.environment in pythons]
    setup = Setup(pythons, redis)
    rows = [
        Row(one, target)
        for one in chosen
        for target in (*one.targets, *(() if options.quick else one.further))
    ]
    producers = [Row(one, one.publishes) for one in chosen if one.publishes]

    _drain_all(setup, rows, options.repeat or (1 if options.quick else 3), 0.5 if options.quick else 1.0)
    how = Calm(4, 5, 8, (0.3, 1.0)) if options.quick else Calm(30, 40, 22)
    for alone in (False, True):
        group = [row for row in rows if row.contender.calm and row.contender.alone is alone and _is_calm(row)]
        if group:
            _say(f"idle and pick-up: {', '.join(row.contender.name for row in group)}")
            calm(setup, group, Calm(2, 5, how.jobs, how.interval) if alone else how)
    if options.full:
        _remember_all(setup, rows)
    _publish_all(
        setup, producers, options.repeat or (1 if options.quick else 3), 500 if options.quick else 2000
    )

    verdicts = bars(rows, producers, steady=not options.quick)
    versions = {name: packages(name, python) for name, python in pythons.items()}
    if uses_redis:
        assert redis is not None
        shown = subprocess.run([redis, "--version"], capture_output=True, text=True).stdout
        versions["redis"] = {"redis-server": shown.partition("v=")[2].partition(" ")[0]}
    if options.json:
        print(json.dumps(as_json(rows + producers, verdicts, versions), indent=2))
    else:
        show(rows, producers, verdicts)
    if options.save:
        write(rows, producers, verdicts, versions, f"make bench{' BENCH=--full' if options.full else ''}")
    broken = any(bar.decides and bar.value is not None and not bar.passed for bar in verdicts)
    return 1 if broken else 0


def _is_calm(row: Row) -> bool:
    """One server each is enough, but for ours, whose wake-ups the embedded server should give as well."""
    return row.target in ("stub", "redis") or (row.target == "server" and row.contender.environment == "ours")


def _drain_all(setup: Setup, rows: list[Row], rounds: int, scale: float) -> None:
    for number in range(rounds):
        for row in rows:
            contender: Contender = row.contender
            if contender.fixed and number > 0:
                continue  # its own pauses set the rate, which is the same each time
            jobs = contender.jobs if contender.fixed else int(contender.jobs * scale)
            _attempt(setup, row, jobs, f"round {number + 1}")


def _remember_all(setup: Setup, rows: list[Row]) -> None:
    for row in rows:
        if row.contender.memory and row.target in ("stub", "redis"):
            # In a row of its own, for the rate of a long run is another one than that of a short run.
            long = Row(row.contender, row.target)
            _attempt(setup, long, MEMORY_AFTER[-1], "memory", memory_after=MEMORY_AFTER, seconds=400)
            row.add(**{name: long.get(name) for name in long.values if name.startswith("memory_")})


def _publish_all(setup: Setup, producers: list[Row], rounds: int, jobs: int) -> None:
    for _ in range(rounds):
        for row in producers:
            try:
                publish(setup, row, jobs)
            except MeasurementError as error:
                _say(f"producer: {row.contender.name} against {row.target}: {error}")
            else:
                rate = row.values["publish_rate"][-1]
                _say(f"producer: {row.contender.name} against {row.target}: {rate:,.0f} jobs/s")


def _attempt(setup: Setup, row: Row, jobs: int, what: str, **more: object) -> None:
    try:
        drain(setup, row, jobs, **more)  # type: ignore[arg-type]
    except MeasurementError as error:
        _say(f"{what}: {row.contender.name} against {row.target}: {error}")
    else:
        _say(
            f"{what}: {row.contender.name} against {row.target}: {row.values.get('rate', [0])[-1]:,.0f} jobs/s"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
