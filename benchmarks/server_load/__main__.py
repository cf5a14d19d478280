"""Load the embedded server: `python -m benchmarks.server_load`.

Mixed open-loop traffic at a fixed rate, after which every job must be accounted for; then how fast it goes with single
calls, batches and claims, and whether a claim from a million stored jobs takes longer than from a thousand. The server
is a process of its own on an SQLite file. Compare numbers of one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.server_load._closed import bulks, claim_ratio, claims_and_completes, creates
from benchmarks.server_load._numbers import Bar
from benchmarks.server_load._open import Traffic
from benchmarks.server_load._report import show
from benchmarks.server_load._wire import Wire

KEY = "sp_test_the-key-of-the-server-under-load-000000"
CONNECTIONS = 64
FEW = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server_load", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rate", type=int, default=2000, help="calls a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="of mixed traffic (default: %(default)s)")
    parser.add_argument("--stored", type=int, default=1_000_000, help="jobs of the large backlog")
    parser.add_argument("--quick", action="store_true", help="10 s and 100,000 jobs")
    parser.add_argument("--only", choices=("mixed", "rates", "claims"), help="one of the three parts")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.stored = 10, 100_000
    loop_factory = None
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as loop_factory
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(_measure(options))
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0 if result["passed"] else 1


async def _measure(options: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    bars: list[Bar] = []
    parts = (options.only,) if options.only else ("mixed", "rates", "claims")
    if "mixed" in parts:
        with _server() as url:
            result["mixed"] = await _mixed(url, options.rate, options.seconds, bars)
    if "rates" in parts:
        with _server() as url:
            result["rates"] = await _rates(url, 1 if options.quick else 3, bars)
    if "claims" in parts:
        with _server() as few, _server() as many:
            result["claims"] = await _claims(few, many, options.stored, bars)
    result["bars"] = [
        {
            "text": bar.text,
            "value": bar.value,
            "bar": bar.wanted,
            "at_most": bar.at_most,
            "passed": bar.passed,
        }
        for bar in bars
    ]
    result["passed"] = all(bar.passed for bar in bars)
    return result


async def _mixed(url: str, rate: int, seconds: float, bars: list[Bar]) -> dict[str, Any]:
    _say(f"{rate} calls a second for {seconds:g} s")
    async with Wire(url, KEY, CONNECTIONS) as wire:
        traffic = Traffic(wire, rate, seconds)
        await traffic.run()
        await traffic.drain()
        wrong = await traffic.ledger.audit(wire)
    errors = {kind: times.errors for kind, times in traffic.times.items() if times.errors}
    kinds = {
        kind: {
            "calls": len(times.seconds),
            "p50_ms": times.milliseconds(0.50),
            "p99_ms": times.milliseconds(0.99),
            "max_ms": times.milliseconds(1.0),
        }
        for kind, times in traffic.times.items()
    }
    achieved = traffic.sent / traffic.elapsed
    worst = max(kind["p99_ms"] or 0.0 for kind in kinds.values())
    bars += [
        Bar("mixed traffic: achieved calls/s over the rate that was asked for", achieved / rate, 0.99),
        Bar("mixed traffic: the worst kind's p99 in ms", worst, 50.0, at_most=True),
        Bar("mixed traffic: errors", float(sum(map(len, errors.values()))), 0.0, at_most=True),
        Bar("mixed traffic: complaints of the audit", float(len(wrong)), 0.0, at_most=True),
    ]
    return {
        "rate": rate,
        "achieved": achieved,
        "kinds": kinds,
        "errors": errors,
        "jobs": len(traffic.ledger.created),
        "audit": wrong,
    }


async def _rates(url: str, scale: int, bars: list[Bar]) -> dict[str, float]:
    async with Wire(url, KEY, CONNECTIONS) as wire:
        _say("single creates")
        single = await creates(wire, 5_000 * scale)
        _say("bulk creates")
        bulk = await bulks(wire, 300 * scale)
        _say("claims and completes")
        claimed = await claims_and_completes(wire, 5_000 * scale)
    bars += [
        Bar("single creates a second", single, 1_500),
        Bar("jobs a second in batches of 100", bulk, 20_000),
        Bar("jobs claimed and completed a second", claimed, 1_500),
    ]
    return {"creates": single, "bulk_jobs": bulk, "claimed_and_completed": claimed}


async def _claims(few_url: str, many_url: str, stored: int, bars: list[Bar]) -> dict[str, float]:
    _say(f"storing {stored:,} jobs")
    async with Wire(few_url, KEY, 8) as few, Wire(many_url, KEY, 8) as many:
        await bulks(few, FEW // 100, "backlog")
        await bulks(many, stored // 100, "backlog")
        _say("claims from both")
        await claim_ratio(few, many, 50)
        few_ms, many_ms = await claim_ratio(few, many, 500)
    bars.append(
        Bar(f"a claim from {stored:,} jobs over one from {FEW:,}", many_ms / few_ms, 1.5, at_most=True)
    )
    return {"stored": stored, "few_ms": few_ms, "many_ms": many_ms}


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """A server process on a file of its own; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("spooled")), "server", "--port", "0", "--api-key", KEY]
        with subprocess.Popen(
            [*command, "--db", f"{folder}/jobs.db"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as server:
            assert server.stdout is not None
            try:
                yield json.loads(server.stdout.readline())["url"]
            finally:
                server.terminate()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
