"""A thread with an event loop, and the client that lives on it. For callers in other threads, or greenlets."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from spooled import AsyncSpooledClient, SpooledError, errors
from spooled.worker import worker_client
from spooled_contrib.kombu import _threads
from spooled_contrib.kombu._threads import Outcome
from spooled_contrib.kombu._url import Address, Options

logger = logging.getLogger("spooled.kombu")

T = TypeVar("T")

SHORTEST_WAIT = 0.1
"""Seconds to wait at least when the server says that it is asked too often; it may say 0."""

JOIN_TIMEOUT = 10.0
"""Seconds to wait for the end of the thread."""


class ClientThread:
    """Run coroutines for other threads.

    Args:
        address: The server, the key and the options.

    Attributes:
        options: Of the URL.
        config: Of the client.

    Raises:
        SpooledError: The client cannot be made.
    """

    def __init__(self, address: Address) -> None:
        self.options: Options = address.options
        self.config = address.config()
        self._loop = _threads.new_loop()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        started: Outcome[AsyncSpooledClient] = _threads.new_outcome()
        self._thread = _threads.new_thread(lambda: self._run(started), "spooled-kombu")
        self._thread.start()
        self.client = started.result()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def time(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def call(
        self, work: Callable[[AsyncSpooledClient], Coroutine[Any, Any, T]], timeout: float | None = None
    ) -> T:
        """Do something with the client, and wait for it.

        When the server is asked too often and says how long to wait, it is asked again then.

        Args:
            work: Done again from its beginning in that case.
            timeout: Longest time in seconds for that. Default: the option of that name.

        Raises:
            SpooledError: As the client.
        """

        async def patiently() -> T:
            give_up_at = self._loop.time() + (self.options.timeout if timeout is None else timeout)
            while True:
                try:
                    return await work(self.client)
                except errors.RateLimitError as error:
                    # A quota has no such time: waiting would not help.
                    pause = error.server_wait
                    if pause is None or self._loop.time() + pause > give_up_at:
                        raise
                    await asyncio.sleep(max(pause, SHORTEST_WAIT))

        return _threads.call(self._loop, patiently())

    def begin(self, work: Callable[[AsyncSpooledClient], Coroutine[Any, Any, object]]) -> None:
        """Do something with the client in the background; an error of the server's is logged for debugging only."""

        async def run() -> None:
            try:
                await work(self.client)
            except SpooledError as error:
                logger.debug("not done: %s", error)

        self.start(run)

    def start(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine in the background, from any thread, until it or the thread ends."""

        def start() -> None:
            task = self._loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.soon(start)

    def soon(self, callback: Callable[[], object]) -> None:
        """Call something on the loop."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            logger.debug("the connection is closed already")

    def close(self) -> None:
        """End the thread, and wait for its end unless it is the caller."""
        self.abandon()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_TIMEOUT)

    def abandon(self) -> None:
        """End the thread without waiting: a process that has been patched since cannot wait for it any more."""
        self.soon(self._stopping.set)

    def _run(self, started: Outcome[AsyncSpooledClient]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main(started))
        finally:
            self._loop.close()

    async def _main(self, started: Outcome[AsyncSpooledClient]) -> None:
        options = self.options
        try:
            client = worker_client(self.config, connections=options.connections, transport=options.transport)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(client)
        await self._stopping.wait()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
