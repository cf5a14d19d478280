"""A TCP server that misbehaves exactly as a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Connection:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, server: RawServer) -> None:
        self.sock = sock
        self._server = server
        self._buffer = b""

    def read_request(self) -> bytes | None:
        """The next request, body included; None when the client has gone."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self._buffer = rest
        while len(self._buffer) < length:
            if not self._receive():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        request = head + b"\r\n\r\n" + body
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def trickle(self, data: bytes) -> None:
        """Send `data` again and again, a byte at a time, until the client or the server gives up."""
        while True:
            for byte in data:
                if self._server.stopping.wait(0.02):
                    return
                self.send(bytes([byte]))

    def hang(self) -> None:
        """Keep the connection open and say nothing."""
        self._server.stopping.wait()

    def _receive(self) -> bool:
        data = self.sock.recv(65_536)
        self._buffer += data
        return bool(data)


class RawServer:
    """Runs `handle` in a thread for every connection, and closes the connection after it.

    Args:
        handle: What to do with a connection.
        tls: Makes it an HTTPS server.
        port: Where to listen. Default: a port that is free.

    Attributes:
        requests: What was received, in order.
        connections: How many connections were accepted.
        stopping: Set when the server stops.
    """

    def __init__(
        self, handle: Callable[[Connection], object], *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._handle = handle
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for sock in (self._listener, *self._open):
            # Closing alone does not wake a thread that waits in accept() or recv().
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            if self._tls is None:
                self._handle(Connection(sock, self))
                return
            with self._tls.wrap_socket(sock, server_side=True) as secure:
                self._open.append(secure)
                self._handle(Connection(secure, self))


def answering(response: bytes = OK) -> Callable[[Connection], None]:
    """Answer every request with `response`."""

    def handle(connection: Connection) -> None:
        while connection.read_request() is not None:
            connection.send(response)

    return handle
