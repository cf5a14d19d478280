"""What a webhook may be (contract section 9)."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api import bodies
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._rules import webhooks
from spooled_contrib.server._webhooks import targets

RESOLVE_SECONDS = 5.0
"""How long the creation of a webhook waits for a resolver."""

# Only described here, like the events and the formats: `targets` says what is wrong with one in better words.
_URL = {"pattern": targets.URL_PATTERN, "examples": ["https://example.com/hooks/spooled?from=server"]}

Name = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=bodies.NO_NUL)]
Url = Annotated[str, Meta(max_length=2048, extra_json_schema=_URL)]
Event = Annotated[str, Meta(extra_json_schema={"enum": sorted(webhooks.EVENTS)})]
Events = Annotated[list[Event], Meta(min_length=1, max_length=100)]
Secret = Annotated[str, Meta(max_length=255, extra_json_schema=bodies.NO_NUL)]
Format = Annotated[str, Meta(extra_json_schema={"enum": sorted(webhooks.FORMATS)})]


class NewWebhookBody(Struct):
    name: Name
    url: Url
    events: Events
    secret: Secret | None = None
    enabled: bool | None = None
    format: Format | None = None


class ChangeBody(Struct):
    name: Name | None = None
    url: Url | None = None
    events: Events | None = None
    secret: Secret | UnsetType | None = UNSET
    enabled: bool | None = None
    format: Format | None = None


_new = Decoder(NewWebhookBody)
_change = Decoder(ChangeBody)


async def new(call: Call) -> webhooks.Change:
    """Return the body of a creation, checked.

    Raises:
        RefusalError: a field is missing or wrong, or the address is one that is not called.
    """
    body = await call.json(_new)
    return await _checked(call, body)


async def change(call: Call) -> webhooks.Change:
    """Return the body of a change, checked."""
    body = await call.json(_change)
    return await _checked(call, body)


async def _checked(call: Call, body: NewWebhookBody | ChangeBody) -> webhooks.Change:
    bodies.check_text(body.name, "name")
    if isinstance(body.secret, str):
        bodies.check_text(body.secret, "secret")
    if body.format is not None and body.format not in webhooks.FORMATS:
        raise refuse.invalid_json(f"must be one of {', '.join(sorted(webhooks.FORMATS))}", field="format")
    for index, event in enumerate(body.events or ()):
        if event not in webhooks.EVENTS:
            raise refuse.invalid(f"events[{index}]", f"must be one of {', '.join(sorted(webhooks.EVENTS))}")
    if body.url is not None:
        check_target(call, body.url, "url")
        await _check_addresses(call, body.url)
    return webhooks.Change(
        name=body.name,
        url=body.url,
        events=None if body.events is None else list(dict.fromkeys(body.events)),
        secret=body.secret,
        enabled=body.enabled,
        format=body.format,
    )


def check_target(call: Call, url: str, field: str) -> None:
    """Refuse an address by what it says; nothing is resolved.

    Raises:
        RefusalError: 400, not an http or https URL, or one that leads to no public address.
    """
    try:
        targets.check_url(url, allow_private=call.services.settings.allow_private_webhooks)
    except targets.RefusedTargetError as error:
        raise refuse.invalid(field, str(error), code="format") from None


async def _check_addresses(call: Call, url: str) -> None:
    # For the one who creates it: a mistake shows at once. What counts is the check before each delivery.
    if call.services.settings.allow_private_webhooks:
        return
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            await targets.resolve(parts.hostname or "", parts.port or 443, allow_private=False)
    except targets.RefusedTargetError as error:
        raise refuse.invalid("url", str(error), code="format") from None
    except (targets.UnresolvedError, TimeoutError):
        # Not known yet, or the resolver is away; each delivery resolves it again.
        return
