"""One HTTP/1.1 connection of a thread's: opened, asked and answered within the time that each request has."""

from __future__ import annotations

import io
import os
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast

from spooled._http._bodies import Body
from spooled._http._messages import Response
from spooled._http._proxy import Proxy

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 65_536


class TunnelRefusedError(Exception):
    """The proxy did not connect us to the server.

    Attributes:
        status: What it answered.
        reason: The words to it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class _Incoming(io.RawIOBase):
    """What a connection receives, as a file. No wait lasts past the connection's deadline.

    Attributes:
        ended: Whether the other side has said that nothing more comes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        connection = self._connection
        if connection is None:
            return 0
        connection.sock.settimeout(connection.left())
        count = connection.sock.recv_into(buffer)
        connection.received += count
        self.ended = count == 0
        return count

    def end(self) -> None:
        """Say that there is no more to come, so that what is buffered already can be looked at."""
        self._connection = None


class _Reader(io.BufferedReader):
    """Stays open: one answer may be preceded by others that only inform (1xx), and each closes its file."""

    def close(self) -> None:
        pass


class Connection:
    """Carries one request after the other. For one thread at a time.

    Args:
        sock: Connected, with TLS where it is wanted.

    Attributes:
        deadline: When the waits of the request under way end, by `time.monotonic`.
        received: Bytes received since the request began.
        sent: Bytes of the request that the operating system has taken.
        idle_since: When the last answer was complete, by `time.monotonic`.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.received = 0
        self.sent = 0
        self.idle_since = 0.0

    def exchange(
        self, method: str, head: bytes, body: bytes | None, deadline: float, limit: int
    ) -> tuple[Response, bool]:
        """Send a request and return the answer, and whether the connection can be used again.

        Args:
            method: Decides, with the status, whether an answer has a body.
            head: The request's first lines, up to and with the empty one.
            body: What follows them.
            deadline: When all of it must be over, by `time.monotonic`.
            limit: The largest body in bytes, before and after decompression.

        Raises:
            TimeoutError: It was not.
            OSError, HTTPException, BodyError: The connection broke, or the answer cannot be read.
            TooLargeError: The answer is larger than `limit`.
        """
        self.deadline, self.received, self.sent = deadline, 0, 0
        refused: OSError | None = None
        try:
            self._send(head, body)
        except TimeoutError:
            raise
        except OSError as error:
            if not self.sent:
                raise
            refused = error  # a server may answer and close before it has read all of a request
        incoming = _Incoming(self)
        reader = _Reader(incoming)
        answer: HTTPResponse | None = None
        try:
            answer = self._begin(reader, incoming, method)
            content = self._read_body(answer, limit)
            incoming.end()
            # Bytes after the end of the answer would be taken for the next one.
            reusable = refused is None and not answer.will_close and answer.isclosed() and not reader.read(1)
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, headers, content), reusable
        except (OSError, HTTPException) as error:
            if refused is None or isinstance(error, TimeoutError):
                raise
            raise refused from error
        finally:
            if answer is not None:
                answer.close()

    def tunnel(self, head: bytes, deadline: float) -> None:
        """Ask a proxy to connect this connection to the server.

        Raises:
            TunnelRefusedError: It did not.
            OSError, HTTPException: The connection broke, or the answer cannot be read.
        """
        self.deadline = deadline
        self._send(head, None)
        incoming = _Incoming(self)
        answer = self._begin(_Reader(incoming), incoming, "CONNECT")
        answer.close()
        if not 200 <= answer.status < 300:
            raise TunnelRefusedError(answer.status, answer.reason)

    def left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: There are none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request's time is up")
        return left

    def is_quiet(self) -> bool:
        """Tell whether there is nothing to read: what comes between two requests is the end, or nothing good."""
        try:
            # A duplicate, because TLS has no way to look without taking; closing it does not close the connection.
            with socket.socket(
                self.sock.family, self.sock.type, fileno=os.dup(self.sock.fileno())
            ) as looking:
                looking.setblocking(False)
                looking.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket, without a word to the other side."""
        self.sock.close()

    def _send(self, head: bytes, body: bytes | None) -> None:
        data = head if body is None else head + body if len(body) <= _PIECE else head
        self._send_all(data)
        if body is not None and len(body) > _PIECE:
            self._send_all(body)

    def _send_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self.sock.settimeout(self.left())
            count = self.sock.send(left[:_PIECE])
            self.sent += count
            left = left[count:]

    def _begin(self, reader: _Reader, incoming: _Incoming, method: str) -> HTTPResponse:
        while True:
            answer = HTTPResponse(cast(socket.socket, _AsSocket(reader)), method=method)
            final = False
            try:
                answer.begin()
                if incoming.ended:  # which http.client takes for the end of the headers
                    raise HTTPException("the connection ended within the headers of the answer")
                final = not 100 <= answer.status < 200 or answer.status == 101
                if final:
                    return answer
            finally:
                if not final:
                    answer.close()  # else it closes what may be closed by then, when it is collected

    def _read_body(self, answer: HTTPResponse, limit: int) -> bytes:
        body = Body(limit, answer.getheader("content-encoding"))
        while chunk := answer.read(_PIECE):
            body.feed(chunk)
        if answer.length:
            raise HTTPException(f"the connection ended {answer.length} bytes before the answer did")
        return body.whole()


