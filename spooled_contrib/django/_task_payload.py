"""The payload of a job that is a Django Task, and the task that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django.utils.module_loading import import_string

from spooled_contrib.django._task_names import Task, task_backends

RUNS_KNOWN = 100_000
"""The highest number of earlier runs that a payload is believed: a list has an entry for each."""


def is_task(payload: object) -> bool:
    """Return whether this payload is a task's."""
    return (
        isinstance(payload, Mapping)
        and {"job_type", "backend", "args", "kwargs"} <= set(payload)
        and isinstance(payload["job_type"], str)
        and payload["backend"] in task_backends.settings
        and isinstance(payload["args"], list)
        and isinstance(payload["kwargs"], Mapping)
    )


def origin(payload: Mapping[str, Any], job_id: str) -> tuple[str, int]:
    """Return the id that the task was enqueued under, and how many runs there were before this job.

    A job that took another one's place carries both, because its own id means nothing to those who enqueued the task.
    """
    task_id, runs = payload.get("task_id"), payload.get("runs")
    if not isinstance(task_id, str) or not task_id or not isinstance(runs, int) or isinstance(runs, bool):
        return job_id, 0
    return task_id, min(max(runs, 0), RUNS_KNOWN)


def continued(payload: Mapping[str, Any], task_id: str, runs: int) -> dict[str, Any]:
    """Return the payload of a job that goes on with this one's task."""
    return {**payload, "task_id": task_id, "runs": min(runs, RUNS_KNOWN)}


def _load(path: str) -> Any:
    """Return the task of that path.

    Raises:
        ImportError: There is none. Nothing but tasks is ever called for what a payload says.
    """
    found = import_string(path)
    if not isinstance(found, Task):
        raise ImportError(f"{path} is no task; was its @task decorator removed?")
    return found


def with_values(task: Any, **changes: Any) -> Any:
    """Return the task with other values, without validating it: settings may have changed since it was enqueued."""
    made = object.__new__(type(task))
    for one in fields(task):
        object.__setattr__(made, one.name, changes.get(one.name, getattr(task, one.name)))
    return made


def set_values(result: Any, **values: Any) -> None:
    """Change a task result. They are frozen for users; Django's own backends change them in this way."""
    for name, value in values.items():
        object.__setattr__(result, name, value)
