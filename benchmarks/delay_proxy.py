"""A proxy that makes a server far away: everything takes half of the round trip there, and half of it back.

`python -m benchmarks.delay_proxy URL SECONDS` prints its own URL as one JSON line and serves until it is terminated. It
is a process of its own, so that what it costs is not the worker's. It delays and never limits: what was sent at once
arrives at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit


class Side(asyncio.Protocol):
    """One end of a connection; passes on to its peer what comes in, `delay` seconds later and in order."""

    def __init__(self, delay: float) -> None:
        self.peer: Side | None = None
        self.transport: Any = None  # uvloop's is no asyncio.Transport by class
        self._delay = delay
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def join(self, peer: Side) -> None:
        """Say where to pass on to; what has come before goes first."""
        self.peer, peer.peer = peer, self
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early.append(data)
        else:
            asyncio.get_running_loop().call_later(self._delay, self.peer.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            asyncio.get_running_loop().call_later(self._delay, self.peer.transport.close)


async def serve(target: str, round_trip: float) -> None:
    """Forward connections to `target` for ever, with `round_trip` seconds for a request and its answer."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(target)
    joining: set[asyncio.Task[None]] = set()

    class Front(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(self._connect())
            joining.add(task)
            task.add_done_callback(joining.discard)

        async def _connect(self) -> None:
            try:
                _, back = await loop.create_connection(
                    lambda: Side(round_trip / 2), parts.hostname, parts.port
                )
            except OSError:
                self.transport.abort()
            else:
                self.join(back)

    server = await loop.create_server(lambda: Front(round_trip / 2), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    target, round_trip = sys.argv[1], float(sys.argv[2])
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(target, round_trip))
    else:
        uvloop.run(serve(target, round_trip))


if __name__ == "__main__":
    main()
