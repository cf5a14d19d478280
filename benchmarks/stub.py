"""A bare in-memory stand-in for the API: what a worker costs when the server costs next to nothing.

It knows only what a worker asks for, checks nothing, and stores nothing. Streams of `GET /api/v1/events` are told
about each new job. `python -m benchmarks.stub` prints its URL as one JSON line and serves until it is terminated; with
`--batches` it offers acks in batches, with `--tls FILE` (certificate and key) it speaks HTTPS. `POST /api/v1/stub`
answers how many requests of each kind came since it was asked last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec


class Stub:
    """The queues, and how often each kind of request came."""

    def __init__(self, *, batches: bool = False) -> None:
        self._batches = batches
        self.queues: dict[str, deque[dict[str, Any]]] = {}
        self.completed = 0
        self.requests: dict[str, int] = {}
        self.listeners: dict[Callable[[bytes], None], str] = {}
        self._next = 0

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        parts = path.split("?")[0].split("/")[3:]
        kind = "/".join((*parts[:1], *parts[-1:]))
        self.requests[kind] = self.requests.get(kind, 0) + 1
        sent: Any = msgspec.json.decode(body) if body else None
        match parts:
            case ["jobs"]:
                [made] = self._fill({"queue_name": sent["queue_name"], "jobs": [sent]})
                return 201, msgspec.json.encode({"id": made["job_id"], "created": True})
            case ["jobs", "claim"]:
                return 200, self._claim(sent)
            case ["jobs", "bulk"]:
                return 200, msgspec.json.encode({"succeeded": self._fill(sent), "failed": []})
            case ["jobs", "settle"] if self._batches:
                return 200, self._settle(sent)
            case ["jobs", _, "complete"]:
                self.completed += 1
                return 200, b'{"success":true}'
            case ["jobs", _, "heartbeat" | "fail"]:
                return 200, b'{"success":true}'
            case ["workers", "register"]:
                answer = {
                    "id": sent.get("worker_id") or "stub-worker",
                    "queue_name": "",
                    "lease_duration_secs": 30,
                }
                offer = {"settle": {"max": 100}} if self._batches else {}
                return 201, msgspec.json.encode({**answer, "heartbeat_interval_secs": 10, **offer})
            case ["workers", _, _]:
                return 200, b""
            case ["stub"]:
                counted = {"completed": self.completed, "requests": self.requests}
                self.completed, self.requests = 0, {}
                return 200, msgspec.json.encode(counted)
        return 404, msgspec.json.encode({"code": "NOT_FOUND", "message": f"the stub has no {method} {path}"})

    def _claim(self, sent: Any) -> bytes:
        return msgspec.json.encode({"jobs": self._take(sent)})

    def _take(self, sent: Any) -> list[dict[str, Any]]:
        queue = self.queues.get(sent["queue_name"])
        return [queue.popleft() for _ in range(min(sent["limit"], len(queue)))] if queue else []

    def _settle(self, sent: Any) -> bytes:
        self.completed += len(sent["completes"])
        accepted: dict[str, Any] = {
            kind: [{"status": 200}] * len(sent[kind]) for kind in ("completes", "fails")
        }
        if "claim" in sent:
            accepted["claim"] = {"status": 200, "jobs": self._take(sent["claim"])}
        return msgspec.json.encode(accepted)

    def _fill(self, sent: Any) -> list[dict[str, Any]]:
        queue = self.queues.setdefault(sent["queue_name"], deque())
        made = []
        for index, job in enumerate(sent["jobs"]):
            self._next += 1
            job_id = f"job-{self._next}"
            queue.append(
                {
                    "id": job_id,
                    "queue_name": sent["queue_name"],
                    "payload": job["payload"],
                    "retry_count": 0,
                    "max_retries": 3,
                    "timeout_seconds": 300,
                    "lease_id": f"lease-{job_id}",
                    "lease_expires_at": "2100-01-01T00:00:00Z",
                }
            )
            made.append({"index": index, "job_id": job_id, "created": True})
            self._announce(job_id, sent["queue_name"])
        return made

    def _announce(self, job_id: str, queue_name: str) -> None:
        if not self.listeners:
            return
        data = {
            "job_id": job_id,
            "queue_name": queue_name,
            "priority": 0,
            "timestamp": "2026-01-01T00:00:00Z",
        }
        event = msgspec.json.encode({"type": "JobCreated", "data": data})
        for send, wanted in tuple(self.listeners.items()):
            if wanted in ("", queue_name):
                send(b"event: job.created\ndata: %b\n\n" % event)


class Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: requests with a Content-Length, one after the other, on a connection kept open."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is no asyncio.Transport by class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1").split("\r\n")
            length = 0
            for line in head[1:]:
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            method, path, _ = head[0].split(" ")
            if method == "GET" and path.startswith("/api/v1/events"):
                self._listen(path)
                continue
            status, answer = self._stub.handle(method, path, body)
            self._transport.write(
                b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(answer), answer)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stub.listeners.pop(self._send_chunk, None)

    def _listen(self, path: str) -> None:
        self._stub.requests["events"] = self._stub.requests.get("events", 0) + 1
        [queue] = parse_qs(path.partition("?")[2]).get("queue", [""])
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._send_chunk(b": connected\n\n")
        self._stub.listeners[self._send_chunk] = queue
        self._break_silence()

    def _break_silence(self) -> None:
        # A listener takes a stream that is silent for long as dead, and opens another.
        if self._send_chunk in self._stub.listeners:
            self._send_chunk(b": ping\n\n")
            asyncio.get_running_loop().call_later(15, self._break_silence)

    def _send_chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def serve(batches: bool, tls: str | None) -> None:
    stub = Stub(batches=batches)
    loop = asyncio.get_running_loop()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    scheme = "http" if context is None else "https"
    sys.stdout.write(json.dumps({"url": f"{scheme}://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub")
    parser.add_argument("--batches", action="store_true")
    parser.add_argument("--tls", metavar="FILE")
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(options.batches, options.tls))
    else:
        uvloop.run(serve(options.batches, options.tls))


if __name__ == "__main__":
    main()
