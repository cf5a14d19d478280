"""A kombu message as a Spooled job, and back.

The job's payload is `{"job_type": task name, "kombu": message}`. What Spooled has a place for goes there, so that it
works while the message waits: ETA, expiry, priority, time limit; and tags, so that jobs can be found by task.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from kombu.utils import json as _kombu_json

kombu_json: Any = _kombu_json  # has no types

PRIORITY_STEP = 10
"""Celery's priorities 0 to 9 are Spooled's 0 to 90."""

LONGEST = 86_400
"""The longest time-out in seconds that a job may have (contract api-v1 §3.2)."""

TRANSIENT = 60.0
"""Seconds after which a broadcast, reply or event that nobody has taken is deleted."""

DEADLINE = "spooled_expires"
"""The message property that says when its time to live ends, so that a requeue does not begin it anew."""

TASK = "spooled_task"
"""The message property that has a task's fields where the headers have none: in Celery's message protocol 1."""

Message = dict[str, Any]


def parameters(queue_name: str, message: Message, redeliveries: int) -> dict[str, Any]:
    """Return what `client.jobs.create` takes for a message.

    Args:
        queue_name: Spooled's name of the queue.
        message: As kombu has prepared it.
        redeliveries: How often it may come back.
    """
    headers, properties = message.get("headers") or {}, message.get("properties") or {}
    deadline = _deadline(properties)
    if deadline is not None:
        properties = {**properties, DEADLINE: deadline.isoformat()}
        message = {**message, "properties": properties}
    if headers:
        headers = _packed(headers)
        message = {**message, "headers": headers}
    fields = headers
    if not isinstance(headers.get("task"), str) and (fields := _protocol_1(message)):
        known = {name: fields[name] for name in ("id", "task", "retries") if fields.get(name)}
        properties = {**properties, TASK: known}
        message = {**message, "properties": properties}
    task = fields.get("task")
    job: dict[str, Any] = {
        "queue_name": queue_name,
        "payload": {"job_type": task, "kombu": message} if isinstance(task, str) else {"kombu": message},
        "priority": to_spooled_priority(properties.get("priority")),
        "max_retries": redeliveries,
        "timeout_seconds": _time_limit(fields),
    }
    tag = properties.get("delivery_tag")
    if tag:
        # So that sending it again after a lost answer makes no second job. One message may go to several queues.
        job["idempotency_key"] = f"{tag}:{queue_name}"[:255]
    # In other messages these headers mean something else: remote control's `expires` is about its answer.
    times = fields if isinstance(task, str) else {}
    eta, expires = moment(times.get("eta")), moment(times.get("expires")) or deadline
    if eta is not None:
        job["scheduled_at"] = eta
    if expires is not None:
        job["expires_at"] = expires
    # A list, because jobs are found by the entries of a list, and by nothing but the names of a mapping.
    tags = [
        f"{name}:{fields[key]}"
        for name, key in (("task", "task"), ("id", "id"), ("root", "root_id"))
        if fields.get(key)
    ]
    if tags:
        job["tags"] = tags
    return job


def task_fields(payload: object) -> Mapping[str, Any]:
    """Return what a job's payload says of its task (`id`, `task`, `retries`, ...); nothing where it is no task."""
    message = payload.get("kombu") if isinstance(payload, Mapping) else None
    if not isinstance(message, Mapping):
        return {}
    headers, properties = message.get("headers"), message.get("properties")
    if isinstance(headers, Mapping) and headers.get("task"):
        return headers
    known = properties.get(TASK) if isinstance(properties, Mapping) else None
    return known if isinstance(known, Mapping) else {}


def transient(message: Message) -> Message:
    """A message that nobody may be there to take any more, so that it goes by itself, also when it is given back."""
    expiration = str(int(TRANSIENT * 1000))
    return {**message, "properties": {"expiration": expiration, **message["properties"]}}


def message_of(payload: object, *, priority: int | None = None, redelivered: bool, tag: str) -> Message:
    """Return the message in a job. What others have enqueued is a message with that as its JSON body.

    Args:
        payload: The job's payload.
        priority: The job's priority, where it is known.
        redelivered: Whether it was delivered before.
        tag: The delivery tag of this delivery.
    """
    inside = payload.get("kombu") if isinstance(payload, Mapping) else None
    if isinstance(inside, Mapping) and "properties" in inside:
        message = {**inside, "headers": _unpacked(inside.get("headers") or {})}
        properties = dict(message["properties"])
    else:
        message = {
            "body": json.dumps(payload),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {},
        }
        properties = {"body_encoding": "utf-8", "delivery_mode": 2}
        if priority is not None:
            properties["priority"] = from_spooled_priority(priority)
    info = {"exchange": "", "routing_key": "", **(properties.get("delivery_info") or {})}
    if redelivered:
        info["redelivered"] = True
    message["properties"] = {**properties, "delivery_info": info, "delivery_tag": tag}
    return message


def to_spooled_priority(priority: object) -> int:
    """0 to 9 becomes 0 to 90; what is outside, or no number, is brought inside or 0."""
    if isinstance(priority, bool) or not isinstance(priority, int | float):
        return 0
    return max(0, min(9, int(priority))) * PRIORITY_STEP


def from_spooled_priority(priority: int) -> int:
    """-100 to 100 becomes 0 to 9."""
    return max(0, min(9, priority // PRIORITY_STEP))


def _protocol_1(message: Message) -> Mapping[str, Any]:
    """Return the fields of a task in Celery's message protocol 1, which has them in its body; else nothing.

    A body that is not JSON is not read: then the id alone is known, because it is also the correlation id.
    """
    properties, body = message.get("properties") or {}, message.get("body")
    correlation = properties.get("correlation_id")
    if (message.get("headers") or {}).get("id") or not correlation or "reply_to" not in properties:
        return {}
    if message.get("content-type") == "application/json" and isinstance(body, str) and body.startswith("{"):
        try:
            fields = json.loads(body)
        except ValueError:
            return {}
        is_task = isinstance(fields.get("task"), str) and fields.get("id") == correlation
        return fields if is_task else {}
    return {"id": correlation}


def _packed(headers: Mapping[str, Any]) -> Any:
    """Headers as JSON. Dates, UUIDs, decimals and bytes are written as kombu's other transports write them."""
    try:
        return json.loads(kombu_json.dumps(headers))
    except TypeError:
        return headers  # the client says what is wrong with them


def _unpacked(headers: Any) -> Any:
    text = json.dumps(headers)
    try:
        return kombu_json.loads(text) if '"__type__"' in text else headers
    except ValueError:
        return headers  # somebody else's types


def moment(value: object) -> dt.datetime | None:
    """Return the time that a header tells, aware; None when it tells none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    # Celery without `enable_utc` writes local times; everything else says its offset.
    return moment if moment.tzinfo is not None else moment.astimezone()


def _deadline(properties: Mapping[str, Any]) -> dt.datetime | None:
    """When a message's time to live ends: `expiration`, which kombu writes as milliseconds in text."""
    known = moment(properties.get(DEADLINE))
    given = properties.get("expiration")
    if known is not None or not isinstance(given, str) or not given.isdecimal():
        return known
    try:
        return dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=int(given))
    except OverflowError:
        return None


def _time_limit(headers: Mapping[str, Any]) -> int:
    limits = headers.get("timelimit")
    hard = limits[0] if isinstance(limits, list | tuple) and limits else None
    if isinstance(hard, int | float) and not isinstance(hard, bool) and hard >= 1:
        return min(LONGEST, int(hard) + 1)
    return LONGEST
