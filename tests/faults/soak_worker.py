"""A worker process for the soak: writes down each run as it starts and as it ends.

    python -m tests.faults.soak_worker URL KEY QUEUE JOURNAL SEED ISOLATION

The journal is opened for appending and each line is one `write`, so several processes may share it and nothing is
lost when one of them is killed. A run in a child process is noted under its worker's process id.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import time
from typing import Any

from spooled import SpooledClient
from spooled.worker import JobContext, SpooledWorker

LEASE = 5
"""Seconds; the shortest that there is."""

LONG = 6.5
"""Seconds of a run that needs its lease renewed. There is one for each job whose payload says so."""

CONCURRENCY = {"thread": 8, "process": 3}


@functools.cache
def journal() -> int:
    return os.open(os.environ["SOAK_JOURNAL"], os.O_WRONLY | os.O_APPEND)


@functools.cache
def chance() -> random.Random:
    return random.Random(f"{os.environ['SOAK_CHANCE']}-{os.getpid()}")


def note(what: str, job_id: str, lease_id: str | None, **more: Any) -> None:
    # The monotonic clock is one for all processes of a machine; the server's history has the other one.
    told = {"what": what, "job": job_id, "lease": lease_id, "pid": int(os.environ["SOAK_WORKER"]), **more}
    told |= {"at": time.monotonic(), "wall": time.time()}
    os.write(journal(), json.dumps(told).encode() + b"\n")


def handle(ctx: JobContext[Any]) -> str:
    note("start", ctx.job_id, ctx.lease_id, attempt=ctx.attempt)
    # Returns early when the run is aborted.
    ctx.signal.wait(LONG if ctx.payload["long"] else chance().uniform(0.02, 0.15))
    note("end", ctx.job_id, ctx.lease_id, aborted=ctx.signal.is_set())
    return ctx.lease_id


def main(url: str, key: str, queue_name: str, path: str, seed: str, isolation: str) -> None:
    os.environ |= {"SOAK_JOURNAL": path, "SOAK_CHANCE": seed, "SOAK_WORKER": str(os.getpid())}
    worker = SpooledWorker(
        SpooledClient(api_key=key, base_url=url),
        queue_name,
        concurrency=CONCURRENCY[isolation],
        poll_interval=0.1,
        lease_duration=LEASE,
        isolation=isolation,
    )
    worker.process(handle)
    for name in ("job:completed", "job:failed", "job:lease_lost"):
        worker.on(name, lambda event, name=name: note(name, event.job_id, getattr(event, "lease_id", None)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
