"""A local HTTP server that webhooks are delivered to."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import HOPELESS


@dataclass
class Received:
    """One request: header names are lower case, the body is as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Keeps every POST and answers it with `status` and `answer`."""

    def __init__(self) -> None:
        self.status = 200
        self.answer = b"thanks"
        self.answer_headers: dict[str, str] = {}
        self.hold: threading.Event | None = None
        """While it is set to an event that is not set, requests wait for it."""
        self.holds = "/"
        """Which paths wait."""
        self.arrived = threading.Semaphore(0)
        self.requests: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Received(self.path, headers, body))
                receiver.arrived.release()
                if receiver.hold is not None and self.path.startswith(receiver.holds):
                    receiver.hold.wait(HOPELESS)
                try:
                    self.send_response(receiver.status)
                    for name, value in receiver.answer_headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(receiver.answer)))
                    self.end_headers()
                    self.wfile.write(receiver.answer)
                except OSError:
                    """The sender has gone away; the test says whether that is right."""

            def log_message(self, *args: object) -> None:
                """Nothing on the terminal."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            # Where the default of five is full, Linux lets the next connection wait a whole second.
            request_queue_size = 256

            def handle_error(self, *args: object) -> None:
                """A handshake that failed is the sender's to tell of."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def only(self) -> Received:
        (request,) = self.requests
        return request

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Name and data of every envelope received, in the order of arrival."""
        return [(request.json["event"], request.json["data"]) for request in self.requests]

    def close(self) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
