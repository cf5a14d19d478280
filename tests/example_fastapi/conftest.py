"""The processes that `example_projects/fastapi_app` consists of, and a mail server for them."""

from __future__ import annotations

import asyncio
import email
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller

from spooled_contrib.server import DEVELOPMENT_KEY
from tests.ports import free_port
from tests.processes import Process
from tests.waiting import HOPELESS, wait_until

EXAMPLE = Path(__file__).parents[2] / "example_projects" / "fastapi_app"

Environment = dict[str, str]


class Mails:
    """A mail server that answers when the test lets it.

    Attributes:
        received: Mails that were accepted.
        held: How many mails wait for their answer.
    """

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.held = 0
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._open = asyncio.Event()
        self._open.set()

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self.let_go()
        self._controller.stop()

    def hold(self) -> None:
        """Answer no mail that comes from now on."""
        self._controller.loop.call_soon_threadsafe(self._open.clear)

    def let_go(self) -> None:
        """Answer all that wait, and those that come."""
        self._controller.loop.call_soon_threadsafe(self._open.set)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.held += 1
        try:
            await self._open.wait()
        finally:
            self.held -= 1
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
    running.start()
    yield running
    running.stop()


def process(environment: Mapping[str, str], *command: str) -> Process:
    """A process of the example's."""
    return Process(*command, cwd=EXAMPLE, environment=environment)


def worker_alone(environment: Mapping[str, str], *options: str) -> Process:
    """`spooled worker`, as production has it."""
    return process(environment, "-m", "spooled", "worker", "app.main:spooled", *options)


class Application(Process):
    """uvicorn on a free port, and a client for it."""

    http: httpx.Client


@contextmanager
def uvicorn(environment: Mapping[str, str], *options: str, works: bool) -> Iterator[Application]:
    """The application.

    Args:
        environment: Its environment.
        options: Further options of uvicorn's.
        works: Whether it runs a worker inside.
    """
    settings = {**environment, "SPOOLED_RUN_WORKER": "1" if works else "0"}
    command = ["-m", "uvicorn", "app.main:app", "--port", "0", *options]
    with Application(*command, cwd=EXAMPLE, environment=settings) as running:
        url = running.find(r"running on (http://\S+)")
        with httpx.Client(base_url=url, timeout=HOPELESS) as running.http:
            wait_until(lambda: answers(f"{url}/spooled/health/live"), "the application answers")
            yield running


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def environment(mails: Mails, tmp_path: Path) -> Environment:
    """The application's settings, without where Spooled is."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED_")}
    return {
        **inherited,
        "APP_FOLDER": str(tmp_path / "data"),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mails.port),
        "SMTP_TIMEOUT": "60",  # the tests decide how long a mail is held, not a slow machine
        "ADMIN_TOKEN": "let me in",
    }


@pytest.fixture
def with_server(environment: Environment, tmp_path: Path) -> Iterator[Environment]:
    """The settings of an application whose Spooled is a process of its own."""
    with process(
        environment, "-m", "spooled", "server", "--db", str(tmp_path / "jobs.db"), "--port", "0"
    ) as running:
        url = json.loads(running.find(r"(?m)^\{.*\}$"))["url"]
        yield {**environment, "SPOOLED_API_KEY": DEVELOPMENT_KEY, "SPOOLED_BASE_URL": url}


@pytest.fixture
def spooled_http(with_server: Environment) -> Iterator[httpx.Client]:
    """Looks at the server over plain HTTP, so that a fault of the client's cannot hide one of the worker's."""
    with httpx.Client(
        base_url=f"{with_server['SPOOLED_BASE_URL']}/api/v1",
        headers={"Authorization": f"Bearer {DEVELOPMENT_KEY}"},
    ) as http:
        yield http
