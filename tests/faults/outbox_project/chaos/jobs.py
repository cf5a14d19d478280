"""The job of the chaos run: writes down each run as it starts and as it ends."""

import json
import os
import time

from spooled.worker import JobContext
from spooled_contrib.django import job

JOURNAL = os.environ["CHAOS_JOURNAL"]


def note(what: str, ctx: JobContext[str]) -> None:
    # Each line is one `write` to a file that is open for appending, so several processes may share it.
    file = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND)
    told = {"what": what, "order": ctx.payload, "job": ctx.job_id, "lease": ctx.lease_id, "at": time.time()}
    os.write(file, json.dumps(told).encode() + b"\n")
    os.close(file)


@job("chaos", max_retries=50)
def run(ctx: JobContext[str]) -> str:
    note("start", ctx)
    ctx.signal.wait(0.02)
    note("end", ctx)
    return ctx.lease_id
