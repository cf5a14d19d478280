"""Making the jobs of a workflow with what they wait for, all or nothing (contract section 7)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._limits import Limits
from spooled_contrib.server._principal import Principal
from spooled_contrib.server._rules import creation, events, quotas
from spooled_contrib.server._storage import Tx


class Step(Struct, frozen=True):
    """A job of a workflow, by the key that its siblings know it by. The key is not kept."""

    key: str
    depends_on: Sequence[str]
    job: creation.NewJob


class NewWorkflow(Struct, kw_only=True):
    """A workflow to be made, already checked field by field."""

    name: str
    description: str | None
    metadata: str | None
    steps: Sequence[Step]


def check_steps(steps: Sequence[Step]) -> None:
    """Refuse keys that occur twice or are not there, and circles: 400 `BAD_REQUEST`."""
    by_key: dict[str, Step] = {}
    for step in steps:
        if step.key in by_key:
            raise refuse.bad_request(
                f"The key {step.key!r} occurs more than once; keys are unique in a workflow"
            )
        by_key[step.key] = step
    for step in steps:
        for key in step.depends_on:
            if key not in by_key:
                raise refuse.bad_request(
                    f"The job {step.key!r} depends on {key!r}, which is no job of this workflow"
                )
    circle = find_circle({step.key: step.depends_on for step in steps})
    if circle:
        raise refuse.bad_request(f"These jobs wait for each other: {', '.join(circle)}")


def find_circle(depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys that can never run because they wait for each other, or for such ones; in the given order."""
    waiting = {key: set(parents) for key, parents in depends_on.items()}
    while free := [key for key, parents in waiting.items() if not parents]:
        for key in free:
            del waiting[key]
        for parents in waiting.values():
            parents.difference_update(free)
    return list(waiting)


def create(tx: Tx, principal: Principal, limits: Limits, new: NewWorkflow) -> tuple[str, list[str]]:
    """Make it; its id, and those of its jobs in the order of its steps."""
    organization_id = principal.organization_id
    queues = list(dict.fromkeys(step.job.queue_name for step in new.steps))
    for queue_name in queues:
        principal.require_queue(queue_name)
    check_steps(new.steps)
    quotas.check_feature(limits, "workflows")
    for step in new.steps:
        quotas.check_payload(len(step.job.payload.encode()), limits)
    quotas.check_new_jobs(tx, organization_id, limits, len(new.steps))
    quotas.check_queues(tx, organization_id, limits, queues)
    quotas.check_workflow(tx, organization_id, limits)
    workflow_id = str(uuid.uuid4())
    tx.execute(
        "INSERT INTO workflows (id, organization_id, name, description, status, total_jobs, completed_jobs, "
        "failed_jobs, metadata, created_at, updated_at) VALUES (?, ?, ?, ?, 'pending', ?, 0, 0, ?, ?, ?)",
        (
            workflow_id,
            organization_id,
            new.name,
            new.description,
            len(new.steps),
            new.metadata,
            tx.now,
            tx.now,
        ),
    )
    jobs = [
        structs.replace(step.job, workflow_id=workflow_id, waits=bool(step.depends_on)) for step in new.steps
    ]
    made = creation.insert_jobs(tx, organization_id, limits, jobs, events.Origin(workflow_id=workflow_id))
    ids = {step.key: job.id for step, job in zip(new.steps, made, strict=True)}
    _connect(tx, new.steps, ids)
    return workflow_id, list(ids.values())


def _connect(tx: Tx, steps: Sequence[Step], ids: Mapping[str, str]) -> None:
    edges = [(ids[step.key], ids[parent]) for step in steps for parent in dict.fromkeys(step.depends_on)]
    if not edges:
        return
    tx.execute_many("INSERT INTO job_dependencies (child_job_id, parent_job_id) VALUES (?, ?)", edges)
    parents = list({parent for _, parent in edges})
    marks = ", ".join("?" * len(parents))
    tx.execute(f"UPDATE jobs SET has_dependents = 1 WHERE id IN ({marks})", parents)  # noqa: S608
