"""The demo from start to end."""

from __future__ import annotations

import logging
import platform
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from spooled import SpooledClient
from spooled.worker import JobCompletedEvent, JobFailedEvent, SpooledWorker, WorkerState
from spooled_contrib.server import EmbeddedServer
from spooled_contrib.server.demo._display import Display, LineDisplay, LiveDisplay, NoDisplay, Progress
from spooled_contrib.server.demo._ledger import prove, read_ledger
from spooled_contrib.server.demo._modules import standard_library_files
from spooled_contrib.server.demo._report import Outcome, print_json, print_report
from spooled_contrib.server.demo._work import QUEUE, enqueue, handle, planned_failures

CONCURRENCY = 8
"""Parsing holds the interpreter's lock, so more threads would not be faster; these show that jobs do overlap."""

LOOK_EVERY = 0.25
STALLED_AFTER = 60.0
"""Seconds without a change after which the demo gives up. Far above anything a busy machine causes."""


class DemoFailedError(Exception):
    """The demo could not be run to its end. The message is one line."""


def run_demo(*, limit: int | None, as_json: bool) -> int:
    """Run the demo and return the exit code: 0 only when every job is accounted for.

    Args:
        limit: Enqueue only so many files.
        as_json: Print a JSON summary and nothing else.
    """
    console = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="spooled-demo-") as folder, _quiet():
            outcome = _run(Path(folder), console, limit, as_json=as_json)
    except DemoFailedError as error:
        sys.stderr.write(f"spooled: demo: {error}\n")
        return 1
    if as_json:
        print_json(outcome)
    else:
        print_report(console, outcome)
    return 0 if outcome.is_proven else 1


def _run(scratch: Path, console: Console, limit: int | None, *, as_json: bool) -> Outcome:
    paths = standard_library_files()[:limit]
    version = platform.python_version()
    database = scratch / "demo.db"

    def say(text: str) -> None:
        if not as_json:
            console.print(text, soft_wrap=True)

    with (
        EmbeddedServer(db=str(database)) as server,
        SpooledClient(api_key=server.api_key, base_url=server.url) as client,
    ):
        say(f"server    {server.url}, on {database}")
        planned_jobs = planned_failures(scratch)
        started = time.monotonic()
        # They go first: the server makes each wait for 1 s and 2 s between its runs.
        planned_ids = enqueue(client, [job.payload for job in planned_jobs], priority=10)
        planned = dict(zip(planned_ids, planned_jobs, strict=True))
        ids = enqueue(client, [{"path": path} for path in paths])
        enqueued = dict(zip(ids, paths, strict=True))
        total = len(enqueued) + len(planned)
        say(
            f"enqueued  {len(ids)} files of Python {version}'s standard library and {len(planned)} jobs "
            f"that must fail, in {time.monotonic() - started:.1f} s"
        )
        display: Display
        if as_json:
            display = NoDisplay(console)
        elif console.is_terminal:
            display = LiveDisplay(console, total)
        else:
            display = LineDisplay(console)
        began = time.monotonic()
        handled = _work_off(client, total, display, began)
        seconds = time.monotonic() - began
        if not as_json and console.is_terminal:
            with console.status("asking the server about every job"):
                ledger = read_ledger(client, planned)
        else:
            ledger = read_ledger(client, planned)
        checks = prove(ledger, enqueued, planned, handled)
    return Outcome(version, total, seconds, ledger, planned, checks)


def _work_off(client: SpooledClient, total: int, display: Display, began: float) -> dict[str, int]:
    """Run a worker until the server has nothing left to do; what the handlers counted."""
    worker = SpooledWorker(client, QUEUE, concurrency=CONCURRENCY, poll_interval=0.2)
    worker.process(handle)
    tally = _Tally()
    worker.on("job:completed", tally.completed)
    worker.on("job:failed", tally.failed)
    wake = threading.Event()
    worker.on("stopped", lambda _event: wake.set())
    last: tuple[int, ...] = ()
    changed_at = began
    with display, worker:
        while True:
            stats = client.jobs.get_stats(QUEUE)
            now = time.monotonic()
            progress = Progress(
                total=total,
                pending=stats.pending + stats.scheduled,
                running=stats.processing,
                done=stats.completed,
                dead=stats.deadletter,
                retried=tally.retried,
                elapsed=now - began,
            )
            display.show(progress)
            if progress.pending + progress.running == 0:
                break
            state = (progress.pending, progress.running, progress.done, progress.dead, progress.retried)
            if state != last:
                last, changed_at = state, now
            if now - changed_at > STALLED_AFTER:
                raise DemoFailedError(
                    f"nothing has changed for {STALLED_AFTER:.0f} s: {progress.pending} jobs wait and "
                    f"{progress.running} run"
                )
            if wake.wait(LOOK_EVERY) or worker.state in (WorkerState.ERROR, WorkerState.STOPPED):
                raise DemoFailedError("the worker stopped before the jobs were done")
    # The worker has stopped, so that its events have all arrived.
    return tally.counts


class _Tally:
    """What the worker's events say. They come one after the other, from one thread."""

    def __init__(self) -> None:
        self.retried = 0
        self._counts: Counter[str] = Counter(lines=0, functions=0, classes=0, imports=0)

    def completed(self, event: JobCompletedEvent) -> None:
        result: dict[str, Any] = event.result
        self._counts.update(result)

    def failed(self, event: JobFailedEvent) -> None:
        self.retried += event.will_retry

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._counts)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about old code of the standard library, and no tracebacks of the jobs that are meant to fail."""
    logger = logging.getLogger("spooled.worker")
    handler = logging.NullHandler()
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
