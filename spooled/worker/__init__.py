"""Workers: claim jobs, run handlers, keep leases, ack.

from spooled import SpooledClient
from spooled.worker import SpooledWorker
"""

from spooled.codec import PayloadError
from spooled.worker._async_worker import AsyncSpooledWorker
from spooled.worker._engine_transport import worker_client
from spooled.worker._io_thread import engine_loop
from spooled.worker._results import FallbackResult
from spooled.worker._wakeups import Wakeups
from spooled.worker._worker import SpooledWorker
from spooled.worker.acker import Acked, Acker, AckSender
from spooled.worker.claimer import Claimer, ClaimSource
from spooled.worker.context import AsyncJobContext, JobContext, JobLogFilter, current_job
from spooled.worker.control import Discard, Fail, JobControl, Retry, Snooze
from spooled.worker.events import (
    ErrorEvent,
    ErrorEventData,
    EventName,
    JobClaimedEvent,
    JobClaimedEventData,
    JobCompletedEvent,
    JobCompletedEventData,
    JobFailedEvent,
    JobFailedEventData,
    JobLeaseLostEvent,
    JobLeaseLostEventData,
    JobStartedEvent,
    JobStartedEventData,
    JobStuckEvent,
    StartedEvent,
    StartedEventData,
    StoppedEvent,
    StoppedEventData,
    WorkerEvent,
)
from spooled.worker.group import AsyncWorkerGroup, WorkerGroup, run_workers
from spooled.worker.health import WorkerHealth
from spooled.worker.leases import Lease, LeaseKeeper, LeaseState
from spooled.worker.middleware import AckInfo, ClaimInfo, Middleware
from spooled.worker.middleware import Handler as JobHandler
from spooled.worker.state import StuckWorkerError, WorkerState

__all__ = [
    "AckInfo",
    "AckSender",
    "Acked",
    "Acker",
    "AsyncJobContext",
    "AsyncSpooledWorker",
    "AsyncWorkerGroup",
    "ClaimInfo",
    "ClaimSource",
    "Claimer",
    "Discard",
    "ErrorEvent",
    "ErrorEventData",
    "EventName",
    "Fail",
    "FallbackResult",
    "JobClaimedEvent",
    "JobClaimedEventData",
    "JobCompletedEvent",
    "JobCompletedEventData",
    "JobContext",
    "JobControl",
    "JobFailedEvent",
    "JobFailedEventData",
    "JobHandler",
    "JobLeaseLostEvent",
    "JobLeaseLostEventData",
    "JobLogFilter",
    "JobStartedEvent",
    "JobStartedEventData",
    "JobStuckEvent",
    "Lease",
    "LeaseKeeper",
    "LeaseState",
    "Middleware",
    "PayloadError",
    "Retry",
    "Snooze",
    "SpooledWorker",
    "StartedEvent",
    "StartedEventData",
    "StoppedEvent",
    "StoppedEventData",
    "StuckWorkerError",
    "Wakeups",
    "WorkerEvent",
    "WorkerGroup",
    "WorkerHealth",
    "WorkerState",
    "current_job",
    "engine_loop",
    "run_workers",
    "worker_client",
]
