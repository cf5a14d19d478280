"""What the embedded server does in a second, by storage: SQLite, PostgreSQL with one server, PostgreSQL with two.

    python -m benchmarks.server_storage                       a PostgreSQL of its own
    python -m benchmarks.server_storage --db postgresql://... yours (its search_path names an empty schema)
    python -m benchmarks.server_storage --backlog 1000000     claims with that many jobs stored, beside claims with few

Everything runs in one go, in turns, and each number is the best of them: on a shared machine the slower ones measure
the neighbours. Two servers get the same load as one, spread over both; on two processors, where the load generator
and PostgreSQL want some too, they cannot be twice as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from tests.postgres import Postgres, running_postgres

KEY = "sp_test_benchmark-key-for-loopback-only-00000000"
SPOOLED = str(Path(sys.executable).with_name("spooled"))
CONNECTIONS = 32
_names = itertools.count(1)

Step = Callable[[aiohttp.ClientSession, str], Awaitable[int]]


@contextlib.contextmanager
def servers(db: str, count: int) -> Iterator[list[str]]:
    """Server processes on one database; their URLs."""
    processes = []
    try:
        for _ in range(count):
            command = [SPOOLED, "server", "--port", "0", "--db", db, "--api-key", KEY]
            processes.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            )
        urls = []
        for process in processes:
            assert process.stdout is not None
            urls.append(json.loads(process.stdout.readline())["url"])
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=20)


async def rate(urls: list[str], seconds: float, step: Step) -> float:
    """Steps' results a second, of all connections together."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        end = time.perf_counter() + seconds

        async def one(number: int) -> int:
            base, done = urls[number % len(urls)] + "/api/v1", 0
            while time.perf_counter() < end:
                done += await step(session, base)
            return done

        began = time.perf_counter()
        total = sum(await asyncio.gather(*(one(number) for number in range(CONNECTIONS))))
        return total / (time.perf_counter() - began)


async def post(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with session.post(url, json=body) as response:
        found = await response.json()
        assert response.status < 300, found
        return found


PAYLOAD = {"to": "ann@example.com", "subject": "Hello", "body": "x" * 100}


async def create_one(session: aiohttp.ClientSession, base: str) -> int:
    await post(session, f"{base}/jobs", {"queue_name": "mail", "payload": PAYLOAD})
    return 1


async def create_bulk(session: aiohttp.ClientSession, base: str) -> int:
    body = {"queue_name": "mail", "jobs": [{"payload": PAYLOAD}] * 100}
    return int((await post(session, f"{base}/jobs/bulk", body))["success_count"])


async def claim_and_complete(session: aiohttp.ClientSession, base: str) -> int:
    """Ten jobs by one claim, each completed by a call of its own: eleven requests."""
    worker = "bench"
    found = await post(
        session, f"{base}/jobs/claim", {"queue_name": "mail", "worker_id": worker, "limit": 10}
    )
    for job in found["jobs"]:
        await post(
            session, f"{base}/jobs/{job['id']}/complete", {"worker_id": worker, "lease_id": job["lease_id"]}
        )
    return len(found["jobs"])


async def claim_one(session: aiohttp.ClientSession, base: str) -> int:
    found = await post(
        session, f"{base}/jobs/claim", {"queue_name": "mail", "worker_id": "bench", "limit": 1}
    )
    return len(found["jobs"])


STEPS: dict[str, Step] = {
    "create, one a request": create_one,
    "create, 100 a request": create_bulk,
    "claim 10 + complete each": claim_and_complete,
}


def throughput(postgres: Postgres, directory: Path, seconds: float, turns: int) -> None:
    """Print jobs a second, the best of the turns."""
    best: dict[tuple[str, str], float] = {}
    setups = {"SQLite": 1, "PostgreSQL, 1 server": 1, "PostgreSQL, 2 servers": 2}
    for _ in range(turns):
        for name, count in setups.items():
            db = str(directory / f"{next(_names)}.db") if name == "SQLite" else postgres.fresh()
            with servers(db, count) as urls:
                for what, step in STEPS.items():
                    found = asyncio.run(rate(urls, seconds, step))
                    best[name, what] = max(found, best.get((name, what), 0.0))
    print(f"{'jobs a second':<26}" + "".join(f"{name:>24}" for name in setups))
    for what in STEPS:
        print(f"{what:<26}" + "".join(f"{best[name, what]:>24,.0f}" for name in setups))


def backlog(postgres: Postgres, directory: Path, many: int, seconds: float, turns: int) -> None:
    """Print claims a second with `many` jobs stored and with few."""
    print(f"{'claims a second':<26}{'1,000 stored':>16}{f'{many:,} stored':>20}{'ratio':>8}")
    for name in ("SQLite", "PostgreSQL, 1 server"):
        few_db, many_db = (
            str(directory / f"{next(_names)}.db") if name == "SQLite" else postgres.fresh() for _ in range(2)
        )
        with servers(few_db, 1), servers(many_db, 1):
            pass  # makes the tables
        # What is claimed during the measurement has to be there; the rest is the backlog.
        fill(few_db, 1000, 0)
        fill(many_db, many, 0)
        best = {few_db: 0.0, many_db: 0.0}
        for turn in range(turns):
            for db in best:
                with servers(db, 1) as urls:
                    fill(db, 4000, turn + 1, hot=True)
                    best[db] = max(best[db], asyncio.run(rate(urls, seconds, claim_one)))
        print(f"{name:<26}{best[few_db]:>16,.0f}{best[many_db]:>20,.0f}{best[few_db] / best[many_db]:>8.2f}")


def fill(db: str, count: int, batch: int, *, hot: bool = False) -> None:
    """Put jobs into a database directly: waiting ones in the queue that is claimed from."""
    columns = (
        "id, organization_id, queue_name, status, ready, payload, job_type, priority, retry_count, max_retries, "
        "timeout_seconds, created_at, updated_at, dependency_mode, dependencies_met"
    )
    now = time.time_ns() // 1000
    priority = 5 if hot else 0
    fixed = f"'00000000-0000-4000-8000-000000000001', 'mail', 'pending', 1, '{json.dumps(PAYLOAD)}', '', {priority}"
    rest = f"0, 3, 300, {now} + n, {now}, 'all', 1"
    if db.startswith("postgresql"):
        with psycopg.connect(db, autocommit=True) as connection:
            connection.execute(
                f"INSERT INTO jobs ({columns}) SELECT '{batch}-' || n, {fixed}, {rest} "
                f"FROM generate_series(1, {count}) AS n".encode()
            )
            connection.execute("ANALYZE jobs")
        return
    import sqlite3

    database = sqlite3.connect(db, timeout=30)
    database.execute(
        f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
        f"INSERT INTO jobs ({columns}) SELECT '{batch}-' || n, {fixed}, {rest} FROM numbers"
    )
    database.commit()
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_storage", description=__doc__)
    parser.add_argument("--db", help="a PostgreSQL to use (default: one that is started for this)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each number is measured")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--backlog", type=int, metavar="N", help="measure claims with N jobs stored instead")
    args = parser.parse_args()
    if args.db:
        os.environ["SPOOLED_TEST_POSTGRES_URL"] = args.db
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as name:
        if args.backlog:
            backlog(postgres, Path(name), args.backlog, args.seconds, args.turns)
        else:
            throughput(postgres, Path(name), args.seconds, args.turns)


if __name__ == "__main__":
    main()
