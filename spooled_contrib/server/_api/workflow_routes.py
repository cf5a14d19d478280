"""Workflows (contract section 7)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_creation import MaxRetries, Priority, Timeout, job_type
from spooled_contrib.server._api.job_objects import Job, job, raw
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import statuses, workflow_control, workflow_creation, workflows
from spooled_contrib.server._rules.creation import NewJob
from spooled_contrib.server._rules.names import check_queue_name
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

_KEY = {"pattern": r"^[\p{L}\p{N}_\-]*$"}
_NAME = {"pattern": r"^[\p{L}\p{N} _.:()\-]*$"}

Key = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_KEY)]
Name = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema=_NAME)]
Description = Annotated[str, Meta(max_length=1000, extra_json_schema=bodies.NO_NUL)]


class StepBody(Struct):
    key: Key
    queue_name: bodies.QueueName
    payload: Raw
    depends_on: list[str] | None = None
    dependency_mode: Literal["all", "any"] | None = None
    priority: Priority | None = None
    max_retries: MaxRetries | None = None
    timeout_seconds: Timeout | None = None
    expires_at: bodies.Time | None = None


class NewWorkflowBody(Struct):
    name: Name
    jobs: Annotated[list[StepBody], Meta(min_length=1, max_length=100)]
    description: Description | None = None
    metadata: Raw = bodies.NULL


_new = Decoder(NewWorkflowBody)


async def create_workflow(call: Call) -> Reply:
    body = await call.json(_new)
    _check_alphabet(body.name, "name", " -_.:()")
    bodies.check_text(body.description, "description")
    metadata = bodies.json_text(body.metadata, "metadata", bodies.MAX_JSON_MEMBER)
    steps = [_step(f"jobs[{index}]", step) for index, step in enumerate(body.jobs)]
    new = workflow_creation.NewWorkflow(
        name=body.name,
        description=body.description,
        metadata=None if metadata is None else metadata[0],
        steps=steps,
    )
    principal, limits = call.principal, call.limits
    workflow_id, ids = await call.write(lambda tx: workflow_creation.create(tx, principal, limits, new))
    return json_reply(
        {
            "workflow_id": workflow_id,
            "job_ids": [{"key": step.key, "job_id": job_id} for step, job_id in zip(steps, ids, strict=True)],
            "status": workflows.PENDING,
        }
    )


async def list_workflows(call: Call) -> Reply:
    principal = call.principal
    status = call.query.get("status")
    # The contract asks to ignore a status that does not exist.
    wanted = status if status in workflows.ALL else None
    limit, offset = call.integer("limit", 50, 1, 100), call.integer("offset", 0, 0, 10**15)
    rows = await call.read(
        lambda tx: workflows.list_workflows(tx, principal, status=wanted, limit=limit, offset=offset)
    )
    return json_reply([_summary(row) for row in rows])


async def get_workflow(call: Call) -> Reply:
    principal, workflow_id = call.principal, call.parameters[0]
    row, jobs, edges = await call.read(
        lambda tx: (
            workflows.get(tx, principal, workflow_id),
            workflows.jobs_of(tx, workflow_id),
            workflows.edges_of(tx, workflow_id),
        )
    )
    members = [job(member) for member in jobs]
    return json_reply(
        {
            "id": row[0],
            "organization_id": row[1],
            "name": row[2],
            "description": row[3],
            "status": row[4],
            "jobs": [_member(member) for member in members],
            "dependencies": [
                {"parent_job_id": parent, "child_job_id": child, "dependency_type": mode}
                for parent, child, mode in edges
            ],
            "progress": _progress(row[5], [member.status for member in members]),
            "created_at": moment(row[8]),
            "started_at": moment(row[9]),
            "completed_at": moment(row[10]),
            "metadata": raw(row[11]),
        }
    )


async def cancel_workflow(call: Call) -> Reply:
    principal, workflow_id = call.principal, call.parameters[0]
    return json_reply(
        _summary(await call.write(lambda tx: workflow_control.cancel(tx, principal, workflow_id)))
    )


async def retry_workflow(call: Call) -> Reply:
    principal, limits, workflow_id = call.principal, call.limits, call.parameters[0]
    return json_reply(
        _summary(await call.write(lambda tx: workflow_control.retry(tx, principal, limits, workflow_id)))
    )


def _step(field: str, body: StepBody) -> workflow_creation.Step:
    _check_alphabet(body.key, f"{field}.key", "-_")
    check_queue_name(body.queue_name, f"{field}.queue_name")
    payload, value = bodies.required_json_text(body.payload, f"{field}.payload", bodies.MAX_PAYLOAD)
    return workflow_creation.Step(
        key=body.key,
        depends_on=body.depends_on or [],
        job=NewJob(
            queue_name=body.queue_name,
            payload=payload,
            job_type=job_type(value),
            priority=body.priority or 0,
            max_retries=body.max_retries,
            timeout_seconds=body.timeout_seconds,
            expires_at=bodies.optional_micros(body.expires_at, f"{field}.expires_at"),
            dependency_mode=body.dependency_mode or "all",
        ),
    )


def _check_alphabet(text: str, field: str, signs: str) -> None:
    if not all(char.isalnum() or char in signs for char in text):
        raise refuse.invalid(field, f"may have letters, digits and {signs!r} only", code="format")


def _summary(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "name": row[2],
        "description": row[3],
        "status": row[4],
        "total_jobs": row[5],
        "completed_jobs": row[6],
        "failed_jobs": row[7],
        "progress_percent": 100.0 * row[6] / row[5],
        "created_at": moment(row[8]),
        "started_at": moment(row[9]),
        "completed_at": moment(row[10]),
        "metadata": raw(row[11]),
    }


def _progress(total: int, found: list[str]) -> dict[str, int]:
    return {
        "total": total,
        "completed": found.count(statuses.COMPLETED),
        "failed": sum(status in statuses.NEVER_COMPLETES for status in found),
        "pending": sum(status in statuses.WAITING for status in found),
        "processing": found.count(statuses.PROCESSING),
    }


def _member(member: Job) -> dict[str, Any]:
    """Return a job as workflows show it: another shape than everywhere else."""
    error = member.last_error
    return {
        "id": member.id,
        "organization_id": member.organization_id,
        "queue": member.queue_name,
        "job_type": "job",
        "payload": member.payload,
        "status": member.status,
        "priority": member.priority,
        "attempt": member.retry_count,
        "max_retries": member.max_retries,
        "backoff_type": "exponential",
        "timeout_ms": member.timeout_seconds * 1000,
        "created_at": member.created_at,
        "scheduled_at": member.scheduled_at,
        "started_at": member.started_at,
        "completed_at": member.completed_at,
        "failed_at": None,
        "next_retry_at": None,
        "result": member.result,
        "error": None if error is None else {"type": "JobError", "message": error, "stack": None},
        "metadata": member.tags,
        "workflow_id": member.workflow_id,
        "parent_job_id": member.parent_job_id,
    }


ROUTES = [
    Route("GET", "/api/v1/workflows", list_workflows),
    Route("POST", "/api/v1/workflows", create_workflow),
    Route("GET", "/api/v1/workflows/{id}", get_workflow),
    Route("POST", "/api/v1/workflows/{id}/cancel", cancel_workflow),
    Route("POST", "/api/v1/workflows/{id}/retry", retry_workflow),
]
