"""Bodies as the contract shows them, for parts of the API that are looked at without making them happen."""

from __future__ import annotations

from typing import Any

ORGANIZATION = "00000000-0000-4000-8000-000000000001"
BEFORE, LATER = "2026-01-01T10:00:00Z", "2999-01-01T03:00:00Z"


def schedule(which: str, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": which,
        "organization_id": ORGANIZATION,
        "name": name,
        "description": "every night",
        "cron_expression": "0 3 * * *",
        "timezone": "Europe/Amsterdam",
        "queue_name": "reports",
        "payload_template": {"job_type": "report"},
        "priority": 0,
        "max_retries": 3,
        "timeout_seconds": 300,
        "is_active": True,
        "last_run_at": BEFORE,
        "next_run_at": LATER,
        "run_count": 12,
        "tags": None,
        "metadata": None,
        "created_at": BEFORE,
        "updated_at": BEFORE,
        **changes,
    }


def run(which: str, job_id: str | None, job_status: str | None) -> dict[str, Any]:
    return {
        "id": which,
        "schedule_id": "s1",
        "job_id": job_id,
        "status": "completed" if job_id else "failed",
        "error_message": None if job_id else "the payload is too large",
        "started_at": BEFORE,
        "completed_at": BEFORE,
        "job_status": job_status,
    }


def workflow(which: str, name: str, status: str) -> dict[str, Any]:
    """As in the list."""
    return {
        "id": which,
        "name": name,
        "description": None,
        "status": status,
        "total_jobs": 6,
        "completed_jobs": 2,
        "failed_jobs": 1,
        "progress_percent": 33.3,
        "created_at": BEFORE,
        "started_at": BEFORE,
        "completed_at": None,
        "metadata": None,
    }


def whole_workflow(which: str, name: str, status: str) -> dict[str, Any]:
    """Six jobs in four layers: extract; two cleaners and a check; join; report."""
    states = {
        "extract": "completed",
        "clean-a": "completed",
        "clean-b": "deadletter",
        "check": "processing",
        "join": "pending",
        "report": "pending",
    }
    edges = [
        ("extract", "clean-a"),
        ("extract", "clean-b"),
        ("extract", "check"),
        ("clean-a", "join"),
        ("clean-b", "join"),
        ("join", "report"),
        ("check", "report"),
    ]
    return {
        "id": which,
        "organization_id": ORGANIZATION,
        "name": name,
        "description": "from the till to the report",
        "status": status,
        "jobs": [_workflow_job(job, state, which) for job, state in states.items()],
        "dependencies": [
            {"parent_job_id": parent, "child_job_id": child, "dependency_type": "success"}
            for parent, child in edges
        ],
        "progress": {"total": 6, "completed": 2, "failed": 1, "pending": 2, "processing": 1},
        "created_at": BEFORE,
        "started_at": BEFORE,
        "completed_at": None,
        "metadata": None,
    }


def _workflow_job(job: str, status: str, workflow_id: str) -> dict[str, Any]:
    dead = status == "deadletter"
    return {
        "id": job,
        "organization_id": ORGANIZATION,
        "queue": "etl",
        "job_type": "job",
        "payload": {"job_type": job},
        "status": status,
        "priority": 0,
        "attempt": 0,
        "max_retries": 3,
        "backoff_type": "exponential",
        "timeout_ms": 300_000,
        "created_at": BEFORE,
        "scheduled_at": None,
        "started_at": BEFORE if status != "pending" else None,
        "completed_at": BEFORE if status == "completed" else None,
        "failed_at": None,
        "next_retry_at": None,
        "result": None,
        "error": {"type": "JobError", "message": "a line has no price", "stack": None} if dead else None,
        "metadata": None,
        "workflow_id": workflow_id,
        "parent_job_id": None,
    }
