"""The events that a change publishes (realtime contract, section 3). Built only when somebody listens."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from spooled_contrib.server._events import Event
from spooled_contrib.server._rules import webhooks
from spooled_contrib.server._storage import Tx
from spooled_contrib.server._times import text


class Origin(Struct, frozen=True):
    """What made a job, other than a client that asked for it: `source` is "cron" or "schedule_trigger"."""

    source: str | None = None
    schedule_id: str | None = None
    workflow_id: str | None = None


CLIENT = Origin()


def job_created(tx: Tx, organization_id: str, queue_name: str, job_id: str, priority: int) -> None:
    if tx.listening:
        data = {"job_id": job_id, "queue_name": queue_name, "priority": priority, "timestamp": text(tx.now)}
        tx.emit(Event(organization_id, queue_name, job_id, "JobCreated", data))


def job_completed(
    tx: Tx, organization_id: str, queue_name: str, job_id: str, started_at: int | None, result: str | None
) -> None:
    if tx.listening:
        data: dict[str, Any] = {
            "job_id": job_id,
            "queue_name": queue_name,
            "duration_ms": 0 if started_at is None else (tx.now - started_at) // 1000,
            "timestamp": text(tx.now),
        }
        if result is not None and result != "null":
            data["result"] = msgspec.Raw(result.encode())
        tx.emit(Event(organization_id, queue_name, job_id, "JobCompleted", data))


def job_failed(
    tx: Tx, organization_id: str, queue_name: str, job_id: str, error: str, retry_count: int
) -> None:
    if tx.listening:
        data = {
            "job_id": job_id,
            "queue_name": queue_name,
            "error": error,
            "retry_count": retry_count,
            "timestamp": text(tx.now),
        }
        tx.emit(Event(organization_id, queue_name, job_id, "JobFailed", data))


def status_changed(tx: Tx, organization_id: str, queue_name: str, job_id: str, old: str, new: str) -> None:
    if tx.listening:
        data = {
            "job_id": job_id,
            "queue_name": queue_name,
            "old_status": old,
            "new_status": new,
            "timestamp": text(tx.now),
        }
        tx.emit(Event(organization_id, queue_name, job_id, "JobStatusChange", data))


def touched(tx: Tx, organization_id: str, queue_name: str, job_id: str) -> None:
    """A change that the public stream does not announce; it only wakes streams of this job."""
    if tx.listening:
        tx.emit(Event(organization_id, queue_name, job_id))


def schedule_triggered(
    tx: Tx, organization_id: str, queue_name: str, schedule_id: str, job_id: str, source: str
) -> None:
    """A schedule made a job, by its time or by hand. The real-time streams do not announce it."""
    data = {"schedule_id": schedule_id, "job_id": job_id, "queue_name": queue_name, "source": source}
    webhooks.emit(tx, organization_id, webhooks.SCHEDULE_TRIGGERED, data)


def workflow_ended(tx: Tx, organization_id: str, workflow_id: str, status: str) -> None:
    """A workflow was completed or has failed. The real-time streams do not announce it."""
    data = {"workflow_id": workflow_id, "status": status}
    webhooks.emit(tx, organization_id, f"workflow.{status}", data)
