"""How users test: TestClient, the ASGI transport, the fixture, drain."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from spooled import NetworkError
from spooled.clock import ManualClock
from spooled.errors import AuthenticationError
from spooled_contrib.fastapi import Spooled
from spooled_contrib.server import EmbeddedServer
from tests.fastapi.models import Email

spooled = Spooled(run_worker=True)  # as in production: key and address come from the environment
app = FastAPI(lifespan=spooled.lifespan)


@spooled.job("emails", "welcome")
async def send_welcome(email: Email) -> str:
    if email.to == "nobody":
        raise RuntimeError("no such address")
    await audit.enqueue(f"mailed {email.to}")
    return f"sent to {email.to}"


@spooled.job("audit")
def audit(line: str) -> None: ...


@app.post("/signup")
async def sign_up(email: Email) -> str:
    return (await send_welcome.enqueue(email, idempotency_key=f"welcome-{email.to}")).id


@app.post("/signup-sync")
def sign_up_sync(email: Email) -> str:
    return send_welcome.enqueue_sync(email).id


@pytest.fixture
def client(spooled_server: EmbeddedServer) -> Iterator[TestClient]:
    with spooled.testing(spooled_server), TestClient(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/signup", "/signup-sync"])
def test_with_the_test_client(client: TestClient, path: str) -> None:
    job_id = client.post(path, json={"to": "ada"}).json()
    done = spooled.drain_sync()
    # What a job enqueues on another queue is run too.
    assert [(job.queue_name, job.status) for job in done] == [("emails", "completed"), ("audit", "completed")]
    assert done[0].id == job_id
    assert done[0].result == "sent to ada"
    assert spooled.drain_sync() == []


def test_an_idempotency_key_makes_one_job_of_two_clicks(client: TestClient) -> None:
    ids = {client.post("/signup", json={"to": "ada"}).json() for _ in range(2)}
    assert len(ids) == 1
    assert len(spooled.drain_sync()) == 2


async def test_with_the_asgi_transport(spooled_server: EmbeddedServer) -> None:
    with spooled.testing(spooled_server):
        async with (
            spooled.lifespan(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
        ):
            await client.post("/signup", json={"to": "ada"})
            await client.post("/signup-sync", json={"to": "bob"})
            done = await spooled.drain()
    assert sorted(str(job.result) for job in done if job.queue_name == "emails") == [
        "sent to ada",
        "sent to bob",
    ]


def test_what_is_scheduled_waits_for_the_clock() -> None:
    clock = ManualClock()
    with EmbeddedServer(clock=clock) as server, spooled.testing(server), TestClient(app) as client:
        client.post("/signup", json={"to": "nobody"})
        (first,) = spooled.drain_sync()
        assert (first.status, first.retry_count) in [("pending", 1), ("scheduled", 1)]
        assert "no such address" in str(first.last_error)
        assert spooled.drain_sync() == []
        server.advance(3600)
        (second,) = spooled.drain_sync()
        assert (second.id, second.retry_count) == (first.id, 2)


def test_drain_refuses_to_race_the_applications_own_workers(server: EmbeddedServer) -> None:
    working = Spooled(server.api_key, base_url=server.url, run_worker=True)

    @working.job("emails")
    async def send(email: Email) -> None: ...

    with (
        TestClient(FastAPI(lifespan=working.lifespan)),
        pytest.raises(RuntimeError, match=r"drain\(\) is for tests"),
    ):
        working.drain_sync()


def test_drain_of_no_jobs(server: EmbeddedServer) -> None:
    empty = Spooled(server.api_key, base_url=server.url)
    with TestClient(FastAPI(lifespan=empty.lifespan)):
        assert empty.drain_sync() == []


def test_drain_raises_what_keeps_it_from_draining(server: EmbeddedServer) -> None:
    refused = Spooled("sp_test_" + "x" * 40, base_url=server.url)
    away = Spooled(server.api_key, base_url="http://127.0.0.1:9", retry={"max_retries": 0})
    for one, error in ((refused, AuthenticationError), (away, NetworkError)):

        @one.job("emails")
        async def send(email: Email) -> None: ...

        with TestClient(FastAPI(lifespan=one.lifespan)), pytest.raises(error):
            one.drain_sync()


def test_another_server_is_named_before_the_lifespan(client: TestClient, server: EmbeddedServer) -> None:
    with pytest.raises(RuntimeError, match="before the application's lifespan"), spooled.testing(server):
        pass
