"""uvicorn's WebSocket protocol with what a server for many clients needs around it."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

MAX_MESSAGE = 16 * 1024
"""Bytes of one message from a client. A command has far fewer."""

MAX_FRAGMENTS = 64
"""Frames of one message. Empty ones cost their sender next to nothing, so their number is bounded too."""

# uvicorn and websockets write URLs and headers to their logs, and there may be a token in them.
_logger = logging.getLogger("spooled.server.websocket")
_logger.setLevel(logging.WARNING)


class SpooledWebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection after its upgrade."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _logger
        self.conn.debug = False
        self._fragments = 0

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn would complain that the application left the handshake open.
            self.handshake_complete = True

    def handle_text(self, event: Frame) -> None:
        self._fragments = 0
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._fragments = 0
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._fragments += 1
        if self._fragments < MAX_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
