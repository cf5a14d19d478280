"""What a listener asked to hear, whatever carries it: the filter in the URL, the cap, the credential over time.

Realtime contract, sections 1 and 3.
"""

from __future__ import annotations

from typing import Final

from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server._api.call import Call
from spooled_contrib.server._events import Carrier, Subscription
from spooled_contrib.server._rules.names import is_queue_name

LISTENERS_PER_ORGANIZATION = 100
"""Open WebSockets of an organization, and, counted apart, its open streams of `/events`."""

KEY_CHECK_SECONDS = 2.0
"""A revoked or expired key is noticed at the next event, and at the latest after this time."""

EVENT_NAMES: Final = {
    "JobStatusChange": "job.status",
    "JobCreated": "job.created",
    "JobCompleted": "job.completed",
    "JobFailed": "job.failed",
    "QueueStats": "queue.stats",
    "SystemHealth": "system.health",
    "Error": "error",
}
"""From an envelope's `type` to the name that server-sent events and the `events` filter use."""

_CANONICAL = {"job.status_changed": "job.status"}

WantedNames = frozenset[str] | None
"""The names that the `events` filter lets through; None for all."""


def requested(call: Call, carrier: Carrier) -> tuple[Subscription, WantedNames]:
    """Return the subscription that the URL asks for. It is the caller's to open, before anything is awaited.

    Raises:
        RefusalError: 400 for a queue that cannot be, 403 for one out of the key's scope, 429 when the organization
            has `LISTENERS_PER_ORGANIZATION` of this kind.
    """
    queue_name = call.query.get("queue")
    if queue_name is not None:
        if not may_be_asked_for(queue_name):
            raise refuse.bad_request("queue must be a queue name")
        call.principal.require_queue(queue_name)
    subscription = Subscription(
        call.principal.organization_id,
        call.principal.queues,
        queue_name=queue_name,
        job_id=call.text("job_id", 255),
        carrier=carrier,
    )
    wanted = _wanted_names(call)
    if call.services.hub.count(call.principal.organization_id, carrier) >= LISTENERS_PER_ORGANIZATION:
        raise refuse.RefusalError(
            429, "RATE_LIMIT_EXCEEDED", f"The organization has {LISTENERS_PER_ORGANIZATION} {carrier}s open"
        )
    return subscription, wanted


def may_be_asked_for(queue_name: str) -> bool:
    """Return a queue name, or `*`, which is a name like any other here: matched literally, and no queue has it."""
    return queue_name == "*" or is_queue_name(queue_name)


def _wanted_names(call: Call) -> WantedNames:
    names = call.text("events", 1024)
    if names is None:
        return None
    wanted = {part.strip().lower() for part in names.split(",")}
    return None if "*" in wanted else frozenset(_CANONICAL.get(name, name) for name in wanted)


async def may_go_on(call: Call, subscription: Subscription | None) -> bool:
    """Return whether the credential is still good; its present scope replaces the one from the start."""
    try:
        key = await call.services.gate.authenticate(call.bearer)
    except refuse.RefusalError:
        return False
    call.principal = key.principal
    if subscription is not None:
        subscription.queues = key.principal.queues
    return True
