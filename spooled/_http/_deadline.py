"""A deadline for everything a thread reads and writes while one request is under way.

httpcore's timeouts are per read: a server that sends a byte now and then keeps a call alive forever. In
coroutines `asyncio.timeout` ends that. In threads nothing does, so the streams below httpcore's pool cut each
wait to what is left of the request's time.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_local = threading.local()
_WRITE_SIZE = 65_536


@contextmanager
def deadline_of_this_thread(deadline: float) -> Iterator[None]:
    """Until the block ends, no network wait of this thread lasts past `deadline` (on `time.monotonic`)."""
    before = getattr(_local, "deadline", None)
    _local.deadline = deadline
    try:
        yield
    finally:
        _local.deadline = before


def install_deadlines(transport: httpx.HTTPTransport) -> None:
    """Make the pool of `transport` open connections that know about deadlines.

    httpx has no parameter for httpcore's network backend, so this reaches for the pool it holds.
    """
    pool = transport._pool
    pool._network_backend = _DeadlineBackend(pool._network_backend)


def _left(timeout: float | None, expired: type[Exception]) -> float | None:
    deadline: float | None = getattr(_local, "deadline", None)
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise expired("the request's time is up")
    return left if timeout is None else min(timeout, left)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The stream below waits up to the timeout for every piece the socket takes.
        for start in range(0, len(buffer), _WRITE_SIZE):
            piece = buffer[start : start + _WRITE_SIZE]
            self._stream.write(piece, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        found = self._stream.get_extra_info(info)
        if info == "is_readable" and found:
            return _has_ended(self._stream.get_extra_info("socket"))
        return found


def _has_ended(sock: socket.socket) -> bool:
    """Whether the server has closed the connection.

    httpcore takes an idle connection for closed when there is something to read on it. Between its look at "idle" and
    its look at the socket, another thread may have sent a request: then what is there to read is the answer, and
    the connection would be closed under the thread that waits for it. Only an end is an end.
    """
    try:
        # A duplicate, because the look must not wait, whatever time-out the reading thread has set on its own.
        with socket.socket(sock.family, sock.type, fileno=os.dup(sock.fileno())) as looking:
            looking.setblocking(False)
            return looking.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._backend.connect_tcp(host, port, left, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._backend.connect_unix_socket(path, left, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)
