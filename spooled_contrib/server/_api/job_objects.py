"""Jobs as they appear in responses (contract section 3.1)."""

from __future__ import annotations

from datetime import datetime

from msgspec import Raw, Struct

from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment


def raw(text: str | None) -> Raw | None:
    """Stored JSON, to be sent exactly as it is."""
    return None if text is None else Raw(text.encode())


class Job(Struct):
    id: str
    organization_id: str
    queue_name: str
    status: str
    payload: Raw
    result: Raw | None
    retry_count: int
    max_retries: int
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    priority: int
    tags: Raw | None
    timeout_seconds: int
    parent_job_id: str | None
    completion_webhook: str | None
    assigned_worker_id: str | None
    lease_id: str | None
    lease_expires_at: datetime | None
    idempotency_key: str | None
    workflow_id: str | None
    dependency_mode: str | None
    dependencies_met: bool | None


def job(row: Row) -> Job:
    """From a row of `reading.JOB_COLUMNS`."""
    return Job(
        id=row[0],
        organization_id=row[1],
        queue_name=row[2],
        status=row[3],
        payload=Raw(row[4].encode()),
        result=raw(row[5]),
        retry_count=row[6],
        max_retries=row[7],
        last_error=row[8],
        created_at=moment(row[9]),
        updated_at=moment(row[10]),
        scheduled_at=moment(row[11]),
        started_at=moment(row[12]),
        completed_at=moment(row[13]),
        expires_at=moment(row[14]),
        priority=row[15],
        tags=raw(row[16]),
        timeout_seconds=row[17],
        parent_job_id=row[18],
        completion_webhook=row[19],
        assigned_worker_id=row[20],
        lease_id=row[21],
        lease_expires_at=moment(row[22]),
        idempotency_key=row[23],
        workflow_id=row[24],
        dependency_mode=row[25],
        dependencies_met=bool(row[26]),
    )


class JobSummary(Struct):
    id: str
    queue_name: str
    status: str
    priority: int
    attempt: int
    retry_count: int  # the older name of `attempt`; clients accept either
    max_retries: int
    job_type: str
    last_error: str | None
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None


def summary(row: Row) -> JobSummary:
    """From a row of `reading.SUMMARY_COLUMNS`."""
    return JobSummary(
        id=row[0],
        queue_name=row[1],
        status=row[2],
        priority=row[3],
        attempt=row[4],
        retry_count=row[4],
        max_retries=row[5],
        job_type=row[6],
        last_error=row[7],
        created_at=moment(row[8]),
        scheduled_at=moment(row[9]),
        started_at=moment(row[10]),
        completed_at=moment(row[11]),
    )


class ClaimedJob(Struct):
    id: str
    queue_name: str
    payload: Raw
    retry_count: int
    max_retries: int
    timeout_seconds: int
    lease_expires_at: datetime | None
    lease_id: str | None


def claimed(row: Row) -> ClaimedJob:
    """From a row of `claiming.claim`."""
    return ClaimedJob(row[0], row[1], Raw(row[2].encode()), row[3], row[4], row[5], moment(row[6]), row[7])
