"""Processes of the example that are stopped or killed while a mail is being sent."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from spooled.clock import ManualClock
from spooled_contrib.server import EmbeddedServer
from tests.example_fastapi.conftest import Environment, Mails, uvicorn, worker_alone
from tests.example_fastapi.using import sign_up, upload, wait_for_thumbnails
from tests.waiting import wait_until
from tests.worker.conftest import Outside


def draining(http: httpx.Client) -> bool:
    """Whether the server has been told that a worker stops."""
    return any(worker["status"] == "draining" for worker in http.get("/workers").json())


def assert_finished(http: httpx.Client, job: str) -> None:
    """The mail's handler has returned, in its first run.

    The status alone would not say so: a job that is given back is completed too, with a successor in its place.
    """
    ended = http.get(f"/jobs/{job}").json()
    assert (ended["status"], ended["retry_count"]) == ("completed", 0)
    assert ended["result"] == {"sent_to": "ada@example.org"}
    assert http.get("/jobs/stats", params={"queue_name": "emails"}).json()["total"] == 1


def test_the_application_finishes_its_mail_before_it_ends(
    with_server: Environment, mails: Mails, spooled_http: httpx.Client
) -> None:
    mails.hold()
    with uvicorn(with_server, works=True) as app:
        job = sign_up(app.http, "ada@example.org")
        wait_until(lambda: mails.held == 1, "the mail is being sent")
        image = upload(app.http)
        app.terminate()
        wait_until(lambda: draining(spooled_http), "the worker has heard the stop")
        assert spooled_http.get(f"/jobs/{job}").json()["status"] == "processing"
        mails.let_go()
        app.wait()
    assert "Traceback" not in app.log
    assert_finished(spooled_http, job)
    # The picture was finished, or waits for the next process. Nothing of it is lost, and no mail is sent again.
    with uvicorn(with_server, works=True) as app:
        wait_for_thumbnails(app.http, image)
        wait_until(lambda: spooled_http.get("/jobs/stats").json()["completed"] == 2, "both jobs are acked")
    assert mails.addresses == ["ada@example.org"]


def test_a_worker_finishes_its_mail_before_it_ends(
    with_server: Environment, mails: Mails, spooled_http: httpx.Client
) -> None:
    mails.hold()
    with uvicorn(with_server, works=False) as app:
        with worker_alone(with_server) as worker:
            job = sign_up(app.http, "ada@example.org")
            wait_until(lambda: mails.held == 1, "the mail is being sent")
            image = upload(app.http)
            worker.terminate()
            wait_until(lambda: draining(spooled_http), "the worker has heard the stop")
            assert spooled_http.get(f"/jobs/{job}").json()["status"] == "processing"
            mails.let_go()
            assert worker.wait() == 0
        assert_finished(spooled_http, job)
        with worker_alone(with_server, "--burst") as rest:
            assert rest.wait() == 0, rest.log
        wait_for_thumbnails(app.http, image)
        assert spooled_http.get("/jobs/stats").json()["completed"] == 2
    assert mails.addresses == ["ada@example.org"]


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A server whose leases end when the test says so."""
    with EmbeddedServer(clock=ManualClock()) as running:
        yield running


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    looking = Outside(server)
    yield looking
    looking.http.close()


@pytest.mark.parametrize("asked_first", [False, True], ids=["killed", "asked to stop, then killed"])
def test_what_was_killed_runs_again_after_its_lease(
    server: EmbeddedServer, outside: Outside, environment: Environment, mails: Mails, asked_first: bool
) -> None:
    settings = {**environment, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}
    mails.hold()
    with uvicorn(settings, works=True) as app:
        job = sign_up(app.http, "ada@example.org")
        wait_until(lambda: mails.held == 1, "the mail is being sent")
        image = upload(app.http)
        if asked_first:
            app.terminate()
            wait_until(lambda: draining(outside.http), "the worker has heard the stop")
        app.kill()
    # Whoever was killed could not say so. The job is his until the lease has ended, and then anybody's.
    assert outside.status(job) == "processing"
    wait_until(lambda: mails.held == 0, "the mail server sees the connection end")
    mails.let_go()
    server.advance(3600)
    with uvicorn(settings, works=True) as app:
        wait_until(lambda: outside.status(job) == "completed", "the mail's job runs again")
        wait_for_thumbnails(app.http, image)
    ended = outside.job(job)
    assert (ended["retry_count"], ended["result"]) == (1, {"sent_to": "ada@example.org"})
    # The first was never accepted. Had it been, there would be two, and the same Message-ID would say that they are
    # one: at least once is what a queue can promise.
    (mail,) = mails.received
    assert (mail["To"], mail["Message-ID"]) == ("ada@example.org", "<welcome-1@example.org>")
