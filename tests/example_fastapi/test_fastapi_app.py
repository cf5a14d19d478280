"""`example_projects/fastapi_app` as its users meet it: processes, HTTP, mails."""

from __future__ import annotations

import email
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from PIL import Image

from spooled.clock import ManualClock
from spooled_contrib.server import DEVELOPMENT_KEY, EmbeddedServer
from tests.ports import free_port
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

EXAMPLE = Path(__file__).parents[2] / "example_projects" / "fastapi_app"


class Mails:
    """A mail server that accepts a mail when the test says so."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.knocking = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        import asyncio

        self.knocking.set()
        await asyncio.get_running_loop().run_in_executor(None, self.gate.wait)
        message = email.message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"

    @property
    def addresses(self) -> list[str]:
        return sorted(str(mail["To"]) for mail in self.received)


@pytest.fixture
def mails() -> Iterator[Mails]:
    running = Mails()
    running._controller.start()
    yield running
    running.gate.set()
    running._controller.stop()


class Process:
    """A process of the example's; what it prints is read as it comes."""

    def __init__(self, environment: dict[str, str], *command: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=EXAMPLE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def find(self, pattern: str) -> str:
        """The first group of the pattern, once it has been printed."""
        wait_until(lambda: re.search(pattern, self.log) or self.popen.poll() is not None, pattern)
        found = re.search(pattern, self.log)
        assert found, self.log
        return found.group(1)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as stream:
            self.lines.extend(stream)

    def end(self) -> None:
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._reader.join()


@contextmanager
def process(environment: dict[str, str], *command: str) -> Iterator[Process]:
    running = Process(environment, *command)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def uvicorn(environment: dict[str, str], *options: str) -> Iterator[tuple[Process, httpx.Client]]:
    with process(environment, "-m", "uvicorn", "app.main:app", "--port", "0", *options) as running:
        url = running.find(r"running on (http://\S+)")
        with httpx.Client(base_url=url) as http:
            wait_until(lambda: _answers(http), running.log)
            yield running, http


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/spooled/health/live").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def environment(mails: Mails, tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
    return {
        **inherited,
        "APP_FOLDER": str(tmp_path),
        "SMTP_PORT": str(mails.port),
        "ADMIN_TOKEN": "let me in",
    }


@pytest.fixture
def server_process(environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an application whose Spooled is a process of its own."""
    command = [sys.executable, "-m", "spooled", "server", "--db", str(tmp_path / "jobs.db"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        url = json.loads(running.stdout.readline())["url"]
        yield {**environment, "SPOOLED_API_KEY": DEVELOPMENT_KEY, "SPOOLED_BASE_URL": url}
        running.terminate()


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (800, 400), "teal").save(data, "PNG")
    return data.getvalue()


def use(http: httpx.Client, mails: Mails, process: Process) -> None:
    """Sign up, upload a picture, and see the work done."""
    for _ in range(2):
        answer = http.post("/signup", json={"email": "ada@example.org", "name": "Ada"})
        assert answer.status_code == 202, answer.text
    image = http.post("/images", files={"file": ("teal.png", picture())}).json()["image"]
    wait_until(lambda: http.get(f"/images/{image}").json()["ready"], process.log)
    for size, expected in ((64, (64, 32)), (256, (256, 128))):
        with Image.open(io.BytesIO(http.get(f"/images/{image}/{size}").content)) as thumbnail:
            assert thumbnail.size == expected
    wait_until(lambda: mails.received, process.log)
    assert mails.addresses == ["ada@example.org"]
    assert "Hello Ada," in mails.received[0].get_content()


def test_with_the_worker_in_the_application(server_process: dict[str, str], mails: Mails) -> None:
    with uvicorn({**server_process, "SPOOLED_RUN_WORKER": "1"}) as (running, http):
        use(http, mails, running)
        wait_until(lambda: http.get("/spooled/health/ready").status_code == 200)
        assert http.get("/spooled/queues").status_code == 403
        shown = http.get("/spooled/queues", headers={"X-Admin-Token": "let me in"}).json()
        assert {one["queue_name"]: one["completed"] for one in shown} == {"emails": 1, "images": 1}


def test_with_the_worker_in_a_process_of_its_own(server_process: dict[str, str], mails: Mails) -> None:
    with (
        uvicorn(server_process) as (_, http),
        process(server_process, "-m", "spooled", "worker", "app.main:spooled") as worker,
    ):
        use(http, mails, worker)
        worker.popen.terminate()
        assert worker.popen.wait(HOPELESS) == 0


def test_two_processes_of_the_application(server_process: dict[str, str], mails: Mails) -> None:
    with uvicorn({**server_process, "SPOOLED_RUN_WORKER": "1"}, "--workers", "2") as (running, http):
        people = [f"person{n:02}@example.org" for n in range(20)]
        for person in people:
            http.post("/signup", json={"email": person, "name": "You"})
        wait_until(lambda: len(mails.received) >= 20, running.log)
    assert mails.addresses == people


@pytest.mark.parametrize("alone", [False, True])
def test_sigterm_in_the_middle_of_a_job_loses_and_doubles_nothing(
    server_process: dict[str, str], mails: Mails, alone: bool
) -> None:
    mails.gate.clear()
    outside = httpx.Client(
        base_url=server_process["SPOOLED_BASE_URL"], headers={"Authorization": f"Bearer {DEVELOPMENT_KEY}"}
    )
    with outside, uvicorn({**server_process, "SPOOLED_RUN_WORKER": "0" if alone else "1"}) as (running, http):
        command = ["-m", "spooled", "worker", "app.main:spooled"] if alone else ["-c", "pass"]
        with process(server_process, *command) as worker:
            job = http.post("/signup", json={"email": "ada@example.org", "name": "Ada"}).json()["job"]
            assert mails.knocking.wait(HOPELESS)
            http.post("/images", files={"file": ("teal.png", picture())})
            ending = worker if alone else running
            ending.popen.terminate()
            ending.find(r"(finishing \d|Waiting for application shutdown)")
            mails.gate.set()
            ending.popen.wait(HOPELESS)
        assert outside.get(f"/api/v1/jobs/{job}").json()["status"] == "completed"
        assert mails.addresses == ["ada@example.org"]
        # What had not begun waits for the next worker, or was finished by this one.
        done = subprocess.run(
            [sys.executable, "-m", "spooled", "worker", "app.main:spooled", "--burst"],
            cwd=EXAMPLE,
            env=server_process,
            check=False,
            capture_output=True,
            text=True,
            timeout=HOPELESS,
        )
        assert done.returncode == 0, done.stderr
        stats = outside.get("/api/v1/jobs/stats").json()
        assert (stats["completed"], stats["pending"], stats["processing"]) == (2, 0, 0)
    assert mails.addresses == ["ada@example.org"]


def test_sigkill_in_the_middle_of_a_job_runs_it_again(environment: dict[str, str], mails: Mails) -> None:
    mails.gate.clear()
    with EmbeddedServer(clock=ManualClock()) as server:
        settings = {**environment, "SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}
        outside = Outside(server)
        with uvicorn({**settings, "SPOOLED_RUN_WORKER": "1"}) as (running, http):
            job = http.post("/signup", json={"email": "ada@example.org", "name": "Ada"}).json()["job"]
            assert mails.knocking.wait(HOPELESS)
            running.popen.kill()
            running.popen.wait()
        mails.gate.set()
        server.advance(3600)
        with process(settings, "-m", "spooled", "worker", "app.main:spooled") as worker:
            wait_until(lambda: outside.status(job) == "completed", worker.log)
        assert outside.job(job)["retry_count"] == 1
        outside.http.close()
    # The mail server cannot know that it was the same mail: at least once is what a queue can promise.
    assert set(mails.addresses) == {"ada@example.org"}


def test_one_command_runs_it_all(environment: dict[str, str], tmp_path: Path) -> None:
    ports = ["--port", str(free_port()), "--mail-port", str(free_port())]
    with process(environment, "run.py", *ports, "--folder", str(tmp_path / "new")) as running:
        url = running.find(r"(http://127\.0\.0\.1:\d+)/docs")

        def sign_up() -> bool:
            try:
                return httpx.post(
                    f"{url}/signup", json={"email": "bob@example.org", "name": "Bob"}
                ).is_success
            except httpx.TransportError:
                return False

        wait_until(sign_up, running.log)
        assert running.find(r"mail to (\S+): Welcome!") == "bob@example.org"
        running.popen.send_signal(signal.SIGINT)
        running.popen.wait(HOPELESS)
        assert "Traceback" not in running.log


def test_its_own_tests_pass(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout


def test_it_is_well_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "app", "run.py", "tests"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
