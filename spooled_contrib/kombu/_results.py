"""Results of tasks: their form on a job, whether a job waits for one, and how they are found again.

The result of a task rides on its own job. A state that belongs to no end of a run (`STARTED`, `update_state()`) is a
record: a job that nobody runs, in the queue `celery-results`. A task's jobs have the tag `id:...`, its records the tag
`state:...`, so that no number of records hides the job, and no number of retries hides the newest record.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kombu.exceptions import EncodeError as _EncodeError

from spooled import AsyncSpooledClient, errors
from spooled.models import Job, JobSummary
from spooled_contrib.kombu._envelope import Message, parameters, task_fields
from spooled_contrib.kombu._names import to_spooled

HELD = "spooled"
"""The message property that says which job it is and who holds it."""

RESULTS = "celery-results"
"""The queue of what rides on no job."""

REJECTED = {"spooled": {"outcome": "rejected"}}
"""The result of a job whose message was rejected: REST cannot refuse a job for good."""

JSON = "application/json"

LONGEST_TEXT = 65_536
"""Characters of a traceback that are kept; of a longer one, its beginning and its end."""

READY = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
_ENDED = frozenset({"completed", "deadletter", "failed", "cancelled"})

EncodeError: Any = _EncodeError  # has no types


class ResultRefusedError(EncodeError):  # type: ignore[misc]
    """The server does not take a task's result: mostly because it is too large.

    Celery takes it for a result that cannot be encoded, so that the task has failed.
    """

    @classmethod
    def of(cls, size: int, error: BaseException) -> ResultRefusedError:
        """Return the error for a result of so many bytes that was refused with `error`."""
        limit = getattr(error, "limit", None)
        allowed = f", and {limit} are allowed" if limit else ""
        return cls(
            f"the server refused the result of {size} bytes{allowed}: {error}; "
            "store the data elsewhere and return a reference to it"
        )


def is_refusal(error: errors.SpooledError) -> bool:
    """Return whether the server will never take this content, but still takes another in its place."""
    return isinstance(error, errors.PayloadTooLargeError | errors.ValidationError)


# --- form -----------------------------------------------------------------------------------------------------


def stored(content: str | bytes, content_type: str = JSON) -> dict[str, Any]:
    """Return an encoded result as it is kept on a job. Bytes become base64; what is not JSON says so."""
    value: dict[str, Any] = {"celery": content}
    if isinstance(content, bytes):
        value = {"celery": base64.b64encode(content).decode(), "encoding": "base64"}
    if content_type != JSON:
        value["content_type"] = content_type
    return value


def content_of(value: Mapping[str, Any]) -> tuple[str | bytes, str]:
    """Return what `stored` was given: the content and its type."""
    content = value["celery"]
    if value.get("encoding") == "base64":
        content = base64.b64decode(content)
    return content, value.get("content_type", JSON)


def is_stored(value: object) -> bool:
    """Return whether a job's result is that of a task."""
    if not isinstance(value, Mapping):
        return False
    inside = value.get("celery")
    return isinstance(inside, str) or (isinstance(inside, Mapping) and "status" in inside)


def failure(task_id: str, error: BaseException) -> dict[str, Any]:
    """Return a task's failure as it is kept on its job where no backend is there to encode it."""
    kind = type(error)
    reason = described(kind.__qualname__, kind.__module__, shortened(str(error)))
    return {"celery": {**told("FAILURE", reason), "task_id": task_id}}


def shortened(text: str, limit: int = LONGEST_TEXT) -> str:
    """Return the text, or its beginning and its end when it has more than so many characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters are left out ...\n{text[-half:]}"


def told(status: str, result: object = None) -> dict[str, Any]:
    """Return a state without anything that a worker has said."""
    return {"status": status, "result": result, "traceback": None, "children": []}


# --- where the worker of a task completes its job itself -------------------------------------------------------


class Slot:
    """The result of a task that a `SpooledWorker` runs; the worker completes the job with it."""

    def __init__(self) -> None:
        self.value: dict[str, Any] | None = None
        self.instead: Callable[[BaseException], object] | None = None

    def put(self, value: dict[str, Any], instead: Callable[[BaseException], object]) -> None:
        """Take the result, and what to send if the server refuses it. The first counts."""
        if self.value is None:
            self.value, self.instead = value, instead


_slots: dict[str, Slot] = {}


@contextmanager
def slot(lease_id: str) -> Iterator[Slot]:
    """Take what the backend stores for the task of this lease, instead of completing its job."""
    mine = _slots[lease_id] = Slot()
    try:
        yield mine
    finally:
        del _slots[lease_id]


def find_slot(lease_id: str) -> Slot | None:
    """Return the slot of this lease, if this process has one."""
    return _slots.get(lease_id)


# --- whether a result is kept ---------------------------------------------------------------------------------

_kept: ContextVar[str | None] = ContextVar("spooled_kept", default=None)


def keep(task_id: str) -> None:
    """Note that an app of this process keeps the result of the task that is sent next."""
    _kept.set(task_id)


def wants_result(payload: object) -> bool:
    """Return whether a Celery app of this process keeps results in Spooled, and those of this task."""
    fields = task_fields(payload)
    if not fields.get("id") or fields.get("ignore_result"):
        return False
    if _kept.get() == fields["id"]:
        return True
    state: Any = sys.modules.get("celery._state")
    backend = None if state is None else state.get_current_app().conf.result_backend
    return isinstance(backend, str) and backend.startswith("spooled")


def job_of(queue_name: str, message: Message, redeliveries: int) -> dict[str, Any]:
    """Return what `client.jobs.create` takes for a message, new or given back."""
    job = parameters(queue_name, message, redeliveries)
    if wants_result(job["payload"]):
        # Its result has to say that it expired, so a worker has to see it.
        job.pop("expires_at", None)
    return job


# --- finding --------------------------------------------------------------------------------------------------


def results_queue(prefix: str) -> str:
    """Spooled's name of the queue of results that ride on no job."""
    return to_spooled(f"{prefix}{RESULTS}")


