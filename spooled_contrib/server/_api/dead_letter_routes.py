"""The dead-letter queue (contract section 3.8)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_reads import job_filter, reply_with_jobs
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import dead_letters
from spooled_contrib.server._rules.statuses import DEADLETTER

QueueName = Annotated[str, Meta(max_length=100, extra_json_schema=bodies.NO_NUL)]
MOST_RETRIED = 100
MOST_PURGED = 10_000


class RetryBody(Struct):
    queue_name: QueueName | None = None
    job_ids: list[bodies.Line] | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_RETRIED)] | None = None


class PurgeBody(Struct):
    confirm: Annotated[bool, Meta(extra_json_schema={"const": True})]
    queue_name: QueueName | None = None
    older_than: bodies.Time | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_PURGED)] | None = None


_retry = Decoder(RetryBody)
_purge = Decoder(PurgeBody)


async def list_dead_letters(call: Call) -> Reply:
    wanted = job_filter(call)
    wanted.statuses = [DEADLETTER]
    return await reply_with_jobs(call, wanted)


async def retry_dead_letters(call: Call) -> Reply:
    body = await call.json(_retry)
    bodies.check_text(body.queue_name, "queue_name")
    limit = body.limit or MOST_RETRIED
    if body.job_ids is not None and len(body.job_ids) > limit:
        raise refuse.invalid(
            "job_ids", f"has {len(body.job_ids)} ids; at most {limit} are allowed", code="length"
        )
    for index, job_id in enumerate(body.job_ids or ()):
        bodies.check_text(job_id, f"job_ids[{index}]")
    principal, limits = call.principal, call.limits
    retried, skipped = await call.write(
        lambda tx: dead_letters.retry(
            tx, principal, limits, queue_name=body.queue_name, job_ids=body.job_ids, limit=limit
        )
    )
    return json_reply({"retried_count": len(retried), "retried_jobs": retried, "skipped_jobs": skipped})


async def purge_dead_letters(call: Call) -> Reply:
    body = await call.json(_purge)
    if not body.confirm:
        raise refuse.bad_request("Purging deletes jobs for good; send confirm: true")
    bodies.check_text(body.queue_name, "queue_name")
    older_than = bodies.optional_micros(body.older_than, "older_than")
    principal = call.principal
    purged = await call.write(
        lambda tx: dead_letters.purge(
            tx, principal, queue_name=body.queue_name, older_than=older_than, limit=body.limit or MOST_PURGED
        )
    )
    return json_reply({"purged_count": purged})


ROUTES = [
    Route("GET", "/api/v1/jobs/dlq", list_dead_letters),
    Route("POST", "/api/v1/jobs/dlq/retry", retry_dead_letters),
    Route("POST", "/api/v1/jobs/dlq/purge", purge_dead_letters),
]
