"""What happens on the server, as it is told to whoever listens. Contract: realtime §3."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from spooled._http._nearest import did_you_mean


class ConnectionState(enum.StrEnum):
    """How a realtime client is connected. Each is equal to its text."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"


class EventData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event says. Fields are attributes, and items as well: `data.job_id` is `data["job_id"]`."""

    timestamp: datetime | None = None

    def __getitem__(self, field: str) -> Any:
        if field not in self.__struct_fields__:
            raise KeyError(field)
        return getattr(self, field)

    def __contains__(self, field: object) -> bool:
        return field in self.__struct_fields__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__struct_fields__)

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields, so that `dict(data)` works."""
        return self.__struct_fields__

    def get(self, field: str, default: Any = None) -> Any:
        """Return the field, or `default` when this kind of event has no such field."""
        return getattr(self, field) if field in self.__struct_fields__ else default


class JobStatusChanged(EventData, frozen=True):
    """`job.status_changed`. The first event of a job's own stream has no old status."""

    job_id: str
    queue_name: str = ""
    old_status: str = ""
    new_status: str = ""


class JobCreated(EventData, frozen=True):
    """`job.created`."""

    job_id: str
    queue_name: str = ""
    priority: int = 0


class JobCompleted(EventData, frozen=True):
    """`job.completed`. `duration_ms` is milliseconds."""

    job_id: str
    queue_name: str = ""
    duration_ms: int = 0
    result: Any = None


class JobFailed(EventData, frozen=True):
    """`job.failed`, each time. `retry_count` counts this failure too."""

    job_id: str
    queue_name: str = ""
    error: str = ""
    retry_count: int = 0


class QueueCounts(EventData, frozen=True):
    """`queue.stats`. `pending` counts scheduled jobs too, `failed` dead ones."""

    queue_name: str = ""
    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0


class WorkerReported(EventData, frozen=True):
    """`worker.heartbeat`."""

    worker_id: str
    status: str = ""
    current_job_id: str | None = None


class WorkerRegistered(EventData, frozen=True):
    """`worker.registered`."""

    worker_id: str
    queue_name: str = ""


class WorkerDeregistered(EventData, frozen=True):
    """`worker.deregistered`."""

    worker_id: str


class SystemHealth(EventData, frozen=True):
    """`system.health`."""

    database: bool = True
    redis: bool = True


class Ping(EventData, frozen=True):
    """`ping`: the server shows that the connection lives."""


class ErrorReported(EventData, frozen=True):
    """`error`: the server could not go on."""

    message: str = ""


class RealtimeEvent(msgspec.Struct, frozen=True):
    """Something that happened.

    Attributes:
        type: One of `EVENT_TYPES`, such as `job.completed`.
        data: What the server says about it.
        timestamp: When it happened; None when the server does not say.
    """

    type: str
    data: EventData
    timestamp: datetime | None = None


_KINDS: dict[str, tuple[str, type[EventData]]] = {
    "JobStatusChange": ("job.status_changed", JobStatusChanged),
    "JobCreated": ("job.created", JobCreated),
    "JobCompleted": ("job.completed", JobCompleted),
    "JobFailed": ("job.failed", JobFailed),
    "QueueStats": ("queue.stats", QueueCounts),
    "WorkerHeartbeat": ("worker.heartbeat", WorkerReported),
    "WorkerRegistered": ("worker.registered", WorkerRegistered),
    "WorkerDeregistered": ("worker.deregistered", WorkerDeregistered),
    "SystemHealth": ("system.health", SystemHealth),
    "Ping": ("ping", Ping),
    "Error": ("error", ErrorReported),
}

EVENT_TYPES = tuple(name for name, _ in _KINDS.values())
"""All types of events."""

_ALIASES = {wire: name for wire, (name, _) in _KINDS.items()} | {"job.status": "job.status_changed"}


def event_type(name: str) -> str:
    """Return the type that `name` means; the names on the wire are understood too.

    Raises:
        ValueError: There is no such type.
    """
    found = _ALIASES.get(name, name)
    if found not in EVENT_TYPES:
        raise ValueError(f"there is no event {name!r}. {did_you_mean(str(name), EVENT_TYPES)}")
    return found


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


_envelope = msgspec.json.Decoder(_Envelope)
_data = {wire: msgspec.json.Decoder(kind) for wire, (_, kind) in _KINDS.items()}


def read_event(message: bytes | str) -> RealtimeEvent | None:
    """Return the event in a message; None for one that this version does not know or cannot read."""
    try:
        envelope = _envelope.decode(message)
        if envelope.type not in _KINDS:
            return None
        data = _data[envelope.type].decode(envelope.data)
    except ValueError:  # msgspec's errors are ValueErrors, and so is text that is not UTF-8
        return None
    return RealtimeEvent(_KINDS[envelope.type][0], data, data.timestamp)
