"""The command line in this process, and as a process of its own, both against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from spooled.cli import main
from spooled_contrib.server import EmbeddedServer
from tests.waiting import HOPELESS, wait_until


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


class Process:
    """`python -m spooled ...` as a process of its own. Its lines are collected while it runs."""

    def __init__(
        self, argv: tuple[str, ...], cwd: Path, environment: dict[str, str], stdin: str | None
    ) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "spooled", *argv],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stdin is not None:
            assert self.popen.stdin is not None
            self.popen.stdin.write(stdin)
            self.popen.stdin.close()
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for stream, lines in ((self.popen.stdout, self.out), (self.popen.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, text: str) -> None:
        """Wait until the text is on stdout or stderr."""

        def said() -> bool:
            # Looked at first: what it said before it ended has then been seen.
            ended = not any(reader.is_alive() for reader in self._readers)
            found = any(text in line for line in (*self.out, *self.err))
            assert found or not ended, f"it ended without {text!r}: {self.out} {self.err}"
            return found

        wait_until(said, text)

    def finish(self) -> Result:
        """Wait for the end."""
        code = self.popen.wait(HOPELESS)
        for reader in self._readers:
            reader.join(HOPELESS)
        return Result(code, "".join(self.out), "".join(self.err))

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for reader in self._readers:
            reader.join(HOPELESS)
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()


Spawn = Callable[..., Process]


@pytest.fixture
def spawn(server: EmbeddedServer, tmp_path: Path) -> Iterator[Spawn]:
    """Starts a command as a process in the test's own folder, for the test's server."""
    started: list[Process] = []

    def start(*argv: str, stdin: str | None = None, **environment: str) -> Process:
        settings = {
            **os.environ,
            "SPOOLED_API_KEY": server.api_key,
            "SPOOLED_BASE_URL": server.url,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        process = Process(argv, tmp_path, settings, stdin)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
