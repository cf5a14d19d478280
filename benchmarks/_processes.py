"""The processes of a measurement: servers and drivers. All are ended when it is over, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks._environments import CACHE

KEY = "sp_test_benchmark-key-for-loopback-only-00000000"
DRIVERS = Path(__file__).parent / "drivers"
CERTIFICATE = CACHE / "stub.pem"
"""Of the stub that speaks TLS, with its key."""

ROUND_TRIP = 0.05
"""Seconds that a request and its answer take to the server that is far away, and back."""

STUBS = ("stub", "batches", "far", "tls")
"""Kinds of servers that count requests: the stub, and with acks in batches, far away, and over TLS."""


class MeasurementError(Exception):
    """A measurement that could not be made."""


class Driver:
    """A driver process and what it tells."""

    def __init__(self, python: Path, script: str, config: dict[str, Any]) -> None:
        CACHE.mkdir(exist_ok=True)
        self._log = CACHE / f"{script}.log"
        command = [str(python), str(DRIVERS / f"{script}.py"), json.dumps(config)]
        trust = {"SSL_CERT_FILE": str(CERTIFICATE)} if config["url"].startswith("https:") else {}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **trust},
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
        """Return the next line."""
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
        """Return what is there and was not read."""
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
        kind: Which.
        url: Where workers reach it.
        direct: Where it is, past what makes it far away.
    """

    def __init__(self, kind: str, url: str, direct: str | None = None) -> None:
        self.kind = kind
        self.url = url
        self.direct = direct or url

    def requests(self) -> int | None:
        """Requests, or commands of Redis, since this was asked last. None when the server does not count."""
        if self.kind in STUBS:
            asked = urllib.request.Request(f"{self.direct}/api/v1/stub", data=b"")
            trust = ssl.create_default_context(cafile=CERTIFICATE) if self.kind == "tls" else None
            with urllib.request.urlopen(asked, context=trust) as response:
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
    """A new server of the kind: `stub`, `batches`, `far`, `tls`, `server` or `redis`.

    Raises:
        MeasurementError: It did not start.
    """
    CACHE.mkdir(exist_ok=True)
    if kind == "redis":
        assert redis is not None
        port = _free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with _running(kind, [redis, *options, "--dir", str(CACHE)]) as output:
            _wait_for(port)
            threading.Thread(target=output.read, daemon=True).start()
            yield Target(kind, f"redis://127.0.0.1:{port}/0")
        return
    with _serving(kind, _command(kind)) as url:
        if kind != "far":
            yield Target(kind, url)
            return
        proxy = [sys.executable, "-m", "benchmarks.delay_proxy", url, str(ROUND_TRIP)]
        with _serving("proxy", proxy) as far:
            yield Target(kind, far, direct=url)


def _command(kind: str) -> list[str]:
    if kind == "server":
        options = ["--port", "0", "--db", ":memory:", "--api-key", KEY]
        return [sys.executable, "-m", "spooled", "server", *options]
    stub = [sys.executable, "-m", "benchmarks.stub"]
    if kind == "tls":
        _make_certificate()
        return [*stub, "--tls", str(CERTIFICATE)]
    return [*stub, "--batches"] if kind == "batches" else stub


def _make_certificate() -> None:
    if CERTIFICATE.exists():
        return
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = CERTIFICATE.with_suffix(".new")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", *subject]
    try:
        subprocess.run([*command, "-keyout", made, "-out", f"{made}.crt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MeasurementError(f"openssl made no certificate: {error}") from error
    made.write_bytes(made.read_bytes() + Path(f"{made}.crt").read_bytes())
    made.replace(CERTIFICATE)


@contextmanager
def _serving(kind: str, command: list[str]) -> Iterator[str]:
    """Run a server that prints its URL, and return that."""
    with _running(kind, command) as output:
        line = output.readline()
        if not line:
            raise MeasurementError(f"the {kind} did not start, see {CACHE / kind}.log")
        threading.Thread(target=output.read, daemon=True).start()
        yield json.loads(line)["url"]


@contextmanager
def _running(kind: str, command: list[str]) -> Iterator[IO[str]]:
    with (CACHE / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout
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
