"""What a worker and its child processes tell each other, and how it travels.

A message is its length in four bytes and then its content. What the worker sends first is a pickled `Setup`; all other
messages are MessagePack, so that nothing that a handler returns is ever executed in the worker.
"""

from __future__ import annotations

import datetime as dt
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from spooled._http._json import encode
from spooled.errors import SpooledError
from spooled.worker._job_result import Discarded, Failure, JobResult, Reenqueue, describe_error
from spooled.worker._log import WorkerLogger
from spooled.worker._results import Success
from spooled.worker._running_job import RunningJob

logger = WorkerLogger("spooled.worker")

_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a child. Pickled with built-in types only, for nothing of the user's is imported yet.

    Attributes:
        handlers: The handlers and what runs around them, see `_process_references`.
        main: Where the module `__main__` of the worker is found, and the package that it belongs to; None when
            there is no file.
        argv: The worker's `sys.argv`.
        parent: The worker's process id.
        max_jobs: The child ends after so many jobs; None for no limit.
        max_memory: The child ends after a job that has left it with more bytes than this; None for no limit.
    """

    handlers: bytes
    main: tuple[str, str] | None
    argv: list[str]
    parent: int
    max_jobs: int | None
    max_memory: int | None


class RunJob(msgspec.Struct, tag=True):
    """Have a child run a job. `run` numbers the jobs of a worker; `payload` is pickled."""

    run: int
    job_id: str
    queue_name: str
    payload: bytes
    retry_count: int
    max_retries: int
    timeout_seconds: int
    lease_id: str

    @classmethod
    def of(cls, run: int, running_job: RunningJob) -> RunJob:
        """Return what a child needs to know of an execution."""
        ctx = running_job.context
        return cls(
            run,
            ctx.job_id,
            ctx.queue_name,
            # JSON has integers of any size, and MessagePack has not.
            pickle.dumps(ctx.payload, pickle.HIGHEST_PROTOCOL),
            ctx.retry_count,
            ctx.max_retries,
            ctx.timeout_seconds,
            ctx.lease_id,
        )


class AbortJob(msgspec.Struct, tag=True):
    """Set the signal of a running job."""

    run: int


class Finish(msgspec.Struct, tag=True):
    """End: no job follows."""


class Ready(msgspec.Struct, tag=True):
    """The child has loaded the handlers."""


class LoadFailed(msgspec.Struct, tag=True):
    """The child cannot load the handlers, and ends.

    Attributes:
        error: Why, in a line.
        traceback: Where.
    """

    error: str
    traceback: str


class JobAborted(msgspec.Struct, tag=True):
    """The child has set the signal of a job.

    Attributes:
        run: Which.
        reenqueue: The `reenqueue_payload` that the handler has set so far, as JSON.
    """

    run: int
    reenqueue: bytes | None


class JobEnded(msgspec.Struct, tag=True):
    """The handler of a job has ended.

    Attributes:
        run: Which.
        kind: How. What follows is empty where it does not belong to the kind.
        result: As JSON.
        fallback: The pickled `fallback` of a `FallbackResult`.
        error: The error text.
        reason: Of `Retry`, `Snooze` and `Discard`.
        due: Of `Retry` and `Snooze`.
        reenqueue: The `reenqueue_payload` that the handler has set, as JSON.
        retire: Whether the child ends now, because of its number of jobs or its memory.
    """

    run: int
    kind: Literal["completed", "failed", "retried", "snoozed", "discarded"]
    result: bytes = b""
    fallback: bytes = b""
    error: str = ""
    reason: str = ""
    due: dt.datetime | None = None
    reenqueue: bytes | None = None
    retire: bool = False

    @classmethod
    def of(cls, run: int, outcome: JobResult) -> JobEnded:
        """Return what is sent of an outcome."""
        match outcome:
            case Success():
                return cls(run, "completed", result=outcome.encoded, fallback=_pickled(outcome.fallback))
            case Failure():
                return cls(run, "failed", error=outcome.error)
            case Discarded():
                return cls(run, "discarded", reason=str(outcome.reason), error=outcome.error)
            case Reenqueue():
                kind: Literal["retried", "snoozed"] = "retried" if outcome.costs_attempt else "snoozed"
                return cls(run, kind, reason=str(outcome.reason), error=outcome.error, due=outcome.due)

    def outcome(self) -> JobResult:
        """Return what was sent."""
        match self.kind:
            case "completed":
                fallback = _unpickled(self.fallback) if self.fallback else None
                return Success(msgspec.json.decode(self.result), self.result, fallback)
            case "failed":
                return Failure(self.error)
            case "discarded":
                return Discarded(self.reason, self.error)
            case _:
                costs = self.kind == "retried"
                return Reenqueue(
                    self.kind, self.due, costs_attempt=costs, reason=self.reason, error=self.error
                )


ToChild = RunJob | AbortJob | Finish
FromChild = Ready | LoadFailed | JobAborted | JobEnded

_encode = msgspec.msgpack.Encoder().encode
decode_to_child: Callable[[bytes], ToChild] = msgspec.msgpack.Decoder(ToChild).decode
decode_from_child: Callable[[bytes | memoryview], FromChild] = msgspec.msgpack.Decoder(FromChild).decode


def frame(message: ToChild | FromChild | Setup) -> bytes:
    """Return the bytes that carry a message.

    Raises:
        OverflowError: It has more than 4 GiB.
    """
    content = pickle.dumps(message) if isinstance(message, Setup) else _encode(message)
    return len(content).to_bytes(_LENGTH, "big") + content


def receive(connection: socket.socket) -> bytes | None:
    """Wait for the next message and return its content; None when there is none any more."""
    head = _receive_exactly(connection, _LENGTH)
    return None if head is None else _receive_exactly(connection, int.from_bytes(head, "big"))


class Unframer:
    """Takes bytes as they come and gives the contents of messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the contents of the messages that are complete with `data`."""
        self._data += data
        found: list[bytes] = []
        start = 0
        while len(self._data) - start >= _LENGTH:
            begin = start + _LENGTH
            end = begin + int.from_bytes(self._data[start:begin], "big")
            if len(self._data) < end:
                break
            found.append(bytes(self._data[begin:end]))
            start = end
        if start:
            del self._data[:start]
        return found


def encode_reenqueue(payload: object, job_id: str) -> bytes | None:
    """Return a `reenqueue_payload` as JSON; None when there is none, or it cannot be sent."""
    if payload is msgspec.UNSET:
        return None
    try:
        return encode(payload, "reenqueue_payload")
    except Exception as error:
        logger.error(
            "job %s: its reenqueue_payload cannot be sent and is left out: %s", job_id, describe_error(error)
        )
        return None


def _pickled(fallback: Callable[[SpooledError], object] | None) -> bytes:
    if fallback is None:
        return b""
    try:
        return pickle.dumps(fallback)
    except Exception as error:
        logger.warning(
            "the fallback of a FallbackResult is left out, for it cannot be pickled (%s); with "
            "isolation='process' it must be a function at the top of a module",
            error,
        )
        return b""


def _unpickled(fallback: bytes) -> Callable[[SpooledError], object]:
    def load_and_call(error: SpooledError) -> object:
        # Not before it is needed, for it imports the user's code.
        function: Callable[[SpooledError], Any] = pickle.loads(fallback)  # noqa: S301 - of the user's own code
        return function(error)

    return load_and_call


def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        try:
            count = connection.recv_into(view[done:])
        except OSError:  # the other end is gone, or a handler has closed this one
            return None
        if not count:
            return None
        done += count
    return bytes(data)
