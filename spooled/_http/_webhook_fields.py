"""The fields of webhooks in both directions. Contract: api-v1 §9 and §10."""

from __future__ import annotations

from collections.abc import Mapping

from spooled._http._fields import IDEMPOTENCY_KEY, LIMIT, MIB, OFFSET, PRIORITY, QUEUE_NAME
from spooled._http._rules import Choice, Flag, Json, ListOf, Moment, Rule, Text, is_web_address

WEBHOOK: Mapping[str, Rule] = {
    "name": Text(1, 100),
    "url": Text(1, 2048, is_web_address, " (an http:// or https:// address)"),
    # Not a fixed set: a newer server may know more events.
    "events": ListOf(1, 100, Text(1, 100), "event names"),
    "secret": Text(1, 10_000, secret=True),
    "enabled": Flag(),
    "format": Choice("json", "slack", "discord", "teams"),
}

DELIVERY_FILTER: Mapping[str, Rule] = {
    "status": Choice("pending", "success", "failed"),
    "limit": LIMIT,
    "offset": OFFSET,
}

INBOUND_FILTER: Mapping[str, Rule] = {
    "status": Choice("created", "duplicate"),
    "since": Moment(),
    "queue_name": QUEUE_NAME,
    "limit": LIMIT,
    "offset": OFFSET,
}

INGEST: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "event_type": Text(1, 100),
    # The rule says 5 MiB, but servers do not read more than 2 MiB of any request.
    "payload": Json("payload", 2 * MIB),
    "idempotency_key": IDEMPOTENCY_KEY,
    "priority": PRIORITY,
}
