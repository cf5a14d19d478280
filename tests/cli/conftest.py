"""The command line in this process, and as a process of its own, both against a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled.cli import main
from spooled_contrib.server import EmbeddedServer
from tests import processes


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The only line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("spooled: ")
        return lines[0]


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own server must not be touched."""
    for name in [name for name in os.environ if name.startswith("SPOOLED_")] + ["COLUMNS"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def offline(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process, without a server."""

    def run(*argv: str) -> Result:
        code = main(argv)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Result(code, out, err)

    return run


@pytest.fixture
def cli(offline: Cli, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command line in this process, for the test's server."""
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    monkeypatch.setenv("SPOOLED_BASE_URL", server.url)
    return offline


class Api:
    """Looks at the server from outside."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.http = httpx.Client(
            base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {server.api_key}"}
        )

    def enqueue(self, queue: str = "q", payload: Any = None, **options: Any) -> str:
        answer = self.http.post("/jobs", json={"queue_name": queue, "payload": payload or {}, **options})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/jobs/{job_id}").json())

    def kill(self, queue: str = "q", error: str = "ValueError: no", **options: Any) -> str:
        """A dead letter."""
        job_id = self.enqueue(queue, max_retries=0, **options)
        claim = {"queue_name": queue, "worker_id": "w"}
        job = self.http.post("/jobs/claim", json=claim).json()["jobs"][0]
        ack = {"worker_id": "w", "lease_id": job["lease_id"], "error": error}
        assert self.http.post(f"/jobs/{job_id}/fail", json=ack).status_code == 200
        return job_id


@pytest.fixture
def api(server: EmbeddedServer) -> Iterator[Api]:
    looking = Api(server)
    yield looking
    looking.http.close()


class Process(processes.Process):
    """A command as a process; its errors are kept apart."""

    def finish(self) -> Result:
        """Wait for the end."""
        code = self.wait()
        return Result(code, "".join(self.lines), "".join(self.errors))


Spawn = Callable[..., Process]


@pytest.fixture
def spawn(server: EmbeddedServer, tmp_path: Path) -> Iterator[Spawn]:
    """Starts a command as a process in the test's own folder, for the test's server."""
    started: list[Process] = []

    def start(*argv: str, stdin: str | None = None, strict: bool = True, **environment: str) -> Process:
        settings = {
            **os.environ,
            "SPOOLED_API_KEY": server.api_key,
            "SPOOLED_BASE_URL": server.url,
            **environment,
        }
        command = [*(["-W", "error"] if strict else []), "-m", "spooled", *argv]
        process = Process(*command, cwd=tmp_path, environment=settings, stdin=stdin, apart=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
