"""`POST /jobs` and `POST /jobs/bulk` (contract sections 3.2 and 3.3)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._api.webhook_bodies import Url, check_target
from spooled_contrib.server._rules import creation
from spooled_contrib.server._rules.names import check_queue_name

Priority = Annotated[int, Meta(ge=-100, le=100)]
MaxRetries = Annotated[int, Meta(ge=0, le=100)]
Timeout = Annotated[int, Meta(ge=1, le=86_400)]
Text255 = Annotated[str, Meta(max_length=255, extra_json_schema=bodies.NO_NUL)]


class NewJobBody(Struct):
    queue_name: bodies.QueueName
    payload: Raw
    priority: Priority | None = None
    max_retries: MaxRetries | None = None
    timeout_seconds: Timeout | None = None
    scheduled_at: bodies.Time | None = None
    expires_at: bodies.Time | None = None
    idempotency_key: Text255 | None = None
    tags: Raw = bodies.NULL
    parent_job_id: Text255 | None = None
    completion_webhook: Url | None = None
    completion_webhook_secret: Text255 | None = None


class BulkItem(Struct):
    payload: Raw
    priority: Priority | None = None
    idempotency_key: Text255 | None = None
    scheduled_at: bodies.Time | None = None


class BulkBody(Struct):
    queue_name: bodies.QueueName
    jobs: Annotated[list[BulkItem], Meta(min_length=1, max_length=100)]
    # The contract does not range-check these three; what no column can hold is refused all the same.
    default_priority: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    default_max_retries: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    default_timeout_seconds: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None


class CreateReply(Struct):
    id: str
    created: bool


class BulkSuccess(Struct):
    index: int
    job_id: str
    created: bool


class BulkReply(Struct):
    succeeded: list[BulkSuccess]
    failed: list[Any]
    total: int
    success_count: int
    failure_count: int


_new_job = Decoder(NewJobBody)
_bulk = Decoder(BulkBody)


async def create_job(call: Call) -> Reply:
    body = await call.json(_new_job)
    check_queue_name(body.queue_name)
    payload, value = bodies.required_json_text(body.payload, "payload", bodies.MAX_PAYLOAD)
    tags = bodies.json_text(body.tags, "tags", bodies.MAX_JSON_MEMBER)
    for field in ("idempotency_key", "parent_job_id", "completion_webhook", "completion_webhook_secret"):
        bodies.check_text(getattr(body, field), field)
    if body.completion_webhook is not None:
        # What the name resolves to is looked at when it is called: a job is made too often to wait for a resolver.
        check_target(call, body.completion_webhook, "completion_webhook")
    job = creation.NewJob(
        queue_name=body.queue_name,
        payload=payload,
        job_type=job_type(value),
        priority=body.priority or 0,
        max_retries=body.max_retries,
        timeout_seconds=body.timeout_seconds,
        scheduled_at=bodies.optional_micros(body.scheduled_at, "scheduled_at"),
        expires_at=bodies.optional_micros(body.expires_at, "expires_at"),
        idempotency_key=body.idempotency_key,
        tags=None if tags is None else tags[0],
        parent_job_id=body.parent_job_id,
        completion_webhook=body.completion_webhook,
        completion_webhook_secret=body.completion_webhook_secret,
    )
    principal, limits = call.principal, call.limits
    (made,) = await call.write(lambda tx: creation.create_jobs(tx, principal, limits, [job]))
    return json_reply(CreateReply(made.id, made.created), 201 if made.created else 200)


async def create_jobs(call: Call) -> Reply:
    body = await call.json(_bulk)
    check_queue_name(body.queue_name)
    jobs = [_item(index, item, body) for index, item in enumerate(body.jobs)]
    principal, limits = call.principal, call.limits
    made = await call.write(lambda tx: creation.create_jobs(tx, principal, limits, jobs))
    return json_reply(
        BulkReply(
            succeeded=[BulkSuccess(index, job.id, job.created) for index, job in enumerate(made)],
            failed=[],
            total=len(made),
            success_count=len(made),
            failure_count=0,
        )
    )


def _item(index: int, item: BulkItem, body: BulkBody) -> creation.NewJob:
    field = f"jobs[{index}]"
    payload, value = bodies.required_json_text(item.payload, f"{field}.payload", bodies.MAX_PAYLOAD)
    bodies.check_text(item.idempotency_key, f"{field}.idempotency_key")
    return creation.NewJob(
        queue_name=body.queue_name,
        payload=payload,
        job_type=job_type(value),
        priority=item.priority if item.priority is not None else body.default_priority or 0,
        max_retries=body.default_max_retries,
        timeout_seconds=body.default_timeout_seconds,
        scheduled_at=bodies.optional_micros(item.scheduled_at, f"{field}.scheduled_at"),
        idempotency_key=item.idempotency_key,
    )


def job_type(payload: Any) -> str:
    """`payload.job_type` when the payload is an object and that is a text, else empty."""
    if isinstance(payload, dict):
        value = payload.get("job_type")
        if isinstance(value, str):
            # Lists and searches show it; a database that cannot hold NUL in a text gets none.
            return value.replace("\0", "\ufffd")
    return ""


ROUTES = [
    Route("POST", "/api/v1/jobs", create_job),
    Route("POST", "/api/v1/jobs/bulk", create_jobs),
]
