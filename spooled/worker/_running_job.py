"""One run of one job, from its claim until its ack was accepted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spooled.models import ClaimedJob
from spooled.worker._job_result import JobResult
from spooled.worker._lease_table import Lease
from spooled.worker._routing import Route
from spooled.worker.context import JobContext


@dataclass(slots=True, eq=False)
class RunningJob:
    """Compared by identity: the same job may be claimed again while an abandoned run of it still lingers.

    All times are the I/O loop's.

    Attributes:
        route: The handler, or None when the worker has none for this job.
        claimed_at: When the claim was sent.
        started_at: When the handler was handed over to be run; when the job came, until then.
        deadline: When the handler has used up `timeout_seconds`; never, before it has begun.
        ended_at: When the handler returned; None while it runs.
        running: The handler has begun and has not returned yet; its slot is taken.
        abandoned: What the handler returns no longer matters: it timed out, its lease is lost, or the
            worker's shutdown deadline has passed.
        aborted_at: When it was abandoned; None until then.
        decided: What is acked, when the handler has ended, in place of what it returns; None while that counts.
        stuck: It was aborted and has not ended within `timeout_grace`.
        settling: An ack is being sent.
        told: Middleware knows how it ended.
    """

    job: ClaimedJob
    lease: Lease
    context: JobContext[Any]
    route: Route | None
    claimed_at: float
    started_at: float
    deadline: float = math.inf
    ended_at: float | None = None
    running: bool = False
    abandoned: bool = False
    aborted_at: float | None = None
    decided: JobResult | None = None
    stuck: bool = False
    settling: bool = False
    told: bool = False
