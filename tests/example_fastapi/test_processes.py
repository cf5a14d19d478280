"""`example_projects/fastapi_app` as its users meet it: processes, HTTP, mails."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from tests.example_fastapi.conftest import (
    Application,
    Environment,
    Mails,
    answers,
    process,
    uvicorn,
    worker_alone,
)
from tests.example_fastapi.using import sign_up, upload, wait_for_thumbnails
from tests.ports import free_port
from tests.waiting import HOPELESS, wait_until


def use(app: Application, mails: Mails) -> None:
    """Sign up with a double click, upload a picture, and see the work done."""
    jobs = {sign_up(app.http, "ada@example.org", "Ada") for _ in range(2)}
    assert len(jobs) == 1
    wait_for_thumbnails(app.http, upload(app.http))
    wait_until(lambda: mails.received, "the mail arrives")
    (mail,) = mails.received
    assert (mail["To"], mail["From"], mail["Subject"]) == ("ada@example.org", "hello@example.org", "Welcome!")
    assert mail.get_content().splitlines() == ["Hello Ada,", "", "good to have you here."]


def test_with_the_worker_in_the_application(with_server: Environment, mails: Mails) -> None:
    with uvicorn(with_server, works=True) as app:
        use(app, mails)
        wait_until(lambda: app.http.get("/spooled/health/ready").status_code == 200)
        assert app.http.get("/spooled/health/ready").json()["workers"].keys() == {"emails", "images"}
        assert app.http.get("/spooled/queues").status_code == 403

        def completed() -> dict[str, int]:
            shown = app.http.get("/spooled/queues", headers={"X-Admin-Token": "let me in"}).json()
            return {one["queue_name"]: one["completed"] for one in shown}

        wait_until(lambda: completed() == {"emails": 1, "images": 1}, "both jobs are acked")


def test_with_the_worker_in_a_process_of_its_own(with_server: Environment, mails: Mails) -> None:
    with uvicorn(with_server, works=False) as app, worker_alone(with_server) as worker:
        use(app, mails)
        assert app.http.get("/spooled/health/ready").json() == {"status": "ready", "workers": {}}
        worker.terminate()
        assert worker.wait() == 0
    assert "Traceback" not in app.log + worker.log


def test_two_processes_share_the_work(
    with_server: Environment, mails: Mails, spooled_http: httpx.Client
) -> None:
    mails.hold()
    people = [f"person{n:02}@example.org" for n in range(20)]
    with uvicorn(with_server, "--workers", "2", works=True) as app:
        for person in people:
            sign_up(app.http, person)
        # One process sends five at a time, so ten are two processes' work.
        wait_until(lambda: mails.held == 10, "both processes send")
        mails.let_go()
        wait_until(
            lambda: spooled_http.get("/jobs/stats").json()["completed"] == len(people), "all jobs are acked"
        )
        app.terminate()
        app.wait()
    assert mails.addresses == people
    assert "Traceback" not in app.log


def test_one_command_runs_it_all(environment: Environment, tmp_path: Path) -> None:
    ports = ["--port", str(free_port()), "--mail-port", str(free_port())]
    # Someone's shell may know a real mail server. No mail may get there.
    elsewhere = {**environment, "SMTP_HOST": "mail.invalid"}
    with process(elsewhere, "run.py", *ports, "--folder", str(tmp_path / "new")) as running:
        url = running.find(r"(http://127\.0\.0\.1:\d+)/docs")
        wait_until(lambda: answers(f"{url}/spooled/health/ready"), "the application is ready")
        with httpx.Client(base_url=url, timeout=HOPELESS) as http:
            sign_up(http, "bob@example.org", "Bob")
            wait_for_thumbnails(http, upload(http))
        assert running.find(r"mail to (\S+): Welcome!\nHello Bob,\n") == "bob@example.org"
        running.send(signal.SIGINT)
        assert running.wait() == 0
    assert "Traceback" not in running.log
