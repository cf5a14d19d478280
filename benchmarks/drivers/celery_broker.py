"""A Celery app with a no-op task, for `benchmarks.celery_broker`. The worker says when it has run them all."""

from __future__ import annotations

import os
import sys
import time

from celery import Celery

import spooled_contrib.kombu  # noqa: F401 - makes spooled:// URLs known

JOBS = int(os.environ["BENCH_JOBS"])

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)
_seen: list[float] = []


@app.task(name="bench.nothing")
def nothing(number: int) -> None:
    _seen.append(time.monotonic())
    if len(_seen) == JOBS:
        # From the first to the last, so that the start of the worker does not count.
        print("rate", (JOBS - 1) / (_seen[-1] - _seen[0]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        begun = time.monotonic()
        for number in range(JOBS):
            nothing.delay(number)
        print("rate", JOBS / (time.monotonic() - begun), flush=True)
    else:
        options = ["--pool", "threads", "--concurrency", "10", "--loglevel", "ERROR"]
        app.worker_main(["worker", *options, "--without-gossip", "--without-mingle", "--without-heartbeat"])
