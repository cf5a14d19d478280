"""The fields of schedules and workflows. Contract: api-v1 §6 and §7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spooled._http._entries import Entries
from spooled._http._fields import (
    ID,
    LIMIT,
    MAX_RETRIES,
    MIB,
    OFFSET,
    PAYLOAD,
    PRIORITY,
    QUEUE_NAME,
    TIMEOUT_SECONDS,
)
from spooled._http._rules import Choice, Flag, Integer, Json, ListOf, Moment, Refused, Rule, Text

DEPENDENCY_MODE = Choice("all", "any")

SCHEDULE: Mapping[str, Rule] = {
    "name": Text(1, 255),
    "description": Text(0, 1000),
    "cron_expression": Text(9, 100),
    "timezone": Text(1, 100),
    "queue_name": QUEUE_NAME,
    "payload_template": Json("payload_template", MIB),
    "priority": PRIORITY,
    "max_retries": MAX_RETRIES,
    "timeout_seconds": TIMEOUT_SECONDS,
    "tags": Json("tags", MIB),
    "metadata": Json("metadata", MIB),
    "is_active": Flag(),
}

SCHEDULE_FILTER: Mapping[str, Rule] = {
    "queue_name": QUEUE_NAME,
    "is_active": Flag(),
    "limit": Integer(1, 500),
    "offset": OFFSET,
}


def _is_job_key(text: str) -> bool:
    return all(character.isalnum() or character in "-_" for character in text)


def _is_workflow_name(text: str) -> bool:
    return all(character.isalnum() or character in " -_.:()" for character in text)


_JOB_KEY = Text(1, 100, _is_job_key, " (letters, digits, - and _)")

_JOBS = Entries(
    "jobs",
    1,
    100,
    {
        "key": _JOB_KEY,
        "queue_name": QUEUE_NAME,
        "payload": PAYLOAD,
        "depends_on": ListOf(0, 100, _JOB_KEY, "keys"),
        "dependency_mode": DEPENDENCY_MODE,
        "priority": PRIORITY,
        "max_retries": MAX_RETRIES,
        "timeout_seconds": TIMEOUT_SECONDS,
        "expires_at": Moment(later=True),
    },
    ("key", "queue_name", "payload"),
)


def _connected_jobs(value: Any) -> list[dict[str, object]]:
    """Jobs whose keys are unique and whose dependencies are among them. Cycles are left to the server."""
    jobs = _JOBS(value)
    keys: set[object] = set()
    for job in jobs:
        if job["key"] in keys:
            raise Refused(f"has two jobs with the key {job['key']!r}", "duplicate", show=False)
        keys.add(job["key"])
    for job in jobs:
        needed = job.get("depends_on", [])
        for key in needed if isinstance(needed, list) else []:
            if key not in keys:
                raise Refused(
                    f"has no job with the key {key!r}, which {job['key']!r} needs", "key", show=False
                )
    return jobs


WORKFLOW: Mapping[str, Rule] = {
    "name": Text(1, 255, _is_workflow_name, " (letters, digits, space and - _ . : ( ))"),
    "description": Text(0, 1000),
    "metadata": Json("metadata", MIB),
    "jobs": _connected_jobs,
}

WORKFLOW_FILTER: Mapping[str, Rule] = {
    "status": Choice("pending", "running", "completed", "failed", "cancelled"),
    "limit": LIMIT,
    "offset": OFFSET,
}

DEPENDENCIES: Mapping[str, Rule] = {
    "dependency_job_ids": ListOf(1, 100, ID, "job ids"),
    "dependency_mode": DEPENDENCY_MODE,
}
