"""Probes of a worker process, over HTTP: `--health-port`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Probes:
    """Answers `/health/live`, `/health/ready` and `/health/drain` from threads of its own.

    Args:
        host: The address to listen on.
        port: The port; 0 picks a free one.
        state: Says what the workers do: the combined state, whether all are ready, and the active jobs.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, host: str, port: int, state: Callable[[], tuple[str, bool, int]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = _answer(self.path, state)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Probes come every few seconds, and say nothing worth a line."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="spooled-probes", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, state: Callable[[], tuple[str, bool, int]]) -> tuple[int, dict[str, Any]]:
    what, ready, active = state()
    match path.partition("?")[0].rstrip("/"):
        case "/health/live":
            return 200, {"status": "live"}
        case "/health/ready":
            return (200 if ready else 503), {"status": "ready" if ready else "not ready", "worker": what}
        case "/health/drain":
            draining = what == "stopping"
            return (503 if draining else 200), {
                "status": "draining" if draining else "serving",
                "active_jobs": active,
            }
        case _:
            return 404, {"error": "there are /health/live, /health/ready and /health/drain"}
