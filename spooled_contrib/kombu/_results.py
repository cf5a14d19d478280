"""Results of tasks: whether a job waits for one, and how they are found again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from spooled.models import Job
from spooled_contrib.kombu._names import to_spooled

if TYPE_CHECKING:
    from spooled_contrib.kombu._courier import Courier

HELD = "spooled"
"""The message property that says which job it is and who holds it."""


RESULTS = "celery-results"
"""The queue of what rides on no job."""

_ENDED = frozenset({"completed", "deadletter", "failed", "cancelled"})


def results_queue(courier: Courier) -> str:
    """Spooled's name of the queue of results that ride on no job."""
    return to_spooled(f"{courier.options.prefix}{RESULTS}")


def newest(courier: Courier, tag: str) -> Job | None:
    """What says most about a task: its latest job when that has ended, else the latest of its states."""
    found = courier.call(lambda client: client.jobs.list(tag=tag, limit=10))
    if not found:
        return None
    jobs = [one for one in found if one.queue_name != results_queue(courier)]
    chosen = jobs[0] if jobs and jobs[0].status in _ENDED else found[0]
    return courier.call(lambda client: client.jobs.get(chosen.id))


def latest(
    courier: Courier, task_id: str, decode: Callable[[str], Any], *, claimed: str = "STARTED"
) -> Mapping[str, Any]:
    """A task's state and result, as Celery's backends have them.

    Args:
        courier: The connection.
        task_id: The task.
        decode: Reads what was stored.
        claimed: The state of a task that a worker has, and has said nothing about: it may only be prefetched.
    """
    job = newest(courier, f"id:{task_id}")
    if job is None:
        return {"status": "PENDING", "result": None}
    value = job.payload if job.queue_name == results_queue(courier) else job.result
    if isinstance(value, Mapping) and isinstance(value.get("celery"), str):
        meta: Mapping[str, Any] = decode(value["celery"])
        return meta
    return {"result": None, "traceback": None, "children": [], **_told_by(job, claimed)}


def wants_result(payload: object) -> bool:
    """Whether this process' Celery app keeps results in Spooled, and those of this task."""
    state: Any = sys.modules.get("celery._state")
    if state is None or not isinstance(payload, dict):
        return False
    message = payload.get("kombu")
    headers = message.get("headers") if isinstance(message, dict) else None
    if not isinstance(headers, dict) or not headers.get("task") or headers.get("ignore_result"):
        return False
    backend = state.get_current_app().conf.result_backend
    return isinstance(backend, str) and backend.startswith("spooled")


def _told_by(job: Job, claimed: str) -> dict[str, Any]:
    """The state of a task without a result of its own."""
    match job.status:
        case "processing":
            return {"status": claimed}
        case "cancelled":
            return {"status": "REVOKED"}
        case "deadletter" | "failed":
            lost = {
                "exc_type": "WorkerLostError",
                "exc_module": "billiard.exceptions",
                "exc_message": [job.last_error or "its workers died"],
            }
            return {"status": "FAILURE", "result": lost}
        case "pending" | "scheduled":
            inside = job.payload.get("kombu") if isinstance(job.payload, Mapping) else None
            headers = inside.get("headers") if isinstance(inside, Mapping) else None
            retries = headers.get("retries") if isinstance(headers, Mapping) else 0
            return {"status": "RETRY" if retries else "PENDING"}
        case _:
            return {"status": "PENDING"}
