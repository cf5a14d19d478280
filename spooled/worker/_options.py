"""A worker's options, checked when the worker is made and not when the first job fails."""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from spooled._version import __version__
from spooled.worker.middleware import Middleware

_QUEUE_NAME = re.compile(r"(?![.-])[\w.-]{1,100}", re.UNICODE)
_HOSTNAME = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,255}(?<![.-])")
_WORKER_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METADATA_LIMIT = 64 * 1024

ISOLATIONS = ("thread", "process")
"""Where plain functions run."""

TRANSPORTS = ("auto", "httpx", "aiohttp")
"""How the engine talks: `auto` is the client's own transport if it was given one, and aiohttp elsewhere."""

ON_STUCK = ("keep", "fail", "exit")
"""What to do about a handler that goes on after its job's time-out, see `SpooledWorker`."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """See `SpooledWorker` for what each option means. Limits are those of contract api-v1 §3.7 and §5."""

    queue_name: str
    concurrency: int = 5
    poll_interval: float = 1.0
    lease_duration: int = 30
    heartbeat_fraction: float = 0.5
    shutdown_timeout: float = 30.0
    cleanup_grace: float = 5.0
    timeout_grace: float = 30.0
    on_stuck: str = "keep"
    hostname: str | None = None
    worker_id: str | None = None
    worker_type: str = "python"
    version: str = __version__
    metadata: Mapping[str, Any] = field(default_factory=dict)
    middleware: tuple[Middleware, ...] = ()
    transport: str = "auto"
    wakeups: bool | Literal["auto"] = "auto"
    isolation: str = "thread"
    max_jobs_per_child: int | None = None
    max_memory_per_child: int | None = None

    def __post_init__(self) -> None:
        check_queue_name(self.queue_name)
        _number("concurrency", self.concurrency, 1, 100, whole=True)
        _number("poll_interval", self.poll_interval, 0, 3600, above=True)
        _number("lease_duration", self.lease_duration, 5, 3600, whole=True)
        _number("heartbeat_fraction", self.heartbeat_fraction, 0, 1, above=True)
        _number("shutdown_timeout", self.shutdown_timeout, 0, float("inf"))
        _number("cleanup_grace", self.cleanup_grace, 0, 3600)
        _number("timeout_grace", self.timeout_grace, 0, 86400)
        if self.hostname is not None:
            _text(
                "hostname",
                self.hostname,
                _HOSTNAME,
                "1-255 of A-Z a-z 0-9 . _ -, not starting or ending with '.' or '-'",
            )
        if self.worker_id is not None:
            _text("worker_id", self.worker_id, _WORKER_ID, "1-128 of A-Z a-z 0-9 . _ -")
        for name in ("worker_type", "version"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 50:
                raise ValueError(f"{name} must be text of at most 50 characters, got {value!r}")
        _choice("transport", self.transport, TRANSPORTS)
        _choice("on_stuck", self.on_stuck, ON_STUCK)
        _wakeups(self.wakeups)
        try:
            size = len(msgspec.json.encode(self.metadata))
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata must be JSON: {error}") from error
        if size > _METADATA_LIMIT:
            raise ValueError(f"metadata must be at most {_METADATA_LIMIT} bytes of JSON, got {size}")
        self._check_isolation()

    def _check_isolation(self) -> None:
        if self.isolation not in ISOLATIONS:
            raise ValueError(f"isolation must be one of {', '.join(ISOLATIONS)}, got {self.isolation!r}")
        for name in ("max_jobs_per_child", "max_memory_per_child"):
            value = getattr(self, name)
            if value is not None:
                _number(name, value, 1, 2**31, whole=True)
                if self.isolation != "process":
                    raise ValueError(f"{name} needs isolation='process', for threads are not replaced")

    def effective_hostname(self) -> str:
        """Return the hostname to register with; the machine's own is brought into the server's alphabet."""
        return self.hostname or registrable_hostname(socket.gethostname())

    def new_worker_id(self) -> str:
        """The id that was asked for, or a fresh one that says where the worker runs."""
        return self.worker_id or f"{self.effective_hostname()[:96]}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def check_queue_name(name: object) -> None:
    """Raise what is wrong with a queue's name (contract api-v1 §3.2)."""
    _text(
        "queue_name",
        name,
        _QUEUE_NAME,
        "1-100 letters, digits, '-', '_' or '.', not starting with '.' or '-'",
    )


def registrable_hostname(name: str) -> str:
    """`name` with every character that the server refuses replaced, or `localhost` when nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:255].strip(".-") or "localhost"


def _text(name: str, value: object, pattern: re.Pattern[str], rule: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {type(value).__name__}")
    if not pattern.fullmatch(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _wakeups(value: object) -> None:
    if not isinstance(value, bool) and value != "auto":
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"wakeups must be 'auto', True or False, got {value!r}")


def _number(
    name: str, value: object, low: float, high: float, *, whole: bool = False, above: bool = False
) -> None:
    kind: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} must be {'a whole number' if whole else 'a number'}, got {value!r}")
    assert isinstance(value, int | float)
    if not (low < value <= high if above else low <= value <= high):
        bounds = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
