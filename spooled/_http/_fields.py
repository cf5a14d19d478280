"""The fields of every request and the contract's rules for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from spooled._http._rules import (
    Choice,
    Choices,
    Flag,
    Integer,
    Json,
    ListOf,
    Moment,
    Refused,
    Rule,
    Text,
    Yes,
    body,
    check,
    is_host_name,
    is_key_name,
    is_mail_address,
    is_plain_name,
    is_queue_name,
    is_slug,
    is_web_address,
    refusal,
)
from spooled.codec import whole_form
from spooled.errors import ValidationError

KIB = 1024
MIB = 1024 * KIB

QUEUE_NAME = Text(1, 100, is_queue_name, " (letters, digits, - _ . and neither . nor - at the start)")
PRIORITY = Integer(-100, 100)
MAX_RETRIES = Integer(0, 100)
TIMEOUT_SECONDS = Integer(1, 86_400)
PAYLOAD = Json(
    "payload",
    MIB,
    ": store the data elsewhere and put a reference to it in the payload",
    # Nothing of a model may get lost on its way to a worker.
    whole_form,
)
IDEMPOTENCY_KEY = Text(1, 255)
LIMIT = Integer(1, 100)
OFFSET = Integer(0, 2**63 - 1)
ID = Text(1, 255)

STATUS = Choices("pending", "scheduled", "processing", "completed", "failed", "deadletter", "cancelled")

JOB: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "payload": PAYLOAD,
    "priority": PRIORITY,
    "max_retries": MAX_RETRIES,
    "timeout_seconds": TIMEOUT_SECONDS,
    "scheduled_at": Moment(later=True),
    "expires_at": Moment(later=True),
    "idempotency_key": IDEMPOTENCY_KEY,
    "tags": Json("tags", 64 * KIB),
    "parent_job_id": ID,
    "completion_webhook": Text(1, 2048, is_web_address, " (an http:// or https:// address)"),
    "completion_webhook_secret": Text(0, 255, secret=True),
}

_BULK_ITEM: Mapping[str, Rule] = {
    "payload": PAYLOAD,
    "priority": PRIORITY,
    "idempotency_key": IDEMPOTENCY_KEY,
    "scheduled_at": Moment(later=True),
}


class _BulkItems:
    """1 to 100 jobs; all that is wrong with any of them is reported."""

    def __call__(self, value: Any) -> list[dict[str, object]]:
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
            raise Refused("must be a list of mappings", "type")
        items = list(value)
        if not 1 <= len(items) <= 100:
            raise Refused(f"must hold 1 to 100 jobs, has {len(items)}: split them", "length", show=False)
        sent: list[dict[str, object]] = []
        problems: list[dict[str, str]] = []
        for index, item in enumerate(items):
            try:
                sent.append(self._item(f"jobs[{index}]", item))
            except ValidationError as error:
                problems.extend(error.details)
        if problems:
            raise refusal(problems)
        size = sum(len(bytes(cast("msgspec.Raw", job["payload"]))) for job in sent)
        if size > 2 * MIB:
            problem = f"holds {size} bytes of payload; the server reads 2 MiB a request: split the list"
            raise Refused(problem, "too_large", show=False)
        return sent

    def _item(self, name: str, item: object) -> dict[str, object]:
        if not isinstance(item, Mapping):
            message = f"{name} must be a mapping with a payload, got {type(item).__name__}"
            raise refusal([{"field": name, "message": message, "code": "type"}])
        for key in item:
            if key not in _BULK_ITEM:
                message = (
                    f"{name} has an unknown field {key!r}; a bulk job takes {', '.join(_BULK_ITEM)}. "
                    "Create a job that needs more with jobs.create()"
                )
                raise refusal([{"field": f"{name}.{key}", "message": message, "code": "unknown_field"}])
        if "payload" not in item:
            message = f"{name}.payload is required (None is a payload, too)"
            raise refusal([{"field": f"{name}.payload", "message": message, "code": "missing_field"}])
        return check(_BULK_ITEM, item, {"payload"}, prefix=f"{name}.")


BULK: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "jobs": _BulkItems(),
    "default_priority": PRIORITY,
    "default_max_retries": MAX_RETRIES,
    "default_timeout_seconds": TIMEOUT_SECONDS,
}

JOB_FILTER: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "status": STATUS,
    "q": Text(1, 1024),
    "job_type": Text(1, 1024),
    "tag": Text(1, 1024),
    "created_after": Moment(),
    "created_before": Moment(),
    "order_by": Choice(
        "created_at",
        "updated_at",
        "scheduled_at",
        "completed_at",
        "priority",
        "status",
        "queue_name",
        "retry_count",
    ),
    "order_dir": Choice("asc", "desc"),
    "limit": LIMIT,
    "offset": OFFSET,
}

HISTORY: Mapping[str, Rule] = {
    "order_dir": Choice("asc", "desc"),
    "limit": Integer(1, 500),
    "offset": OFFSET,
}

LEASE: Mapping[str, Rule] = {
    "worker_id": Text(1, 255),
    "lease_id": Text(1, 255),
    "result": Json("result", 2 * MIB),
    "error": Text(1, 2048),
    "lease_duration_secs": Integer(5, 3600),
}

CLAIM: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "worker_id": Text(1, 255),
    "limit": LIMIT,
    "lease_duration_secs": Integer(5, 3600),
}

DLQ_RETRY: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "job_ids": ListOf(1, 100, ID, "job ids"),
    "limit": LIMIT,
}

DLQ_PURGE: Mapping[str, Rule] = {
    "confirm": Yes(),
    "queue_name": QUEUE_NAME,
    "older_than": Moment(),
    "limit": Integer(1, 10_000),
}

QUEUE_CONFIG: Mapping[str, Rule] = {
    "max_retries": MAX_RETRIES,
    "default_timeout": TIMEOUT_SECONDS,
    "rate_limit": Integer(1, 100_000),
    "enabled": Flag(),
    "settings": Json("settings", 64 * KIB),
}

PAUSE: Mapping[str, Rule] = {"reason": Text(0, 500)}

REGISTRATION: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "hostname": Text(1, 255, is_host_name, " (ASCII letters, digits, . - _ and neither . nor - at an end)"),
    "worker_id": Text(1, 128, is_plain_name, " (ASCII letters, digits, . _ -)"),
    "worker_type": Text(0, 50),
    "max_concurrency": Integer(1, 100),
    "metadata": Json("metadata", 64 * KIB),
    "version": Text(0, 50),
}

WORKER_HEARTBEAT: Mapping[str, Rule] = {
    "current_jobs": Integer(0, 1000),
    "status": Choice("healthy", "degraded", "draining", "offline"),
    "metadata": Json("metadata", 64 * KIB),
}

LOGIN: Mapping[str, Rule] = {
    "email": Text(3, 320, is_mail_address, " (a mail address)"),
}

TOKENS: Mapping[str, Rule] = {
    "api_key": Text(10, 10_000, secret=True),
    "refresh_token": Text(10, 10_000, secret=True),
    "token": Text(1, 10_000, secret=True),
}

API_KEY: Mapping[str, Rule] = {
    "name": Text(1, 100, is_key_name, " (letters, digits, space and - _ . ( ))"),
    "queues": ListOf(0, 50, Text(1, 100), "queue names"),
    "rate_limit": Integer(1, 10_000),
    "expires_at": Moment(later=True),
    "is_active": Flag(),
}

ORGANIZATION: Mapping[str, Rule] = {
    "name": Text(1, 100),
    "slug": Text(1, 100, is_slug, " (a-z, 0-9, - and no - at an end)"),
    "billing_email": Text(3, 320),
    "settings": Json("settings", 64 * KIB),
}

SLUG_NAME: Mapping[str, Rule] = {"name": Text(1, 200), "slug": Text(1, 255)}

ADMIN_ORGANIZATION: Mapping[str, Rule] = {
    **ORGANIZATION,
    "plan_tier": Text(1, 50),
    "custom_limits": Json("custom_limits", 64 * KIB),
}

ADMIN_FILTER: Mapping[str, Rule] = {
    "search": Text(1, 255),
    "plan_tier": Text(1, 50),
    "sort_by": Text(1, 50),
    "sort_order": Choice("asc", "desc"),
    "limit": LIMIT,
    "offset": OFFSET,
}

BILLING: Mapping[str, Rule] = {
    "return_url": Text(1, 2048, is_web_address, " (an http:// or https:// address)"),
}


def age(older_than: object, days: int | None) -> object:
    """Return the moment that `older_than` and `older_than_days` mean together."""
    if days is None:
        return datetime.now(UTC) - older_than if isinstance(older_than, timedelta) else older_than
    if older_than is not None:
        message = "older_than and older_than_days say the same: give one of them"
        raise refusal([{"field": "older_than_days", "message": message, "code": "ambiguous"}])
    checked = body({"older_than_days": Integer(1, 36_500)}, older_than_days=days)
    return datetime.now(UTC) - timedelta(days=cast("int", checked["older_than_days"]))


def all_keyed(bulk: Mapping[str, Any]) -> bool:
    """Return whether every job of a checked bulk request has an idempotency key, so that it may be sent twice."""
    return all("idempotency_key" in job for job in bulk["jobs"])