class _AsSocket:
    """What `HTTPResponse` asks of a socket."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> _Reader:
        return self._reader


def connect(host: str, port: int, deadline: float) -> Connection:
    """Return a connection to the first of the host's addresses that takes it.

    An address that does not answer is given up early enough for the others to have their turn.

    Raises:
        TimeoutError: None did before `deadline`, by `time.monotonic`.
        OSError: None did, or the name is unknown.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # such as a label of more than 63 characters
        raise OSError(f"{host!r} is no name of a host: {error}") from error
    failed: OSError = OSError(f"{host} has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time to connect is up")
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left / (len(addresses) - index))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return Connection(sock, deadline)
    raise failed


def secure(connection: Connection, context: ssl.SSLContext, name: str, deadline: float) -> None:
    """Begin TLS on the connection.

    Args:
        connection: It speaks TLS afterwards.
        context: The certificates that are trusted.
        name: The name that the certificate must have.
        deadline: When it must have begun, by `time.monotonic`.

    Raises:
        TimeoutError: It had not.
        OSError: The certificate is not trusted, or the other side does not speak TLS.
    """
    connection.deadline = deadline
    connection.sock.settimeout(connection.left())
    connection.sock = context.wrap_socket(connection.sock, server_hostname=name)


def request_head(target: str, method: str, host: str, headers: bytes, length: int | None) -> bytes:
    """Return the first lines of a request.

    Args:
        target: Percent-encoded path and query, or the whole address.
        method: Upper case.
        host: The `Host` header.
        headers: The other header lines, see `header_lines`.
        length: Bytes of the body, None for no body.

    Raises:
        ValueError: A part would break the lines.
    """
    for text in (method, target, host):
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"{text[:80]!r} cannot be sent in the first lines of a request")
    size = "" if length is None else f"content-length: {length}\r\n"
    return f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{size}".encode("ascii") + headers + b"\r\n"


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Return the lines of a mapping of names to values.

    Raises:
        ValueError: A name or value would break the lines.
    """
    lines = []
    for name, value in headers.items():
        line = f"{name}: {value}"
        if not line.isprintable() or not name.isascii():
            raise ValueError(f"the header {name[:80]!r} has characters that cannot be sent")
        lines.append(line + "\r\n")
    return "".join(lines).encode("latin-1")


def tunnel_request(proxy: Proxy, target: str, user_agent: str) -> bytes:
    """Return the request that asks a proxy for a tunnel to `target`, host and port."""
    fields = {"user-agent": user_agent, "proxy-connection": "keep-alive"}
    if proxy.authorization is not None:
        fields["proxy-authorization"] = proxy.authorization
    return request_head(target, "CONNECT", target, header_lines(fields), None)
