"""The write-ahead log stays small under readers that leave no gap, and shrinks afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from spooled.clock import SystemClock
from spooled_contrib.server import EmbeddedServer
from spooled_contrib.server._events import Hub
from spooled_contrib.server._storage.errors import OperationTimeoutError
from spooled_contrib.server._storage.sqlite import SqliteStorage
from spooled_contrib.server._storage.write_ahead_log import MEBIBYTE, LogLimits
from tests.waiting import wait_until

pytestmark = pytest.mark.sqlite_only

SMALL = LogLimits(copy=MEBIBYTE // 4, cut=MEBIBYTE, hold=4 * MEBIBYTE, interrupt=8 * MEBIBYTE, interval=0.2)

# Counts to a number, which is all that a search over many jobs is to the log: a transaction that takes long.
SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    "SELECT (SELECT MAX(i) FROM n), COUNT(*) FROM meta"
)


_values = itertools.count()


def log_size(path):
    return Path(f"{path}-wal").stat().st_size


def put(number):
    return lambda tx: tx.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (f"filler {number % 50}", f"{next(_values):08}" * 2_500),
    )


@contextlib.asynccontextmanager
async def opened(path, limits=SMALL):
    storage = SqliteStorage(str(path), clock=SystemClock(), hub=Hub(), log_limits=limits)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def test_readers_without_a_gap_do_not_let_it_grow(tmp_path):
    path = tmp_path / "jobs.db"
    writing = True
    sizes = []

    async def read_on(storage):
        while writing:
            await storage.read(lambda tx: tx.select(SLOW.format(100_000)))

    async with opened(path) as storage:
        readers = [asyncio.ensure_future(read_on(storage)) for _ in range(6)]
        for number in range(0, 4000, 10):  # some 100 MiB of log
            await asyncio.gather(*(storage.write(put(number + one)) for one in range(10)))
            sizes.append(log_size(path))
        assert max(sizes) < 16 * MEBIBYTE
        # It shrinks although nobody writes any more, and the readers go on.
        await asyncio.get_running_loop().run_in_executor(None, wait_until, lambda: log_size(path) == 0)
        writing = False
        await asyncio.gather(*readers)
        assert await storage.read(lambda tx: tx.select("SELECT COUNT(*) FROM meta")) == [(50,)]


async def test_a_read_that_does_not_end_is_stopped_when_the_log_must_be_cut(tmp_path):
    path = tmp_path / "jobs.db"
    async with opened(path) as storage:
        await storage.write(put(0))
        long = asyncio.ensure_future(storage.read(lambda tx: tx.select(SLOW.format(10**12))))
        written = 0
        while not long.done():
            await asyncio.gather(*(storage.write(put(written + one)) for one in range(10)))
            written += 10
            assert log_size(path) < 16 * MEBIBYTE
        with pytest.raises(OperationTimeoutError, match="stopped after"):
            await long
        assert await storage.read(lambda tx: tx.select_one("SELECT 1")) == (1,)


async def test_a_read_that_does_not_end_is_stopped_without_any_writes(tmp_path):
    limits = LogLimits(interval=0.1, read_seconds=0.2, shortest_interrupted=0.1)
    async with opened(tmp_path / "jobs.db", limits) as storage:
        await storage.write(put(0))
        quick = [storage.read(lambda tx: tx.select_one("SELECT 1")) for _ in range(3)]
        long = storage.read(lambda tx: tx.select(SLOW.format(10**12)))
        more = [storage.read(lambda tx: tx.select_one("SELECT 2")) for _ in range(3)]
        outcomes = await asyncio.gather(*quick, long, *more, return_exceptions=True)
    assert outcomes[:3] + outcomes[4:] == [(1,)] * 3 + [(2,)] * 3
    assert isinstance(outcomes[3], OperationTimeoutError)
    assert "narrow it" in outcomes[3].reason


async def test_another_process_that_reads_for_ever_does_not_stop_the_server(tmp_path, caplog):
    path = tmp_path / "jobs.db"
    async with opened(path) as storage:
        await storage.write(put(0))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT COUNT(*) FROM meta").fetchone()
            while "another process" not in caplog.text:
                await asyncio.gather(*(storage.write(put(one)) for one in range(20)))
                await storage.read(lambda tx: tx.select_one("SELECT 1"))
            other.execute("COMMIT")
        await asyncio.get_running_loop().run_in_executor(None, wait_until, lambda: log_size(path) == 0)
    assert caplog.text.count("another process reads the database") == 1


async def test_the_file_itself_follows_soon(tmp_path):
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    async with opened(path) as storage:
        await storage.write(put(7))
        await asyncio.get_running_loop().run_in_executor(None, wait_until, lambda: log_size(path) == 0)
        copy.write_bytes(path.read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT name FROM meta").fetchall() == [("filler 7",)]


def test_searches_over_http_do_not_let_it_grow(tmp_path):
    path = tmp_path / "jobs.db"
    with EmbeddedServer(db=str(path)) as server:
        headers = {"authorization": f"Bearer {server.api_key}"}
        stopping = threading.Event()
        sizes, statuses = [], set()

        def search():
            with httpx.Client(
                base_url=server.url + "/api/v1", headers=headers, verify=False, timeout=60
            ) as http:
                while not stopping.is_set():
                    statuses.add(http.get("/jobs", params={"q": "needle", "limit": 100}).status_code)

        def write():
            jobs = [{"payload": {"text": "x" * 18_000}} for _ in range(100)]
            with httpx.Client(
                base_url=server.url + "/api/v1", headers=headers, verify=False, timeout=60
            ) as http:
                for _ in range(70):
                    reply = http.post("/jobs/bulk", json={"queue_name": "mail", "jobs": jobs})
                    assert reply.status_code == 200, reply.text
                    sizes.append(log_size(path))

        with ThreadPoolExecutor(4) as threads:
            searches = [threads.submit(search) for _ in range(3)]
            try:
                threads.submit(write).result()
            finally:
                stopping.set()
            for one in searches:
                one.result()
        assert max(sizes) < 100 * MEBIBYTE
        assert statuses <= {200, 503}
        wait_until(lambda: log_size(path) == 0)