Found = tuple[Mapping[str, Any] | None, dict[str, Any]]
"""What was stored last about a task, or else the state that its jobs tell."""


def decoded(found: Found, decode: Callable[[str | bytes, str], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a task's state and result, as Celery's backends have them; `decode` reads a content of some type."""
    value, state = found
    if value is None:
        return state
    if isinstance(value["celery"], Mapping):
        plain: Mapping[str, Any] = value["celery"]
        return plain
    return decode(*content_of(value))


async def look_up(client: AsyncSpooledClient, task_id: str, *, claimed: str = "STARTED") -> Found:
    """Return what was stored last about a task, or else the state that its jobs tell.

    Two requests for a task that has ended with a result, or waits for its first run; three or four for the others.

    Args:
        client: The connection.
        task_id: The task.
        claimed: The state of a task that a worker has, and has said nothing about: it may only be prefetched.
    """
    # The newest job is the last retry, or the copy that was given back; the one before it may tell why.
    jobs = await client.jobs.list(tag=f"id:{task_id}", limit=2)
    newest = jobs[0] if jobs else None
    job: Job | None = None
    if newest is not None and newest.status in _ENDED:
        job = await _read(client, newest.id)
        if job is not None and is_stored(job.result):
            return job.result, {}
    records = await client.jobs.list(tag=f"state:{task_id}", limit=1)
    record = await _read(client, records[0].id) if records else None
    state = record.payload if record is not None and is_stored(record.payload) else None
    if state is not None and (newest is None or state.get("state") in READY):
        return state, {}
    if newest is None:
        return None, told("PENDING")
    if newest.status in _ENDED:
        # A record outlives a task that ended without a word, but not one that died.
        return (state if newest.status == "completed" else None), _told_by(newest, job, claimed)
    if len(jobs) > 1 and (record is None or record.created_at < newest.created_at):
        before = await _read(client, jobs[1].id)
        if before is not None and is_stored(before.result):
            return before.result, {}
        if state is None:
            job = await _read(client, newest.id)
    return state, _told_by(newest, job, claimed)


async def _read(client: AsyncSpooledClient, job_id: str) -> Job | None:
    try:
        return await client.jobs.get(job_id)
    except errors.NotFoundError:
        return None  # deleted since it was listed


async def newest(client: AsyncSpooledClient, tag: str) -> Job | None:
    """Return the newest job with that tag."""
    found = await client.jobs.list(tag=tag, limit=1)
    return await _read(client, found[0].id) if found else None


def _told_by(summary: JobSummary, job: Job | None, claimed: str) -> dict[str, Any]:
    """Return the state of a task without a result of its own."""
    match summary.status:
        case "processing":
            return told(claimed)
        case "cancelled":
            return told("REVOKED", described("TaskRevokedError", "celery.exceptions", "cancelled"))
        case "deadletter" | "failed":
            reason = (job and job.last_error) or "its workers died"
            return told("FAILURE", described("WorkerLostError", "billiard.exceptions", reason))
        case "pending" | "scheduled":
            retries = task_fields(job.payload).get("retries") if job is not None else 0
            return told("RETRY" if retries else "PENDING")
        case _:
            inside = (
                job.result.get("spooled") if job is not None and isinstance(job.result, Mapping) else None
            )
            how = inside if isinstance(inside, Mapping) else {}
            if how.get("outcome") in ("rejected", "discarded"):
                reason = how.get("reason") or "the message was rejected; the worker's log says why"
                return told("FAILURE", described("Reject", "celery.exceptions", reason))
            return told("PENDING")


def described(kind: str, module: str, reason: str) -> dict[str, Any]:
    """Return an exception as Celery's backends write it."""
    return {"exc_type": kind, "exc_module": module, "exc_message": [reason]}
