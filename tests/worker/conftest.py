from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spooled import SpooledClient
from spooled_contrib.server import EmbeddedServer


class Outside:
    """Looks at the server over plain HTTP, so that a fault of our client cannot hide a fault of our worker."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.http = httpx.Client(
            base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {server.api_key}"}
        )

    def enqueue(self, queue_name: str = "q", payload: Any = None, **options: Any) -> str:
        answer = self.http.post("/jobs", json={"queue_name": queue_name, "payload": payload, **options})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def enqueue_many(self, count: int, queue_name: str = "q") -> list[str]:
        ids: list[str] = []
        for start in range(0, count, 100):
            jobs = [{"payload": {"n": n}} for n in range(start, min(start + 100, count))]
            answer = self.http.post("/jobs/bulk", json={"queue_name": queue_name, "jobs": jobs})
            ids += [one["job_id"] for one in answer.json()["succeeded"]]
        return ids

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/jobs/{job_id}").json())

    def status(self, job_id: str) -> str:
        return str(self.job(job_id)["status"])

    def counts(self, queue_name: str = "q") -> dict[str, int]:
        return dict(self.http.get("/jobs/stats", params={"queue_name": queue_name}).json())

    def workers(self) -> list[dict[str, Any]]:
        return list(self.http.get("/workers").json())


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(server)
    yield looking
    looking.http.close()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[SpooledClient]:
    with SpooledClient(api_key=server.api_key, base_url=server.url) as made:
        yield made
