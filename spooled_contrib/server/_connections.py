"""uvicorn's HTTP protocol with bounds: how long and how large a request may be, and what may become a WebSocket.

uvicorn waits for the rest of a request forever and reads as much of it as comes. Here every connection knows when its
present request began and how much of it has arrived, and the listener looks at all of them once a second, which costs
a request less than a timer of its own would.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from spooled_contrib.server._api.bodies import MAX_BODY

IDLE_SECONDS = 75.0
"""How long a connection may stay open before its first request. uvicorn counts the same between two requests."""

HEAD_SECONDS = 10.0
"""From the first byte of a request to the last of its headers."""

REQUEST_SECONDS = 40.0
"""From the first byte of a request to its last. Longer than handlers wait for a body, so that they can say so."""

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers."""

MAX_HEADERS = 200

MAX_REQUEST = MAX_HEAD + 2 * MAX_BODY
"""Bytes of a whole request as it is sent. What is larger than `MAX_BODY` is refused long before, but still read up to
here, because a client that is cut off while it sends often does not read why."""

MAX_PIPELINE = 100
"""Requests of one connection that may wait for the answers to those before them. Each is kept whole meanwhile."""

MAX_HANDSHAKE_LINE = 8000
MAX_HANDSHAKE_HEADERS = 100

SOCKET_PATH = b"/api/v1/ws"


_logger = logging.getLogger("spooled.server.http")
_logger.setLevel(logging.ERROR)


class SpooledHttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn would write to the log of the embedding program: URLs with tokens in them, and a line for whatever a
        # stranger sends that is no HTTP. What goes wrong in the application is still logged.
        self.access_log = False
        self.logger = _logger
        self._began: float = self.loop.time()
        self._arrived = 0  # bytes of the present request
        self._begun = 0  # how many requests there were
        self._phase: str = "new"  # then "head", "body", "between"
        self._refusal: tuple[HTTPStatus, str, str] | None = None

    def data_received(self, data: bytes) -> None:
        begun, fresh = self._begun, self._phase in ("new", "between")
        super().data_received(data)
        if self._begun == begun:
            self._arrived += len(data)
        elif fresh and self._begun == begun + 1:
            self._arrived = len(data)
        # Else the data ended one request and began others; how much of it is the last one's is too little to matter.
        if self._arrived > MAX_HEAD and not self.transport.is_closing():
            if self._phase in ("new", "head"):
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "ERROR",
                    f"The request line and headers have more than {MAX_HEAD} bytes",
                )
            elif self._arrived > MAX_REQUEST and self._phase == "body":
                self._refuse(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "PAYLOAD_TOO_LARGE",
                    f"The request has more than {MAX_REQUEST} bytes",
                )

    def on_message_begin(self) -> None:
        self._began = self.loop.time()
        self._arrived = 0
        self._begun += 1
        self._phase = "head"
        if len(self.pipeline) >= MAX_PIPELINE:
            # The parser turns it into its own error, and that ends the connection.
            raise ValueError("too many pipelined requests")
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == "body":
            return  # a trailer; it must not pass for a header that was sent in time
        if len(self.headers) >= MAX_HEADERS:
            self._refusal = (
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "ERROR",
                f"The request has more than {MAX_HEADERS} headers",
            )
            raise ValueError(
                "too many headers"
            )  # the parser turns it into its own error, and that into an answer
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._phase = "body"

    def on_message_complete(self) -> None:
        self._phase = "between"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._phase == "between":
            self._began = self.loop.time()
        super().on_response_complete()

    def end_if_overdue(self, now: float) -> None:
        """Called now and then: end a connection whose request does not get finished."""
        # While reading is paused it is the server that lets the client wait.
        if self.flow.read_paused or self.transport.is_closing():
            return
        waited = now - self._began
        if self._phase == "new" or (self._phase == "between" and self.cycle.response_complete):
            # uvicorn has a timer for this, but it stops at the first byte, which need not be one of a request.
            if waited > IDLE_SECONDS:
                self.transport.close()
        elif self._phase != "between" and waited > (
            HEAD_SECONDS if self._phase == "head" else REQUEST_SECONDS
        ):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "The request did not arrive in time")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - overrides
        status, code, message = self._refusal or (
            HTTPStatus.BAD_REQUEST,
            "BAD_REQUEST",
            "This is not a valid HTTP request",
        )
        self._refuse(status, code, message)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        """Answer what the application will never see, or never see the end of, and close."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            # After this request's own answer there is no place for another.
            may_answer = self._phase != "body"
        else:
            # Nor in the middle of one, or before those that are owed.
            may_answer = not cycle.response_started and not self.pipeline
            cycle.disconnected = True
            cycle.message_event.set()
        if may_answer:
            body = json.dumps({"code": code, "message": message}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Only a handshake that will succeed leaves HTTP; the application answers every other one like a request."""
        if self.url.partition(b"?")[0] != SOCKET_PATH or self.scope["method"] != "GET":
            return False
        if self.parser.get_http_version() != "1.1" or len(self.headers) > MAX_HANDSHAKE_HEADERS:
            return False
        if max(len(self.url), *(len(name) + len(value) for name, value in self.headers)) > MAX_HANDSHAKE_LINE:
            return False
        return (
            self._get_upgrade() == b"websocket"
            and [value for name, value in self.headers if name == b"sec-websocket-version"] == [b"13"]
            and _is_nonce([value for name, value in self.headers if name == b"sec-websocket-key"])
        )

    def _unsupported_upgrade_warning(self) -> None:
        # The parser takes everything after such a request for another protocol, so there will be no second one.
        if self.cycle is not None:
            self.cycle.keep_alive = False


def _is_nonce(values: list[bytes]) -> bool:
    if len(values) != 1:
        return False
    try:
        return len(base64.b64decode(values[0], validate=True)) == 16
    except binascii.Error:
        return False


def overdue(connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
    """End the connections whose requests do not get finished."""
    now = loop.time()
    for connection in list(connections):
        if isinstance(connection, SpooledHttpProtocol):
            connection.end_if_overdue(now)
