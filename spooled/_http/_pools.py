"""Several small connection pools in place of a large one.

httpcore looks at every connection of a pool, and asks the operating system about the idle ones, before and after
each request. With 50 requests at a time in one pool that costs five times the request itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_SIZE = 5


class Pool:
    """A pool and what it is busy with.

    Attributes:
        transport: Where requests go.
        limit: How many it sends at a time; more have to wait in it.
        busy: How many there are now.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, limit: int) -> None:
        self.transport = transport
        self.limit = limit
        self.busy = 0


class Pools:
    """Pools that together open at most `max_connections`, each made when it is needed.

    Args:
        make: Makes a transport for so many connections.
        max_connections: All of them together.
    """

    def __init__(self, make: Callable[[int], httpx.AsyncBaseTransport], max_connections: int) -> None:
        self._make = make
        self._left = max_connections
        self._pools: list[Pool] = []

    def choose(self) -> Pool:
        """Return the first pool with a connection to spare, so that a few requests share a few warm connections."""
        for pool in self._pools:
            if pool.busy < pool.limit:
                return pool
        if self._left:
            limit = min(_SIZE, self._left)
            self._left -= limit
            pool = Pool(self._make(limit), limit)
            self._pools.append(pool)
            return pool
        return min(self._pools, key=lambda pool: pool.busy / pool.limit)

    async def aclose(self) -> None:
        """Close all of them."""
        for pool in self._pools:
            await pool.transport.aclose()
