"""A proxy that connects its clients to servers (CONNECT), when they have the credentials."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from .raw_server import Connection, RawServer


class ConnectProxy:
    """Counts and connects.

    Args:
        credentials: The `Proxy-Authorization` that it wants; None for none.

    Attributes:
        targets: The `host:port` that clients were connected to.
        heads: The first lines of each request.
    """

    def __init__(self, credentials: str | None = None) -> None:
        self.targets: list[str] = []
        self.heads: list[bytes] = []
        self._credentials = credentials

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve, and give the address as `host:port`."""
        with RawServer(self._handle) as server:
            yield server.url.removeprefix("http://")

    def _handle(self, connection: Connection) -> None:
        head = connection.read_request()
        if head is None:
            return
        self.heads.append(head)
        method, target, _ = head.decode().split(" ", 2)
        if method != "CONNECT":
            connection.send(b"HTTP/1.1 405 Only CONNECT\r\ncontent-length: 0\r\n\r\n")
            return
        if (
            self._credentials is not None
            and f"proxy-authorization: {self._credentials}".lower() not in head.decode().lower()
        ):
            connection.send(
                b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 5\r\n\r\nno...",
            )
            return
        self.targets.append(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_carry, args=(server, connection.sock))
            back.start()
            _carry(connection.sock, server)
            back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
