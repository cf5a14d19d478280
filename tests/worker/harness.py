"""Either worker, driven the same way from a test's thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, get_args

from spooled import AsyncSpooledClient, SpooledClient
from spooled.worker import AsyncSpooledWorker, EventName, SpooledWorker
from tests.waiting import HOPELESS, wait_until

KINDS = ("threads", "coroutines")
QUICK: dict[str, Any] = {"poll_interval": 0.05}


class Running:
    """A worker that runs in the background, and everything that it told.

    `handler` is a plain function. Under coroutines it is called inside a coroutine, and what it returns is awaited
    when it can be: so a plain blocking handler blocks the user's loop there, which must not matter to leases.
    """

    def __init__(
        self,
        kind: str,
        client: SpooledClient,
        handler: Callable[[Any], Any],
        queue_name: str = "q",
        **options: Any,
    ) -> None:
        self.kind = kind
        self.events: list[tuple[str, Any]] = []
        self.error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        options = {**QUICK, **options}
        self.worker: SpooledWorker | AsyncSpooledWorker
        if kind == "threads":
            self.worker = SpooledWorker(client, queue_name, **options)
            self.worker.process(handler)
        else:

            async def coroutine(ctx: Any) -> Any:
                value = handler(ctx)
                return await value if inspect.isawaitable(value) else value

            # A client of its own, because an asynchronous one belongs to the loop that it is used on.
            self._client = AsyncSpooledClient(config=client.config)
            self.worker = AsyncSpooledWorker(self._client, queue_name, **options)
            self.worker.process(coroutine)
        for name in get_args(EventName):
            self.worker.on(name, lambda event, name=name: self.events.append((name, event)))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def names(self, job_id: str | None = None) -> list[str]:
        return [
            name for name, event in self.events if job_id is None or getattr(event, "job_id", None) == job_id
        ]

    def of(self, name: str) -> list[Any]:
        return [event for told, event in self.events if told == name]

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: "started" in self.names() or self.error, "the worker has started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(timeout=0 if kind else None)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self, timeout: float | None = None) -> None:
        self.request_stop(timeout)
        self.join()

    def request_stop(self, timeout: float | None = None) -> None:
        if isinstance(self.worker, SpooledWorker):
            threading.Thread(target=self.worker.stop, args=(timeout,), daemon=True).start()
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.worker.stop, timeout)

    def join(self) -> None:
        self._thread.join(HOPELESS)
        assert not self._thread.is_alive(), "the worker did not stop"

    def _run(self) -> None:
        try:
            if isinstance(self.worker, SpooledWorker):
                self._ready.set()
                self.worker.start()
            else:
                asyncio.run(self._main())
        except BaseException as error:
            self.error = error

    async def _main(self) -> None:
        assert isinstance(self.worker, AsyncSpooledWorker)
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        try:
            await self.worker.start()
        finally:
            await self._client.close()
