"""What workers send: claim, complete, fail, heartbeat (contract section 3.7)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_objects import ClaimedJob, claimed
from spooled_contrib.server._api.reply import Reply, json_reply, success
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import acks, claiming
from spooled_contrib.server._rules.names import check_queue_name

DEFAULT_LEASE_SECONDS = 30

Text = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema=bodies.NO_NUL)]
LeaseSeconds = Annotated[int, Meta(ge=5, le=3600)]


class ClaimBody(Struct):
    queue_name: bodies.QueueName
    worker_id: Text
    limit: Annotated[int, Meta(ge=1, le=100)] | None = None
    lease_duration_secs: LeaseSeconds | None = None


class CompleteBody(Struct):
    worker_id: Text
    lease_id: Text
    result: Raw = bodies.NULL


class FailBody(Struct):
    worker_id: Text
    lease_id: Text
    error: Annotated[str, Meta(min_length=1, max_length=2048)]


class JobHeartbeatBody(Struct):
    worker_id: Text
    lease_id: Text
    lease_duration_secs: LeaseSeconds | None = None


class ClaimReply(Struct):
    jobs: list[ClaimedJob]


_claim = Decoder(ClaimBody)
_complete = Decoder(CompleteBody)
_fail = Decoder(FailBody)
_heartbeat = Decoder(JobHeartbeatBody)


async def claim_jobs(call: Call) -> Reply:
    body = await call.json(_claim)
    check_queue_name(body.queue_name)
    bodies.check_text(body.worker_id, "worker_id")
    limit = body.limit or 1
    lease_seconds = body.lease_duration_secs or DEFAULT_LEASE_SECONDS
    principal = call.principal
    rows = await call.write(
        lambda tx: claiming.claim(tx, principal, body.queue_name, body.worker_id, limit, lease_seconds)
    )
    return json_reply(ClaimReply([claimed(row) for row in rows]))


async def complete_job(call: Call) -> Reply:
    body = await call.json(_complete)
    await complete_one(call, call.parameters[0], body.worker_id, body.lease_id, body.result)
    return success()


async def complete_one(call: Call, job_id: str, worker_id: str, lease_id: str, result: Raw) -> None:
    """Settle a job as done.

    Raises:
        RefusalError: It is not the worker's under that lease, or the result is not JSON.
    """
    _check_lease(worker_id, lease_id)
    found = bodies.json_text(result, "result", bodies.MAX_BODY)
    text = None if found is None else found[0]
    principal = call.principal
    await call.write(lambda tx: acks.complete(tx, principal, job_id, worker_id, lease_id, text))


async def fail_job(call: Call) -> Reply:
    body = await call.json(_fail)
    await fail_one(call, call.parameters[0], body.worker_id, body.lease_id, body.error)
    return success()


async def fail_one(call: Call, job_id: str, worker_id: str, lease_id: str, error: str) -> None:
    """Report a job's failure.

    Raises:
        RefusalError: It is not the worker's under that lease.
    """
    _check_lease(worker_id, lease_id)
    # Refusing an error text would leave the job leased, so what cannot be stored everywhere is replaced.
    text = error.replace("\0", "\ufffd")
    principal = call.principal
    await call.write(lambda tx: acks.fail(tx, principal, job_id, worker_id, lease_id, text))


async def heartbeat_job(call: Call) -> Reply:
    body = await call.json(_heartbeat)
    _check_lease(body.worker_id, body.lease_id)
    seconds = body.lease_duration_secs or DEFAULT_LEASE_SECONDS
    principal, job_id = call.principal, call.parameters[0]
    await call.write(lambda tx: acks.heartbeat(tx, principal, job_id, body.worker_id, body.lease_id, seconds))
    return success()


def _check_lease(worker_id: str, lease_id: str) -> None:
    bodies.check_text(worker_id, "worker_id")
    bodies.check_text(lease_id, "lease_id")


ROUTES = [
    Route("POST", "/api/v1/jobs/claim", claim_jobs),
    Route("POST", "/api/v1/jobs/{id}/complete", complete_job),
    Route("POST", "/api/v1/jobs/{id}/fail", fail_job),
    Route("POST", "/api/v1/jobs/{id}/heartbeat", heartbeat_job),
]
