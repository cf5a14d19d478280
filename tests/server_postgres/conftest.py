"""Several server processes on one PostgreSQL database, and plain calls to them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.postgres import Postgres, running_postgres
from tests.waiting import HOPELESS

KEY = "sp_test_key-of-the-servers-in-these-tests-000"
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_slugs = itertools.count(1)

MAIN = (
    "import argparse, sys; from spooled_contrib.server.command import add_server;"
    "parser = argparse.ArgumentParser(prog='spooled'); add_server(parser.add_subparsers(required=True));"
    "args = parser.parse_args(); sys.exit(args.run(args))"
)


class Process:
    """A server process."""

    def __init__(self, db: str, *args: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
        command = [
            sys.executable,
            "-c",
            MAIN,
            "server",
            "--port",
            "0",
            "--open-registration",
            "--api-key",
            KEY,
            *args,
        ]
        self._process = subprocess.Popen(
            command,
            # An environment is not shown in lists of processes.
            env={**kept, "SPOOLED_SERVER_DB": db},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def started(self) -> Process:
        """Return when it listens."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.lines
        self.told = json.loads(line)
        self.url = str(self.told["url"])
        return self

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(self._process.stderr)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(timeout=HOPELESS)
        finally:
            self._process.kill()
            self._reader.join(timeout=HOPELESS)
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()


class Caller:
    """One organization, through any server."""

    def __init__(self, key: str) -> None:
        self.key = key
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self.http = httpx.Client(
            headers={"authorization": f"Bearer {key}"}, verify=_TLS, timeout=HOPELESS, limits=limits
        )

    def get(self, server: Process, path: str, **params: Any) -> httpx.Response:
        return self.http.get(server.url + "/api/v1" + path, params=params)

    def post(self, server: Process, path: str, body: Any = None) -> httpx.Response:
        return self.http.post(server.url + "/api/v1" + path, json={} if body is None else body)

    def create(self, server: Process, queue: str = "mail", **fields: Any) -> str:
        response = self.post(server, "/jobs", {"queue_name": queue, "payload": {}, **fields})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def create_many(self, server: Process, count: int, queue: str = "mail") -> list[str]:
        made: list[str] = []
        while len(made) < count:
            jobs = [{"payload": {}}] * min(100, count - len(made))
            response = self.post(server, "/jobs/bulk", {"queue_name": queue, "jobs": jobs})
            made += [job["job_id"] for job in response.json()["succeeded"]]
        return made

    def claim(
        self, server: Process, worker: str = "w", limit: int = 1, lease: int = 30
    ) -> list[dict[str, Any]]:
        response = self.post(
            server,
            "/jobs/claim",
            {"queue_name": "mail", "worker_id": worker, "limit": limit, "lease_duration_secs": lease},
        )
        assert response.status_code == 200, response.text
        jobs: list[dict[str, Any]] = response.json()["jobs"]
        return jobs

    def complete(
        self, server: Process, job: dict[str, Any], worker: str = "w", **more: Any
    ) -> httpx.Response:
        body = {"worker_id": worker, "lease_id": job["lease_id"], **more}
        return self.post(server, f"/jobs/{job['id']}/complete", body)

    def job(self, server: Process, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(server, f"/jobs/{job_id}").json()
        return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def db(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.fresh()


@pytest.fixture
def spawn() -> Iterator[Callable[..., Process]]:
    """Start a server process; it may not listen yet (`started`)."""
    processes: list[Process] = []

    def start(db: str, *args: str) -> Process:
        processes.append(Process(db, *args))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture(scope="module")
def pair(postgres: Postgres) -> Iterator[tuple[Process, Process]]:
    """Two servers on one database, for tests that do them no harm."""
    db = postgres.fresh()
    servers = (Process(db), Process(db))
    try:
        yield servers[0].started(), servers[1].started()
    finally:
        for server in servers:
            server.end()


@pytest.fixture
def caller(pair: tuple[Process, Process]) -> Iterator[Caller]:
    """An organization of its own on the pair."""
    body = {"name": "Tests", "slug": f"tests-{os.getpid()}-{next(_slugs)}"}
    made = httpx.post(f"{pair[0].url}/api/v1/organizations", json=body, verify=_TLS, timeout=HOPELESS).json()
    made = Caller(made["api_key"]["key"])
    yield made
    made.http.close()


@pytest.fixture
def owner() -> Iterator[Caller]:
    """The servers' own organization."""
    made = Caller(KEY)
    yield made
    made.http.close()


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[Any]]]:
    """Call functions at the same moment, each in a thread; their results."""
    with ThreadPoolExecutor(32) as pool:

        def run(*calls: Callable[[], Any]) -> list[Any]:
            barrier = threading.Barrier(len(calls))

            def one(call: Callable[[], Any]) -> Any:
                barrier.wait(timeout=HOPELESS)
                return call()

            return [future.result() for future in [pool.submit(one, call) for call in calls]]

        yield run
