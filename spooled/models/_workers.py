"""Workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from spooled.models._model import Model


class WorkerRegistration(Model, frozen=True):
    """Answer to `workers.register`: the worker's id and how often it should report.

    `settle` is a server's offer to take acks in batches; what a server of another kind means by it is ignored.
    """

    id: str
    queue_name: str = ""
    lease_duration_secs: int = 30
    heartbeat_interval_secs: int = 10
    settle: object = None

    @property
    def settle_max(self) -> int:
        """The number of acks that the server takes in one request; 0 when it takes single ones only."""
        most = self.settle.get("max") if isinstance(self.settle, dict) else None
        return max(0, most) if isinstance(most, int) else 0


class WorkerSummary(Model, frozen=True):
    """A worker in the list of workers."""

    id: str
    queue_name: str = ""
    hostname: str = ""
    status: str = ""
    current_jobs: int = 0
    max_concurrency: int = 0
    last_heartbeat: datetime | None = None
    jobs_processed: int | None = None
    jobs_failed: int | None = None


class Worker(Model, frozen=True):
    """A registered worker."""

    id: str
    queue_name: str = ""
    queue_names: list[str] = []
    organization_id: str = ""
    hostname: str = ""
    worker_type: str | None = None
    max_concurrency: int = 0
    current_jobs: int = 0
    status: str = ""
    last_heartbeat: datetime | None = None
    metadata: Any = None
    version: str | None = None
    registered_at: datetime | None = None
    updated_at: datetime | None = None
    jobs_processed: int | None = None
    jobs_failed: int | None = None

    @classmethod
    def from_json(cls, body: bytes) -> Worker:
        """Older servers spell three of the fields differently."""
        fields = msgspec.json.decode(body)
        if isinstance(fields, dict):
            for older, newer in _OLDER_WORKER_NAMES.items():
                if older in fields:
                    fields.setdefault(newer, fields[older])
        return msgspec.convert(fields, cls)


_OLDER_WORKER_NAMES = {
    "max_concurrent_jobs": "max_concurrency",
    "current_job_count": "current_jobs",
    "created_at": "registered_at",
}
