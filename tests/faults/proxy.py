"""A proxy that breaks connections exactly as a test says, while they are in use.

It stands between a worker and a server. It reads HTTP just far enough to know which request is on the wire, so that a
test can break one kind of request and leave the others alone; everything that it does not break passes as it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.waiting import HOPELESS

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_JOB = re.compile(r"/api/v1/jobs/[^/]+/(complete|fail|heartbeat)$")
_WORKER = re.compile(r"/api/v1/workers/[^/]+/(heartbeat|deregister)$")


@dataclass(frozen=True, slots=True)
class Request:
    """What a predicate is told: the path in one word, the body, and which request on which connection, from 1."""

    kind: str
    body: bytes
    connection: int
    number: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Answer late. The server gets the request at once."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The server gets the request; of its answer only so many bytes pass, then the connection is closed."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Truncate:
    """The server gets the request; its answer arrives as correct HTTP whose body ends after so many bytes."""

    body: int


@dataclass(frozen=True, slots=True)
class Hang:
    """Half-open: the connection stays and nothing is ever answered."""

    forward: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST), with the request delivered before or not."""

    forward: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The proxy answers in place of the server, which never sees the request."""

    status: int
    headers: str = ""
    body: str = "{}"


Fault = Delay | Cut | Truncate | Hang | Reset | Answer
Predicate = Callable[[Request], bool]


@dataclass(eq=False)
class Rule:
    """A fault in force. `hits` counts the requests that it struck."""

    matches: Predicate
    fault: Fault
    times: int | None
    hits: int = field(default=0)


class FaultProxy:
    """Forwards to `target` from a loop in a thread of its own. All methods may be called from any thread.

    Attributes:
        seen: Requests that arrived here, by kind: `claim`, `complete`, `fail`, `heartbeat`, `register`,
            `worker-heartbeat`, `deregister`, `events`, or `other`.
    """

    def __init__(self, target: str) -> None:
        self.seen: Counter[str] = Counter()
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rules: list[Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._port = 0
        self._connections = 0
        self._listener: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def on(self, where: str | Predicate, fault: Fault, times: int | None = None) -> Rule:
        """Break requests of a kind, or those that a predicate picks: the next `times`, or all until `off`."""
        matches = where if callable(where) else lambda request: request.kind == where
        rule = Rule(matches, fault, times)
        self._rules = [*self._rules, rule]
        return rule

    def off(self, *rules: Rule) -> None:
        """Let pass again. What hangs already stays hanging, as a dead connection would."""
        self._rules = [rule for rule in self._rules if rule not in rules]

    def refuse(self) -> None:
        """As if the server's process were gone: no listener, and every connection reset."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(HOPELESS)

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(HOPELESS)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accepted, "127.0.0.1", self._port, reuse_address=True, limit=2**20
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        # What was accepted just before takes some turns of the loop to get here; transports close a turn later.
        for _ in range(5):
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        task = self._loop.create_task(self._serve(reader, writer, self._connections))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection(*self._target, limit=2**20)
            number = 0
            while True:
                message = await _read(reader)
                number += 1
                head, _, body = message.partition(b"\r\n\r\n")
                request = Request(_kind(head.split(b" ", 2)[1].decode(), body), body, connection, number)
                self.seen[request.kind] += 1
                fault = self._strike(request)
                if isinstance(fault, Answer):
                    body = fault.body.encode()
                    head = (
                        f"HTTP/1.1 {fault.status} Fault\r\n{fault.headers}content-length: {len(body)}\r\n\r\n"
                    )
                    writer.write(head.encode() + body)
                    continue
                if request.kind == "events" and fault is None:
                    server.write(message)
                    await _stream(answers, writer)
                    return
                if not isinstance(fault, Hang | Reset) or fault.forward:
                    server.write(message)
                    answer = await _read(answers)
                    if not await self._pass_on(answer, fault, writer):
                        return
                if isinstance(fault, Hang):
                    await self._loop.create_future()
                if isinstance(fault, Reset):
                    _abort(writer)
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone; so does the other, below
        except asyncio.CancelledError:
            _abort(writer)
        finally:
            for side in (writer, server):
                if side is not None:
                    side.close()

    async def _pass_on(self, answer: bytes, fault: Fault | None, writer: asyncio.StreamWriter) -> bool:
        """Send what the fault leaves of an answer. False when the connection ends with it."""
        if isinstance(fault, Hang | Reset):
            return True
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        if isinstance(fault, Truncate):
            head, _, body = answer.partition(b"\r\n\r\n")
            body = body[: fault.body]
            answer = _LENGTH.sub(b"\r\ncontent-length: %d" % len(body), head) + b"\r\n\r\n" + body
        if isinstance(fault, Cut):
            answer = answer[: fault.after]
        writer.write(answer)
        await writer.drain()
        return not isinstance(fault, Cut)

    def _strike(self, request: Request) -> Fault | None:
        for rule in self._rules:
            if (rule.times is None or rule.hits < rule.times) and rule.matches(request):
                rule.hits += 1
                return rule.fault
        return None


async def _read(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message; everything on this API has a length, or no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


async def _stream(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on an answer that has no end, as it comes."""
    while data := await source.read(2**16):
        sink.write(data)
        await sink.drain()


def _kind(path: str, body: bytes) -> str:
    if path == "/api/v1/jobs/settle":
        # Acks in batches, named by what is in them; completes come first.
        return next((kind for kind in ("complete", "fail") if f'"{kind}s":[{{'.encode() in body), "claim")
    if path.partition("?")[0] == "/api/v1/events":
        return "events"
    if path in ("/api/v1/jobs/claim", "/api/v1/workers/register"):
        return path.rpartition("/")[2]
    if job := _JOB.match(path):
        return job[1]
    if worker := _WORKER.match(path):
        return "deregister" if worker[1] == "deregister" else "worker-heartbeat"
    return "other"


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: what was not sent yet is dropped, and the other side gets an error and not an end."""
    sock: Any = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
