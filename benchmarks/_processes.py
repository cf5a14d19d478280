"""The processes of a measurement: servers and drivers. All are ended when it is over, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._environments import CACHE

KEY = "sp_test_benchmark-key-for-loopback-only-00000000"
DRIVERS = Path(__file__).parent / "drivers"


class MeasurementError(Exception):
    """A measurement that could not be made."""


class Driver:
    """A driver process and what it tells."""

    def __init__(self, python: Path, script: str, config: dict[str, Any]) -> None:
        CACHE.mkdir(exist_ok=True)
        self._log = CACHE / f"{script}.log"
        command = [str(python), str(DRIVERS / f"{script}.py"), json.dumps(config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                with contextlib.suppress(ValueError):
                    self._lines.put(json.loads(line))
        self._lines.put(None)

    def next(self, seconds: float) -> dict[str, Any]:
        """The next line."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise MeasurementError(f"nothing came for {seconds:.0f} s, see {self._log}") from None
        if line is None:
            raise MeasurementError(f"the driver ended, see {self._log}")
        return line

    def until(self, member: str, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The next line that has this member, and the lines before it."""
        give_up_at = time.monotonic() + seconds
        before = []
        while member not in (line := self.next(give_up_at - time.monotonic())):
            before.append(line)
        return line, before

    def rest(self) -> list[dict[str, Any]]:
        """What is there and was not read."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        return lines

    def stop(self) -> None:
        """Ask it to stop, then make it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(8)
        # Its children are in its group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def driver(python: Path, script: str, config: dict[str, Any]) -> Iterator[Driver]:
    process = Driver(python, script, config)
    try:
        yield process
    finally:
        process.stop()


class Target:
    """A running server.

    Attributes:
        url: Where it is.
    """

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    def requests(self) -> int | None:
        """Requests, or commands of Redis, since this was asked last. None when the server does not count."""
        if self.kind == "stub":
            asked = urllib.request.Request(f"{self.url}/api/v1/stub", data=b"")
            with urllib.request.urlopen(asked) as response:
                counted: dict[str, int] = json.load(response)["requests"]
            return sum(count for kind, count in counted.items() if not kind.startswith("stub"))
        return self._commands() if self.kind == "redis" else None

    def _commands(self) -> int:
        with socket.create_connection(("127.0.0.1", int(self.url.split(":")[2].partition("/")[0]))) as sock:
            sock.sendall(b"INFO stats\r\nCONFIG RESETSTAT\r\nQUIT\r\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        [line] = [line for line in text.splitlines() if line.startswith("total_commands_processed:")]
        return int(line.partition(":")[2])


@contextmanager
def target(kind: str, redis: str | None) -> Iterator[Target]:
    """A new server of the kind: `stub`, `server` or `redis`."""
    port = _free_port()
    if kind == "redis":
        assert redis is not None
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command = [redis, *options, "--dir", str(CACHE)]
    elif kind == "stub":
        command = [sys.executable, "-m", "benchmarks.stub"]
    else:
        command = [
            sys.executable,
            "-m",
            "spooled",
            "server",
            "--port",
            "0",
            "--db",
            ":memory:",
            "--api-key",
            KEY,
        ]
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        if kind == "redis":
            _wait_for(port)
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield Target(kind, f"redis://127.0.0.1:{port}/0")
        else:
            line = process.stdout.readline()
            if not line:
                raise MeasurementError(f"the {kind} did not start, see {CACHE / kind}.log")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield Target(kind, json.loads(line)["url"])
    finally:
        process.terminate()
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise MeasurementError("Redis did not start")
