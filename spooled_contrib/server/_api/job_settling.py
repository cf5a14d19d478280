"""Acks in batches: many completes and fails in one request, and a claim with them. Beyond the contract, and offered.

Each item is carried out by the same rule as the endpoint for one job, on its own, and has an answer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies, failures
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.job_leases import (
    DEFAULT_LEASE_SECONDS,
    LeaseSeconds,
    Text,
    complete_one,
    fail_one,
)
from spooled_contrib.server._api.job_objects import ClaimedJob, claimed
from spooled_contrib.server._api.reply import Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._rules import claiming
from spooled_contrib.server._rules.names import check_queue_name

MAX_ITEMS = 100
"""Completes and fails in one request, together."""


class SettledComplete(Struct):
    """A finished job: what `POST /jobs/{id}/complete` takes, but for the worker."""

    job_id: Text
    lease_id: Text
    result: Raw | UnsetType = UNSET


class SettledFail(Struct):
    """A failed job: what `POST /jobs/{id}/fail` takes, but for the worker."""

    job_id: Text
    lease_id: Text
    error: Annotated[str, Meta(min_length=1, max_length=2048)]


class RidingClaim(Struct):
    """A claim by the same worker."""

    queue_name: bodies.QueueName
    limit: Annotated[int, Meta(ge=1, le=100)] | None = None
    lease_duration_secs: LeaseSeconds | None = None


class SettleBody(Struct):
    """The request as it is described. It is read item by item, so that a wrong one harms no other."""

    worker_id: Text
    completes: Annotated[list[SettledComplete], Meta(max_length=MAX_ITEMS)] | UnsetType = UNSET
    fails: Annotated[list[SettledFail], Meta(max_length=MAX_ITEMS)] | UnsetType = UNSET
    claim: RidingClaim | UnsetType | None = UNSET


class _ReadBody(Struct):
    worker_id: Text
    completes: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)] = []
    fails: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)] = []
    claim: Raw = bodies.NULL


class ItemReply(Struct, omit_defaults=True):
    """What the endpoint for one job would have answered: 200, or a status with `code` and `message`.

    `retry_after_secs` is what its header `Retry-After` would have been.
    """

    status: int
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    details: Sequence[Mapping[str, str]] | UnsetType = UNSET
    retry_after_secs: int | UnsetType = UNSET


class ClaimedReply(ItemReply, omit_defaults=True):
    """What `POST /jobs/claim` would have answered."""

    jobs: list[ClaimedJob] | UnsetType = UNSET


class SettleReply(Struct):
    """One answer for each item, in the order in which they were sent."""

    completes: list[ItemReply]
    fails: list[ItemReply]
    claim: ClaimedReply | None


_DONE = ItemReply(200)

_body = Decoder(_ReadBody)
_complete = Decoder(SettledComplete)
_fail = Decoder(SettledFail)
_claim = Decoder(RidingClaim)


async def settle_jobs(call: Call) -> Reply:
    body = await call.json(_body)
    bodies.check_text(body.worker_id, "worker_id")
    count = len(body.completes) + len(body.fails)
    if count > MAX_ITEMS:
        raise refuse.invalid(
            "completes",
            f"and fails have {count} items together; at most {MAX_ITEMS} are allowed",
            code="length",
        )
    # Started in this order and in one turn of the loop, so they are committed in this order and mostly together.
    tasks = [
        *(_answer(call, _complete_item(call, body.worker_id, raw)) for raw in body.completes),
        *(_answer(call, _fail_item(call, body.worker_id, raw)) for raw in body.fails),
    ]
    wanted = bytes(body.claim) != b"null"
    if wanted:
        tasks.append(_answer(call, _claim_item(call, body.worker_id, body.claim)))
    answers = await asyncio.gather(*tasks)
    claim = answers.pop() if wanted else None
    split = len(body.completes)
    return json_reply({"completes": answers[:split], "fails": answers[split:], "claim": claim})


async def _answer(call: Call, item: Awaitable[ItemReply]) -> ItemReply:
    try:
        return await item
    except Exception as error:
        # The others may have been committed, so this one's failure is its own.
        refusal = failures.refusal_of(call.services.health, error, "an item of POST /api/v1/jobs/settle")
    wait = (refusal.headers or {}).get("retry-after")
    return ItemReply(
        refusal.status,
        refusal.code,
        refusal.message,
        UNSET if refusal.details is None else refusal.details,
        UNSET if wait is None else int(wait),
    )


async def _complete_item(call: Call, worker_id: str, raw: Raw) -> ItemReply:
    item = bodies.decode(_complete, bytes(raw))
    bodies.check_text(item.job_id, "job_id")
    result = bodies.NULL if item.result is UNSET else item.result
    await complete_one(call, item.job_id, worker_id, item.lease_id, result)
    return _DONE


async def _fail_item(call: Call, worker_id: str, raw: Raw) -> ItemReply:
    item = bodies.decode(_fail, bytes(raw))
    bodies.check_text(item.job_id, "job_id")
    await fail_one(call, item.job_id, worker_id, item.lease_id, item.error)
    return _DONE


async def _claim_item(call: Call, worker_id: str, raw: Raw) -> ItemReply:
    item = bodies.decode(_claim, bytes(raw))
    check_queue_name(item.queue_name)
    principal, limit = call.principal, item.limit or 1
    seconds = item.lease_duration_secs or DEFAULT_LEASE_SECONDS
    rows = await call.write(
        lambda tx: claiming.claim(tx, principal, item.queue_name, worker_id, limit, seconds)
    )
    return ClaimedReply(200, jobs=[claimed(row) for row in rows])


ROUTES = [Route("POST", "/api/v1/jobs/settle", settle_jobs)]
