"""Servers, and a thin caller for the HTTP interface: plain httpx, so that no client of ours hides a mistake.

With SPOOLED_TEST_STORAGE=postgresql every server that these fixtures start keeps its jobs in PostgreSQL (see
`make test-postgres`). Tests of files are marked `sqlite_only` and skipped then.
"""

from __future__ import annotations

import itertools
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.postgres import Postgres, running_postgres
from tests.server.receiver import Receiver
from tests.waiting import HOPELESS, wait_until

ON_POSTGRES = os.environ.get("SPOOLED_TEST_STORAGE") == "postgresql"

_numbers = itertools.count(1)
# Building a TLS context for each client would take longer than most tests, and nothing here speaks TLS.
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Api:
    """One organization's view of a server."""

    def __init__(self, server: EmbeddedServer, key: str, organization_id: str) -> None:
        self.server = server
        self.key = key
        self.organization_id = organization_id
        self.http = httpx.Client(
            base_url=server.url + "/api/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=HOPELESS,
            verify=_TLS,
        )
        self._others: list[Api] = []

    def bare(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request without the key."""
        return httpx.request(method, self.server.url + path, verify=_TLS, timeout=HOPELESS, **options)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.http.get(path, params=params)

    def get_with_host(self, host: str) -> int:
        """The status of a harmless call that names the server so."""
        return self.http.get("/jobs", headers={"host": host}).status_code

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.http.post(path, json={} if body is None else body, **options)

    def put(self, path: str, body: Any) -> httpx.Response:
        return self.http.put(path, json=body)

    def delete(self, path: str, **params: Any) -> httpx.Response:
        return self.http.delete(path, params=params)

    def create(self, queue: str = "mail", payload: Any = None, **fields: Any) -> str:
        response = self.post("/jobs", {"queue_name": queue, "payload": payload, **fields})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def claim(
        self, queue: str = "mail", worker: str = "w1", limit: int = 1, lease: int = 30
    ) -> list[dict[str, Any]]:
        response = self.post(
            "/jobs/claim",
            {"queue_name": queue, "worker_id": worker, "limit": limit, "lease_duration_secs": lease},
        )
        assert response.status_code == 200, response.text
        jobs: list[dict[str, Any]] = response.json()["jobs"]
        return jobs

    def claim_one(self, queue: str = "mail", worker: str = "w1", lease: int = 30) -> dict[str, Any]:
        (job,) = self.claim(queue, worker, 1, lease)
        return job

    def ack(self, verb: str, job: dict[str, Any], worker: str = "w1", **fields: Any) -> httpx.Response:
        body = {"worker_id": worker, "lease_id": job["lease_id"], **fields}
        return self.post(f"/jobs/{job['id']}/{verb}", body)

    def complete(self, job: dict[str, Any], worker: str = "w1", **fields: Any) -> httpx.Response:
        return self.ack("complete", job, worker, **fields)

    def fail(self, job: dict[str, Any], worker: str = "w1", error: str = "boom") -> httpx.Response:
        return self.ack("fail", job, worker, error=error)

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def status(self, job_id: str) -> str:
        return str(self.job(job_id)["status"])

    def bury(self, queue: str = "mail", **fields: Any) -> str:
        """A job in the dead-letter queue."""
        job_id = self.create(queue, max_retries=0, priority=100, **fields)
        job = self.claim_one(queue)
        assert job["id"] == job_id
        assert self.fail(job).status_code == 200
        return job_id

    def scoped(self, *queues: str) -> Api:
        """The same organization through a key that is limited to queues."""
        response = self.post("/api-keys", {"name": "scoped", "queues": list(queues)})
        assert response.status_code == 201, response.text
        return self.with_key(response.json()["key"])

    def with_key(self, key: str) -> Api:
        other = Api(self.server, key, self.organization_id)
        self._others.append(other)
        return other

    def hook(self, url: str, *events: str, **fields: Any) -> str:
        """An outgoing webhook; its id."""
        body = {"name": "hook", "url": url, "events": list(events), **fields}
        response = self.post("/outgoing-webhooks", body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def webhook(self, webhook_id: str) -> dict[str, Any]:
        response = self.get(f"/outgoing-webhooks/{webhook_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def deliveries(self, webhook_id: str, **params: Any) -> list[dict[str, Any]]:
        response = self.get(f"/outgoing-webhooks/{webhook_id}/deliveries", **params)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()
        return found

    def close(self) -> None:
        self.http.close()
        for other in self._others:
            other.close()


def new_organization(server: EmbeddedServer) -> Api:
    slug = f"tests-{next(_numbers)}"
    url = server.url + "/api/v1/organizations"
    response = httpx.post(url, json={"name": "Tests", "slug": slug}, verify=_TLS)
    assert response.status_code == 201, response.text
    body = response.json()
    return Api(server, body["api_key"]["key"], body["organization"]["id"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ON_POSTGRES:
        for item in items:
            if item.get_closest_marker("sqlite_only"):
                item.add_marker(pytest.mark.skip(reason="is about SQLite"))


@pytest.fixture(scope="session")
def fresh_db() -> Iterator[Callable[[], str]]:
    """A `db` for a server that starts empty, in the storage that is tested."""
    if not ON_POSTGRES:
        yield lambda: ":memory:"
        return
    postgres: Postgres
    with running_postgres() as postgres:
        yield postgres.fresh


@pytest.fixture(scope="session")
def shared_server(fresh_db: Callable[[], str]) -> Iterator[EmbeddedServer]:
    """One server for all tests that keep to an organization of their own and to real time."""
    with EmbeddedServer(db=fresh_db(), open_registration=True) as server:
        yield server


@pytest.fixture
def lasting_db(fresh_db: Callable[[], str], tmp_path: Path) -> str:
    """A `db` that a second server finds as the first one left it."""
    return fresh_db() if ON_POSTGRES else str(tmp_path / "jobs.db")


@pytest.fixture
def api(shared_server: EmbeddedServer) -> Iterator[Api]:
    """A fresh organization on the shared server."""
    api = new_organization(shared_server)
    yield api
    api.close()


@pytest.fixture
def stranger(shared_server: EmbeddedServer) -> Iterator[Api]:
    """Another organization on the shared server."""
    api = new_organization(shared_server)
    yield api
    api.close()


@pytest.fixture
def start_server(fresh_db: Callable[[], str]) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start a server with options of its own; stopped at the end of the test."""
    servers: list[EmbeddedServer] = []

    def start(**options: Any) -> EmbeddedServer:
        server = EmbeddedServer(**{"db": fresh_db(), **options} if "db" not in options else options).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect() -> Iterator[Callable[[EmbeddedServer], Api]]:
    """The server's own organization on a server; closed at the end of the test."""
    opened: list[Api] = []

    def open_api(server: EmbeddedServer) -> Api:
        opened.append(Api(server, server.api_key, "00000000-0000-4000-8000-000000000001"))
        return opened[-1]

    yield open_api
    for api in opened:
        api.close()


@pytest.fixture
def timed(start_server: Callable[..., EmbeddedServer], connect: Callable[[EmbeddedServer], Api]) -> Api:
    """A server whose clock only the test moves: `timed.server.advance(seconds)`."""
    return connect(start_server(clock=ManualClock()))


@pytest.fixture
def hooked(start_server: Callable[..., EmbeddedServer], connect: Callable[[EmbeddedServer], Api]) -> Api:
    """Like `timed`, and webhooks may call this machine."""
    return connect(start_server(clock=ManualClock(), allow_private_webhooks=True, open_registration=True))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that webhooks are delivered to."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Ask again until the answer is truthy, and return it; for what another thread does."""

    def wait(condition: Callable[[], Any]) -> Any:
        answers: list[Any] = []

        def ask() -> bool:
            answers[:] = [condition()]
            return bool(answers[0])

        wait_until(ask)
        return answers[0]

    return wait
