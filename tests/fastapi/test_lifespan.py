"""The application's lifespan: client, workers, state, and their end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection

from spooled.errors import ConfigurationError
from spooled_contrib.fastapi import Spooled, SpooledDep
from spooled_contrib.server import EmbeddedServer
from tests.fastapi.models import Email
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


def plugin(server: EmbeddedServer, **options: Any) -> Spooled:
    return Spooled(server.api_key, base_url=server.url, **options)


def test_an_endpoint_enqueues_and_the_in_app_worker_runs(server: EmbeddedServer, outside: Outside) -> None:
    spooled = plugin(server, run_worker=True)
    app = FastAPI(lifespan=spooled.lifespan)

    @spooled.job("emails")
    async def send(email: Email) -> str:
        return f"sent to {email.to}"

    @app.post("/signup")
    async def sign_up() -> str:
        return (await send.enqueue(Email(to="ada"), priority=7, tags=["x"])).id

    with TestClient(app) as client:
        job_id = client.post("/signup").json()
        wait_until(lambda: outside.status(job_id) == "completed")
    assert outside.job(job_id)["result"] == "sent to ada"
    assert outside.job(job_id)["priority"] == 7
    assert outside.workers() == [] or all(one["status"] == "offline" for one in outside.workers())


@pytest.mark.parametrize(("value", "works"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_environment_decides_where_the_code_does_not(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, value: str, works: bool
) -> None:
    monkeypatch.setenv("SPOOLED_RUN_WORKER", value)
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
    spooled = Spooled()

    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        assert spooled.runtime is not None
        assert (spooled.runtime.group is not None) is works


def test_a_value_that_is_neither_yes_nor_no_is_refused(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_RUN_WORKER", "maybe")
    spooled = plugin(server)
    with (
        pytest.raises(ValueError, match="SPOOLED_RUN_WORKER must be"),
        TestClient(FastAPI(lifespan=spooled.lifespan)),
    ):
        pass
    assert spooled.runtime is None


def test_without_a_key_the_application_does_not_start() -> None:
    with (
        pytest.raises(ConfigurationError, match="SPOOLED_API_KEY"),
        TestClient(FastAPI(lifespan=Spooled().lifespan)),
    ):
        pass


@asynccontextmanager
async def resources(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
    app.state.opened = True
    yield {"db": "the pool"}
    app.state.opened = False


async def generator_resources(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
    yield {"db": "the pool"}


def get_db(conn: HTTPConnection) -> str:
    assert conn.app.state.name == "the app"
    return str(conn.state.db)


@pytest.mark.parametrize("lifespan", [resources, generator_resources])
def test_the_users_lifespan_is_around_ours_and_its_state_reaches_requests_and_jobs(
    server: EmbeddedServer, lifespan: Any
) -> None:
    spooled = plugin(server)
    app = FastAPI(lifespan=spooled.wrap(lifespan))
    app.state.name = "the app"

    @spooled.job("emails")
    async def send(email: Email, db: Annotated[str, Depends(get_db)]) -> str:
        return db

    @app.get("/db")
    async def db(request: Request, same: Annotated[str, Depends(get_db)]) -> list[str]:
        await send.enqueue(Email(to="ada"))
        return [request.state.db, same]

    with TestClient(app) as client:
        assert client.get("/db").json() == ["the pool", "the pool"]
        (job,) = spooled.drain_sync()
    assert job.result == "the pool"


def test_jobs_end_before_the_users_resources_are_closed(server: EmbeddedServer, outside: Outside) -> None:
    spooled = plugin(server, run_worker=True)
    app = FastAPI(lifespan=spooled.wrap(resources))
    begun, go_on = threading.Event(), threading.Event()
    seen = []

    @spooled.job("emails")
    def send(email: Email) -> None:
        begun.set()
        assert go_on.wait(HOPELESS)
        seen.append(app.state.opened)

    with TestClient(app):
        job_id = outside.enqueue("emails", {"to": "ada"})
        assert begun.wait(HOPELESS)
        assert spooled.runtime is not None
        runtime = spooled.runtime
        # The application begins to end while the job runs.
        threading.Thread(target=lambda: (wait_until(lambda: runtime.draining), go_on.set())).start()
    assert seen == [True]
    assert app.state.opened is False
    assert outside.status(job_id) == "completed"


def test_what_does_not_end_in_time_is_given_back(server: EmbeddedServer, outside: Outside) -> None:
    spooled = plugin(server, run_worker=True, shutdown_timeout=0.1)
    app = FastAPI(lifespan=spooled.lifespan)
    begun = threading.Event()
    ended = []

    @spooled.job("emails")
    async def send(email: Email) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with TestClient(app):
        outside.enqueue("emails", {"to": "ada"})
        assert begun.wait(HOPELESS)
    assert ended == [True]
    # Handed back: it, or the job that stands for it, waits for another worker.
    assert outside.counts("emails")["pending"] == 1


async def closing() -> AsyncGenerator[None, None]:
    yield


def test_a_thread_that_hangs_does_not_keep_the_application_from_ending(
    server: EmbeddedServer, outside: Outside
) -> None:
    spooled = plugin(server, run_worker=True, shutdown_timeout=0.1)
    begun, release = threading.Event(), threading.Event()

    @spooled.job("emails")
    def send(email: Email, nothing: Annotated[None, Depends(closing)]) -> None:
        begun.set()
        release.wait(HOPELESS)

    with TestClient(FastAPI(lifespan=spooled.lifespan)):
        outside.enqueue("emails", {"to": "ada"})
        assert begun.wait(HOPELESS)
    release.set()


def test_including_the_router_is_enough(server: EmbeddedServer, outside: Outside) -> None:
    spooled = plugin(server, run_worker=True)
    app = FastAPI(lifespan=resources)
    app.include_router(spooled.router, prefix="/spooled")

    @spooled.job("emails")
    async def send(email: Email, spooled: SpooledDep) -> str:
        return (await spooled.health.get()).status

    with TestClient(app) as client:
        assert client.get("/spooled/health/live").status_code == 200
        job_id = outside.enqueue("emails", {"to": "ada"})
        wait_until(lambda: outside.status(job_id) == "completed")
    assert app.state.opened is False


def test_an_included_router_says_why_it_does_not_know_the_state(server: EmbeddedServer) -> None:
    spooled = plugin(server)
    app = FastAPI(lifespan=resources)
    app.state.name = "the app"
    app.include_router(spooled.router)

    @spooled.job("emails", max_retries=0)
    async def send(email: Email, db: Annotated[str, Depends(get_db)]) -> None: ...

    @app.post("/")
    async def enqueue() -> None:
        await send.enqueue(Email(to="ada"))

    with TestClient(app) as client:
        client.post("/")
        (job,) = spooled.drain_sync()
    assert job.status == "deadletter"
    assert "spooled.wrap(my_lifespan)" in str(job.last_error)


def test_lifespan_and_included_router_together_start_one_worker(
    server: EmbeddedServer, outside: Outside
) -> None:
    spooled = plugin(server, run_worker=True)
    outer = APIRouter()
    outer.include_router(spooled.router, prefix="/spooled")
    app = FastAPI(lifespan=spooled.lifespan)
    app.include_router(outer)

    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    with TestClient(app) as client:
        wait_until(lambda: client.get("/spooled/health/ready").status_code == 200)
        assert len(outside.workers()) == 1


def test_one_object_serves_one_application_at_a_time_and_several_in_turn(server: EmbeddedServer) -> None:
    spooled = plugin(server)
    one, two = FastAPI(lifespan=spooled.lifespan), FastAPI(lifespan=spooled.lifespan)
    for app in (one, two, one):
        with TestClient(app):
            pass
    with TestClient(one), pytest.raises(RuntimeError, match="another application already"), TestClient(two):
        pass


def test_no_signal_handler_is_touched(server: EmbeddedServer) -> None:
    spooled = plugin(server, run_worker=True)

    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main() -> None:
        # On the main thread, where it would be possible.
        before = handlers()
        async with spooled.lifespan(FastAPI()):
            assert handlers() == before
        assert handlers() == before

    asyncio.run(main())


def test_a_worker_without_jobs_says_so(server: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(lifespan=plugin(server, run_worker=True).lifespan)
    with caplog.at_level("WARNING", "spooled"), TestClient(app):
        pass
    assert "no jobs are declared" in caplog.text


async def test_the_two_ends_of_the_lifespan_may_be_in_different_tasks(server: EmbeddedServer) -> None:
    """As in a fixture of pytest-asyncio."""
    running = plugin(server).lifespan(FastAPI())
    await asyncio.create_task(running.__aenter__())
    await asyncio.create_task(running.__aexit__(None, None, None))


def test_an_application_without_spooled_says_so() -> None:
    app = FastAPI()

    @app.get("/")
    async def endpoint(spooled: SpooledDep) -> None: ...

    with pytest.raises(RuntimeError, match="this application has no Spooled"):
        TestClient(app).get("/")
