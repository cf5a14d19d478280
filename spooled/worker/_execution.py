"""One run of one job, from its claim until its ack was accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spooled.models import ClaimedJob
from spooled.worker._lease_table import Lease
from spooled.worker.context import JobContext


@dataclass(slots=True, eq=False)
class Execution:
    """Compared by identity: the same job may be claimed again while an abandoned run of it still lingers.

    Attributes:
        running: The handler has not returned yet; its slot is taken.
        abandoned: What the handler returns no longer matters: it timed out, its lease is lost, or the
            worker's shutdown deadline has passed.
        settling: An ack is being sent.
        deadline: The loop's time at which the handler has used up `timeout_seconds`.
    """

    job: ClaimedJob
    lease: Lease
    context: JobContext[Any]
    deadline: float
    running: bool = field(default=True)
    abandoned: bool = field(default=False)
    settling: bool = field(default=False)
