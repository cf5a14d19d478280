"""The leanest HTTP client that will do: the generator shares the machine with what it measures."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, Self, cast
from urllib.parse import urlsplit

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)

encode = msgspec.json.Encoder().encode
decode = msgspec.json.decode

Answer = tuple[int, bytes]


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._wanted = -1
        self._waiter: asyncio.Future[Answer] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._wanted < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._received, 0, end)
            self._body_at = end + 4
            self._wanted = self._body_at + (int(length[1]) if length else 0)
        if len(self._received) >= self._wanted:
            status = int(self._received[9:12])
            body = bytes(self._received[self._body_at : self._wanted])
            del self._received[: self._wanted]
            self._wanted = -1
            waiter, self._waiter = self._waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the server closed the connection"))


class Wire:
    """A pool of connections to one server. A call waits when all of them are busy; that is part of its latency."""

    def __init__(self, url: str, key: str, connections: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port)
        self._tail = f"\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n".encode()
        self._count = connections
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[_Connection]] = deque()

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            self._idle.append(await self._connect())
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.transport.close()

    async def _connect(self) -> _Connection:
        host, port = self._address
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
        return connection

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Status and body.

        Raises:
            ConnectionError: the connection ended before the answer did.
        """
        head = f"{method} {path} HTTP/1.1".encode() + self._tail
        if body is None:
            data = head + b"\r\n"
        else:
            sent = encode(body)
            data = head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent
        if self._idle:
            connection = self._idle.pop()
        else:
            turn: asyncio.Future[_Connection] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            connection = await turn
        if connection.transport.is_closing():  # the server ends what was idle for long
            connection = await self._connect()
        try:
            answer = await connection.request(data)
        except ConnectionError:
            connection.transport.close()
            connection = await self._connect()
            self._give_back(connection)
            raise
        self._give_back(connection)
        return answer

    def _give_back(self, connection: _Connection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._idle.append(connection)
