"""Handlers that run in child processes, which import them by name."""

from __future__ import annotations

import atexit
import contextvars
import ctypes
import datetime as dt
import decimal
import json
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spooled.worker import (
    Discard,
    Fail,
    FallbackResult,
    JobContext,
    Middleware,
    Retry,
    Snooze,
    current_job,
)
from tests import forks
from tests.waiting import HOPELESS, wait_until

STARTED = time.monotonic()
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


def note(ctx: JobContext[Any], what: str) -> None:
    """Append a line to the file that the payload names."""
    line = {
        "what": what,
        "job": ctx.job_id,
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "at": time.monotonic(),
    }
    file = os.open(ctx.payload["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def notes_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def say_pid(ctx: JobContext[Any]) -> int:
    return os.getpid()


def double(ctx: JobContext[Any]) -> Any:
    return ctx.payload * 2


def echo(ctx: JobContext[Any]) -> Any:
    return ctx.payload


@dataclass
class Mail:
    to: str
    at: dt.datetime


def send(ctx: JobContext[Mail]) -> dict[str, Any]:
    job = current_job()
    assert job is ctx
    return {
        "to": ctx.payload.to,
        "year": ctx.payload.at.year,
        "attempt": ctx.attempt,
        "queue": ctx.queue_name,
        "lease": ctx.lease_id,
        "set": ctx.signal.is_set(),
        "main": threading.current_thread() is threading.main_thread(),
    }


def end(ctx: JobContext[Any]) -> Any:
    """End in the way that the payload names."""
    return ENDS[ctx.payload["end"]]()


def _raise(error: BaseException) -> Any:
    raise error


def _segfault() -> None:
    ctypes.string_at(0)


ENDS: dict[str, Callable[[], Any]] = {
    "returns": lambda: "done",
    "raises": lambda: _raise(ValueError("no luck")),
    "fails": lambda: _raise(Fail("exactly this")),
    "sys.exit": lambda: sys.exit(4),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "MemoryError": lambda: _raise(MemoryError()),
    "not JSON": object,
    "snoozes": lambda: _raise(Snooze(3600, "not yet")),
    "retries": lambda: _raise(Retry(3600, "busy")),
    "discards": lambda: _raise(Discard("gone")),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": _segfault,
    "SIGABRT": os.abort,
    "_exit(0)": lambda: os._exit(0),
    "_exit(7)": lambda: os._exit(7),
    "closes everything": lambda: os.closerange(3, 256),
    "fallback": lambda: FallbackResult("x" * 3_000_000, _instead),
    "fallback that is a lambda": lambda: FallbackResult("x" * 3_000_000, lambda error: str(error)),
}


def _instead(error: Any) -> dict[str, Any]:
    return {"refused": error.status_code}


def ignore_everything(ctx: JobContext[Any]) -> None:
    """Go on whatever happens."""
    note(ctx, "start")
    while True:
        time.sleep(0.05)


def stop_itself(ctx: JobContext[Any]) -> None:
    note(ctx, "start")
    os.kill(os.getpid(), signal.SIGSTOP)


def close_everything(ctx: JobContext[Any]) -> None:
    note(ctx, "start")
    os.closerange(3, 256)
    ignore_everything(ctx)


def hold_the_gil(ctx: JobContext[Any]) -> None:
    note(ctx, "start")
    re.match(r"(a+)+$", "a" * 64 + "b")


def stop_when_asked(ctx: JobContext[Any]) -> int:
    note(ctx, "start")
    ctx.signal.wait(HOPELESS)
    note(ctx, "asked")
    return os.getpid()


def remember_and_ignore(ctx: JobContext[Any]) -> None:
    ctx.reenqueue_payload = {**ctx.payload, "done": 17}
    ignore_everything(ctx)


def snooze_with_progress(ctx: JobContext[Any]) -> None:
    ctx.reenqueue_payload = {"done": 17}
    raise Snooze(3600)


def start_a_program(ctx: JobContext[Any]) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(ctx.payload["program"]).write_text(str(program.pid))
    ignore_everything(ctx)


def start_a_program_and_return(ctx: JobContext[Any]) -> int:
    program = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=ctx.payload["apart"]
    )
    program.returncode = 0  # left on purpose
    return program.pid


def meet(ctx: JobContext[Any]) -> int:
    """Wait until as many runs as `payload["of"]` are here at once, burning CPU."""
    note(ctx, "start")
    while len(notes_of(Path(ctx.payload["notes"]))) < ctx.payload["of"]:
        sum(range(10_000))
    return os.getpid()


def wait_for_file(ctx: JobContext[Any]) -> str:
    note(ctx, "start")
    wait_until(Path(ctx.payload["until"]).exists)
    return "waited"


def end_unless_kept(ctx: JobContext[Any]) -> str:
    return wait_for_file(ctx) if "until" in ctx.payload else end(ctx)


def set_and_get(ctx: JobContext[Any]) -> list[Any]:
    before = [tenant.get(), decimal.getcontext().prec]
    tenant.set("acme")
    decimal.getcontext().prec = 5
    return [*before, os.getpid()]


kept: list[bytes] = []


def leak(ctx: JobContext[Any]) -> int:
    kept.append(os.urandom(ctx.payload["mib"] * 1024 * 1024))
    return os.getpid()


def hang_at_exit(ctx: JobContext[Any]) -> int:
    atexit.register(threading.Event().wait)
    return os.getpid()


def fork(ctx: JobContext[Any]) -> Any:
    return forks.run(ctx.payload["way"])


def log_twice(ctx: JobContext[Any]) -> None:
    ctx.log("warning", "in the child")
    logging.getLogger("shop").warning("of the shop's")


def chaos(ctx: JobContext[Any]) -> str:
    note(ctx, "start")
    ctx.signal.wait(ctx.payload["seconds"])
    note(ctx, "end")
    return "done"


class Greeter:
    """A handler that is an object."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, ctx: JobContext[Any]) -> str:
        return f"{self.text} {ctx.job_id}"

    def method(self, ctx: JobContext[Any]) -> str:
        return self(ctx)


def make_nested() -> Callable[[Any], Any]:
    def nested(ctx: Any) -> Any:
        return ctx

    return nested


anonymous_pid = lambda ctx: os.getpid()  # noqa: E731
anonymous = lambda ctx: ctx  # noqa: E731


class Tag(Middleware):
    """Sets a context variable for the job, and counts acks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.acked_in: list[int] = []

    @contextmanager
    def around(self, ctx: JobContext[Any]) -> Iterator[None]:
        tenant.set(f"{self.text} in {multiprocessing.current_process().name} {os.getpid()}")
        yield

    def acked(self, ack: Any) -> None:
        self.acked_in.append(os.getpid())


class Locked(Tag):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def say_tenant(ctx: JobContext[Any]) -> list[Any]:
    return [tenant.get(), os.getpid()]


def hang() -> None:
    """Set a child process up for ever."""
    time.sleep(3600)
