"""The router: probes and statistics."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient

from spooled_contrib.fastapi import Spooled
from spooled_contrib.server import EmbeddedServer
from tests.fastapi.models import Email
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside


def get_admin(x_admin: Annotated[str, Header()] = "") -> None:
    if x_admin != "secret":
        raise HTTPException(403)


def application(spooled: Spooled) -> FastAPI:
    app = FastAPI(lifespan=spooled.lifespan)
    app.include_router(spooled.router, prefix="/spooled")

    @spooled.job("emails")
    async def send(email: Email) -> None: ...

    return app


def test_probes_of_a_healthy_process(server: EmbeddedServer) -> None:
    app = application(Spooled(server.api_key, base_url=server.url, run_worker=True))
    with TestClient(app) as client:
        wait_until(lambda: client.get("/spooled/health/ready").status_code == 200)
        assert client.get("/spooled/health/ready").json() == {
            "status": "ready",
            "workers": {"emails": "running"},
        }
        assert client.get("/spooled/health/live").json() == {"status": "live"}
        assert client.get("/spooled/health/drain").json() == {"status": "serving", "active_jobs": 0}


def test_a_process_without_workers_is_ready(server: EmbeddedServer) -> None:
    app = application(Spooled(server.api_key, base_url=server.url))
    with TestClient(app) as client:
        assert client.get("/spooled/health/ready").json() == {"status": "ready", "workers": {}}


def test_a_process_whose_lifespan_has_not_begun_is_not_ready() -> None:
    client = TestClient(application(Spooled("sp_test_x")))
    assert client.get("/spooled/health/live").status_code == 200
    assert client.get("/spooled/health/ready").status_code == 503


def test_a_refused_worker_leaves_the_application_alive_and_not_ready(
    server: EmbeddedServer, caplog: Any
) -> None:
    app = application(Spooled("sp_test_" + "x" * 40, base_url=server.url, run_worker=True))

    @app.get("/")
    async def index() -> str:
        return "still here"

    with caplog.at_level("ERROR", "spooled"), TestClient(app) as client:
        wait_until(lambda: "the workers have ended" in caplog.text)
        assert client.get("/spooled/health/ready").status_code == 503
        assert client.get("/spooled/health/live").status_code == 200
        assert client.get("/").json() == "still here"


def test_a_server_that_is_gone_makes_it_not_ready_and_its_return_ready_again(server: EmbeddedServer) -> None:
    app = application(
        Spooled(server.api_key, base_url=server.url, run_worker=True, worker={"poll_interval": 0.02})
    )
    with TestClient(app) as client:
        wait_until(lambda: client.get("/spooled/health/ready").status_code == 200)
        server.stop()
        wait_until(lambda: client.get("/spooled/health/ready").status_code == 503)
        server.start()
        wait_until(lambda: client.get("/spooled/health/ready").status_code == 200)


def test_draining_is_shown(server: EmbeddedServer, outside: Outside) -> None:
    spooled = Spooled(server.api_key, base_url=server.url, run_worker=True)
    app = FastAPI(lifespan=spooled.lifespan)
    app.include_router(spooled.router)
    begun, go_on = threading.Event(), threading.Event()

    @spooled.job("emails")
    def send(email: Email) -> None:
        begun.set()
        assert go_on.wait(HOPELESS)

    client = TestClient(app)  # outside of the lifespan: on a loop of its own for each request
    seen: list[tuple[int, Any]] = []

    def watch() -> None:
        runtime = spooled.runtime
        assert runtime is not None
        wait_until(lambda: runtime.draining)
        for path in ("/health/drain", "/health/ready", "/health/live"):
            answer = client.get(path)
            seen.append((answer.status_code, answer.json().get("status")))
        go_on.set()

    with TestClient(app):
        outside.enqueue("emails", {"to": "ada"})
        assert begun.wait(HOPELESS)
        watching = threading.Thread(target=watch)
        watching.start()
    watching.join()
    assert seen == [(503, "draining"), (503, "not ready"), (200, "live")]


def test_statistics_are_off_until_they_are_protected(server: EmbeddedServer) -> None:
    app = application(Spooled(server.api_key, base_url=server.url))
    with TestClient(app) as client:
        assert client.get("/spooled/queues").status_code == 404


def test_statistics_are_behind_the_users_dependency(server: EmbeddedServer, outside: Outside) -> None:
    app = application(Spooled(server.api_key, base_url=server.url, statistics=Depends(get_admin)))
    outside.enqueue("emails", {})
    outside.enqueue("other", {})
    with TestClient(app) as client:
        assert client.get("/spooled/queues").status_code == 403
        answer = client.get("/spooled/queues", headers={"X-Admin": "secret"})
        assert answer.json() == [
            {
                "queue_name": "emails",
                "pending": 1,
                "scheduled": 0,
                "processing": 0,
                "completed": 0,
                "deadletter": 0,
                "cancelled": 0,
            }
        ]
        server.stop()
        answer = client.get("/spooled/queues", headers={"X-Admin": "secret"})
        assert answer.status_code == 503
        assert server.api_key not in answer.text
        server.start()


def test_the_routes_are_in_the_openapi_document(server: EmbeddedServer) -> None:
    app = application(Spooled(server.api_key, base_url=server.url, statistics=[Depends(get_admin)]))
    paths = app.openapi()["paths"]
    assert set(paths) == {
        "/spooled/health/live",
        "/spooled/health/ready",
        "/spooled/health/drain",
        "/spooled/queues",
    }
    assert "503" in paths["/spooled/health/ready"]["get"]["responses"]
