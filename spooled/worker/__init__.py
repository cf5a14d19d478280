"""Workers: claim jobs, run handlers, keep leases, ack.

from spooled import SpooledClient
from spooled.worker import SpooledWorker
"""

from spooled.worker._async_worker import AsyncSpooledWorker
from spooled.worker._worker import SpooledWorker
from spooled.worker.context import AsyncJobContext, JobContext
from spooled.worker.events import (
    ErrorEvent,
    EventName,
    JobClaimedEvent,
    JobCompletedEvent,
    JobFailedEvent,
    JobLeaseLostEvent,
    JobStartedEvent,
    StartedEvent,
    StoppedEvent,
    WorkerEvent,
)
from spooled.worker.leases import Lease, LeaseKeeper, LeaseState
from spooled.worker.state import WorkerState

__all__ = [
    "AsyncJobContext",
    "AsyncSpooledWorker",
    "ErrorEvent",
    "EventName",
    "JobClaimedEvent",
    "JobCompletedEvent",
    "JobContext",
    "JobFailedEvent",
    "JobLeaseLostEvent",
    "JobStartedEvent",
    "Lease",
    "LeaseKeeper",
    "LeaseState",
    "SpooledWorker",
    "StartedEvent",
    "StoppedEvent",
    "WorkerEvent",
    "WorkerState",
]
