"""What clients change about jobs (contract section 3.6)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.json import Decoder

from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_creation import Priority
from spooled_contrib.server._api.job_objects import job
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import control, dependencies


class PriorityBody(Struct):
    priority: Priority


class DependenciesBody(Struct):
    depends_on: Annotated[list[bodies.Line], Meta(min_length=1, max_length=100)]
    dependency_mode: Literal["all", "any"] | None = None


_priority = Decoder(PriorityBody)
_dependencies = Decoder(DependenciesBody)


async def cancel_job(call: Call) -> Reply:
    principal, job_id = call.principal, call.parameters[0]
    await call.write(lambda tx: control.cancel(tx, principal, job_id))
    return Reply(NO_CONTENT)


async def retry_job(call: Call) -> Reply:
    principal, job_id = call.principal, call.parameters[0]
    return json_reply(job(await call.write(lambda tx: control.retry(tx, principal, job_id))))


async def set_priority(call: Call) -> Reply:
    body = await call.json(_priority)
    principal, job_id = call.principal, call.parameters[0]
    old = await call.write(lambda tx: control.set_priority(tx, principal, job_id, body.priority))
    return json_reply({"job_id": job_id, "old_priority": old, "new_priority": body.priority})


async def add_dependencies(call: Call) -> Reply:
    body = await call.json(_dependencies)
    for index, dependency in enumerate(body.depends_on):
        bodies.check_text(dependency, f"depends_on[{index}]")
    principal, job_id = call.principal, call.parameters[0]
    mode = body.dependency_mode or "all"
    added, met = await call.write(lambda tx: dependencies.add(tx, principal, job_id, body.depends_on, mode))
    return json_reply({"dependencies_added": added, "dependencies_met": met, "job_id": job_id})


ROUTES = [
    Route("DELETE", "/api/v1/jobs/{id}", cancel_job),
    Route("POST", "/api/v1/jobs/{id}/retry", retry_job),
    Route("PUT", "/api/v1/jobs/{id}/priority", set_priority),
    Route("POST", "/api/v1/jobs/{id}/dependencies", add_dependencies),
]
