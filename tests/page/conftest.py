"""A server with its page, a person's browser, and everybody else over plain HTTP."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from spooled_contrib.server import EmbeddedServer

CHROMIUM = shutil.which("chromium")
NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


class Outside:
    """What producers and workers do meanwhile."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.http = httpx.Client(
            base_url=f"{server.url}/api/v1", headers={"authorization": f"Bearer {server.api_key}"}
        )

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def create(self, queue: str = "mail", payload: Any = None, **fields: Any) -> str:
        body = {"queue_name": queue, "payload": payload, **fields}
        return str(self.call("POST", "/jobs", body, 201)["id"])

    def claim(self, queue: str = "mail", lease: int = 60) -> dict[str, Any]:
        body = {"queue_name": queue, "worker_id": "w1", "lease_duration_secs": lease}
        (job,) = self.call("POST", "/jobs/claim", body)["jobs"]
        return dict(job)

    def ack(self, verb: str, job: dict[str, Any], **fields: Any) -> None:
        body = {"worker_id": "w1", "lease_id": job["lease_id"], **fields}
        self.call("POST", f"/jobs/{job['id']}/{verb}", body)

    def bury(self, queue: str = "mail", error: str = "boom", **fields: Any) -> str:
        """A dead letter."""
        job_id = self.create(queue, fields.pop("payload", None), max_retries=0, priority=100, **fields)
        self.ack("fail", self.claim(queue), error=error)
        return job_id

    def status(self, job_id: str) -> str:
        return str(self.call("GET", f"/jobs/{job_id}")["status"])

    def new_key(self, *queues: str) -> tuple[str, str]:
        """A further key, and its id."""
        body = {"name": "page", "queues": list(queues)}
        made = self.call("POST", "/api-keys", body, 201)
        return made["key"], made["id"]


@pytest.fixture
def outside(server: EmbeddedServer) -> Iterator[Outside]:
    others = Outside(server)
    yield others
    others.http.close()


@pytest.fixture
def person(server: EmbeddedServer) -> Iterator[httpx.Client]:
    """A browser without a screen: keeps cookies, and does not follow redirects by itself."""
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a module; each page is a stranger to the others."""
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no chromium (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, server: EmbeddedServer) -> Iterator[Callable[..., Any]]:
    """Open the server's page as a new person. Errors in the page's scripts fail the test."""
    contexts: list[Any] = []
    errors: list[str] = []

    def open_one(**options: Any) -> Any:
        given = {"base_url": server.url, "viewport": {"width": 1280, "height": 900}, **options}
        context = chromium.new_context(**given)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """The page, logged in with the development key."""
    page = open_page()
    log_in(page)
    return page


def log_in(page: Any, path: str = "/") -> None:
    page.goto(path)
    page.click("text=Use the development key")
    page.locator("main h1").wait_for()
