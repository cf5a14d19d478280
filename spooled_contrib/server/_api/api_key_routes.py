"""API keys (contract section 8). Closed to keys that are limited to queues."""

from __future__ import annotations

import json
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._api.reply import NO_CONTENT, Reply, json_reply
from spooled_contrib.server._api.routing import Route
from spooled_contrib.server._keys import new_api_key
from spooled_contrib.server._rules import api_keys
from spooled_contrib.server._rules.names import check_queue_name
from spooled_contrib.server._storage import Row
from spooled_contrib.server._times import moment

Name = Annotated[
    str, Meta(min_length=1, max_length=100, extra_json_schema={"pattern": r"^[\p{L}\p{N} _.()\-]*$"})
]
Queue = Annotated[
    str,
    Meta(extra_json_schema={"maxLength": 100, "pattern": r"^(\*|[\p{L}\p{N}_][\p{L}\p{N}_.\-]*)$"}),
]
Queues = Annotated[list[Queue], Meta(max_length=50)]
RateLimit = Annotated[int, Meta(ge=1, le=10_000)]

_ABSENT = Raw(b"")


class NewKeyBody(Struct):
    name: Name
    queues: Queues | None = None
    rate_limit: RateLimit | None = None
    expires_at: bodies.Time | None = None
    permissions: Raw = _ABSENT


class ChangeBody(Struct):
    name: Name | None = None
    queues: Queues | None = None
    rate_limit: RateLimit | None = None
    is_active: bool | None = None
    permissions: Raw = _ABSENT


_new = Decoder(NewKeyBody)
_change = Decoder(ChangeBody)


async def list_keys(call: Call) -> Reply:
    call.principal.require_unrestricted()
    rows = await call.read(lambda tx: api_keys.list_keys(tx, call.principal.organization_id))
    return json_reply([_key(row) for row in rows])


async def create_key(call: Call) -> Reply:
    call.principal.require_unrestricted()
    return await create_key_for(call, call.principal.organization_id)


async def create_key_for(call: Call, organization_id: str) -> Reply:
    """Make the key that the body asks for. Who asks was checked."""
    body = await call.json(_new)
    _check(body)
    expires_at = bodies.optional_micros(body.expires_at, "expires_at")
    key = new_api_key()
    row = await call.write(
        lambda tx: api_keys.create(
            tx,
            organization_id,
            call.services.limits_of(organization_id),
            name=body.name,
            key=key,
            queues=body.queues or [],
            rate_limit=body.rate_limit,
            expires_at=expires_at,
        )
    )
    return json_reply(
        {
            "id": row[0],
            "key": key,
            "name": row[2],
            "queues": json.loads(row[5]),
            "created_at": moment(row[8]),
            "expires_at": moment(row[10]),
        },
        201,
    )


async def get_key(call: Call) -> Reply:
    call.principal.require_unrestricted()
    row = await call.read(lambda tx: api_keys.get_key(tx, call.principal.organization_id, call.parameters[0]))
    return json_reply(_key(row))


async def change_key(call: Call) -> Reply:
    call.principal.require_unrestricted()
    body = await call.json(_change)
    _check(body)
    change = api_keys.KeyChange(
        name=body.name, queues=body.queues, rate_limit=body.rate_limit, is_active=body.is_active
    )
    key_id = call.parameters[0]
    row = await call.write(
        lambda tx: api_keys.change_key(tx, call.principal.organization_id, call.limits, key_id, change)
    )
    return json_reply(_key(row))


async def revoke_key(call: Call) -> Reply:
    call.principal.require_unrestricted()
    key_id = call.parameters[0]
    await call.write(lambda tx: api_keys.revoke(tx, call.principal.organization_id, key_id))
    return Reply(NO_CONTENT)


def _check(body: NewKeyBody | ChangeBody) -> None:
    if bytes(body.permissions):
        raise refuse.invalid("permissions", "are not supported; limit the key with queues instead")
    if body.name is not None and not all(char.isalnum() or char in " -_.()" for char in body.name):
        raise refuse.invalid("name", "must have letters, digits, spaces and - _ . ( ) only", code="format")
    for index, queue_name in enumerate(body.queues or ()):
        if queue_name != "*":
            check_queue_name(queue_name, f"queues[{index}]")


def _key(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "name": row[2],
        "key_prefix": row[4],
        "queues": json.loads(row[5]),
        "rate_limit": row[6],
        "is_active": bool(row[7]),
        "created_at": moment(row[8]),
        "last_used": moment(row[9]),
        "expires_at": moment(row[10]),
    }


ROUTES = [
    Route("GET", "/api/v1/api-keys", list_keys),
    Route("POST", "/api/v1/api-keys", create_key),
    Route("GET", "/api/v1/api-keys/{id}", get_key),
    Route("PUT", "/api/v1/api-keys/{id}", change_key),
    Route("DELETE", "/api/v1/api-keys/{id}", revoke_key),
]
