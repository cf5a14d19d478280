"""The jobs of one task: the one that was enqueued, and the copies that took its place.

A worker that is stopped while a task runs, and a task that raises `Retry` or `Snooze`, leave a job that is completed
with a note in place of a result; the note names the copy that goes on (`spooled.worker.control`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spooled import Job
from spooled.models import JobHistoryEvent
from spooled_contrib.django._task_names import TaskResultDoesNotExist

_NOTE = "spooled"
_REPLACED = ("retried", "snoozed", "released")


@dataclass(frozen=True, slots=True)
class Note:
    """The end of a job whose task was not done.

    Attributes:
        outcome: `retried`, `snoozed`, `released` or `discarded`.
        reason: Why, in words.
        successor: The id of the job that took its place; None when it was discarded.
    """

    outcome: str
    reason: str
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One job of the chain, with its history, oldest event first."""

    job: Job
    history: Sequence[JobHistoryEvent]
    note: Note | None


class Chain:
    """The jobs of one task in the order in which they ran. Ask for `wanted` and `add` it, until that is None.

    Args:
        task_id: The id of the first job, which is the task's.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.parts: list[Part] = []
        self.wanted: str | None = task_id
        self._seen = {task_id}

    def add(self, job: Job, history: Sequence[JobHistoryEvent]) -> None:
        """Add the job that was wanted.

        Raises:
            TaskResultDoesNotExist: The chain bites its own tail, so there is no last job.
        """
        note = read_note(job.result) if job.status == "completed" else None
        self.parts.append(Part(job, history, note))
        self.wanted = None if note is None else note.successor
        if self.wanted is not None:
            if self.wanted in self._seen:
                raise TaskResultDoesNotExist(
                    f"{self.task_id}: its job {job.id} says that it goes on as {self.wanted}, its own beginning"
                )
            self._seen.add(self.wanted)

    def missing(self) -> TaskResultDoesNotExist:
        """Return the error for a `wanted` job that there is not."""
        if not self.parts:
            return TaskResultDoesNotExist(self.task_id)
        return TaskResultDoesNotExist(f"{self.task_id}: it went on as job {self.wanted}, which was deleted")


def read_note(result: object) -> Note | None:
    """Return what a job's result says about a task that was not done; None for what a task has returned."""
    told = _told(result)
    if told is None:
        return None
    outcome, reason = told.get("outcome"), told.get("reason")
    if not isinstance(reason, str):
        return None
    if outcome == "discarded" and set(told) == {"outcome", "reason"}:
        return Note(outcome, reason)
    successor = told.get("successor")
    if (
        outcome in _REPLACED
        and isinstance(successor, str)
        and set(told) == {"outcome", "reason", "successor"}
    ):
        return Note(outcome, reason, successor)
    return None


def as_result(value: Any) -> Any:
    """Return the job's result for what a task has returned: the value itself, unless it looks like a note."""
    return value if _told(value) is None else {_NOTE: {"outcome": "returned", "value": value}}


def returned(result: object) -> Any:
    """Return what the task has returned: the inverse of `as_result`."""
    told = _told(result)
    wrapped = told is not None and set(told) == {"outcome", "value"} and told["outcome"] == "returned"
    return told["value"] if told is not None and wrapped else result


def _told(result: object) -> Mapping[str, Any] | None:
    if not isinstance(result, Mapping) or set(result) != {_NOTE}:
        return None
    told = result[_NOTE]
    return told if isinstance(told, Mapping) else None
