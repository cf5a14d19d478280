"""Events over HTTP (server-sent events). Contract: realtime §4."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from spooled._http._messages import Request
from spooled._http._paths import API, segment
from spooled._http._sse import EventParser
from spooled.config import ClientConfig
from spooled.errors import NotFoundError, SpooledError, create_error_from_response
from spooled.errors import TimeoutError as SpooledTimeoutError
from spooled.realtime._access import Access
from spooled.realtime._filters import SubscriptionFilter
from spooled.realtime.events import JobStatusChanged, RealtimeEvent, read_event

if TYPE_CHECKING:
    from spooled._http._streams import Stream, StreamTransport
    from spooled._http._user_transports import AsyncUserTransport

SILENCE = 60.0
"""Seconds without a byte after which a stream is dead. The server breaks its own silence every 15 s."""

_OVER = frozenset({"completed", "failed", "deadletter", "cancelled"})
_LARGEST = 8 * 1024 * 1024
_AT_ONCE = 5.0


class SseSource:
    """Opens streams.

    Args:
        config: Address and timeouts.
        access: Credentials.
        transport: A transport of the user's, for this event loop. Default: the source's own.
        clock: Seconds, for how long a stream lasted.
    """

    resets_backoff_on_data = True

    def __init__(
        self,
        config: ClientConfig,
        access: Access,
        *,
        transport: AsyncUserTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._access = access
        self._user_transport = transport
        self._transport: StreamTransport | None = None
        self._clock = clock

    @contextlib.asynccontextmanager
    async def open(self, wanted: SubscriptionFilter) -> AsyncIterator[SseConnection]:
        if self._transport is None:
            from spooled._http._streams import StreamTransport  # slow to import

            self._transport = StreamTransport(self._config, self._user_transport)
        await self._access.refresh_if_due()
        path, query = where(wanted)
        headers = {
            **self._access.headers(),
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # a compressor may hold events back
            "cache-control": "no-store",
        }
        request = Request("GET", path, query, None, headers, SILENCE)
        seconds = self._config.timeout
        try:
            async with asyncio.timeout(seconds) as limit, self._transport.open(request) as stream:
                await self._check(stream, path)
                async with contextlib.aclosing(stream.chunks()) as chunks:
                    # The first bytes say that the server has subscribed us; its headers do not.
                    first = await anext(chunks, b"")
                    limit.reschedule(None)
                    yield SseConnection(chunks, first, wanted, self._clock)
        except TimeoutError as error:
            if isinstance(error, SpooledError):
                raise
            raise SpooledTimeoutError(
                f"{path}: the stream did not begin within {seconds:g} s", timeout_seconds=seconds
            ) from error

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _check(self, stream: Stream, path: str) -> None:
        if stream.status != 200:
            raise await self._refusal(stream)
        kind = stream.headers.get("content-type", "")
        if not kind.lower().startswith("text/event-stream"):
            raise SpooledError(
                f"{path} answers with {kind or 'something of no type'} in place of an event stream",
                stream.status,
                "invalid_response",
                hint="Check that base_url names a Spooled server and not a page in front of it.",
            )

    async def _refusal(self, stream: Stream) -> SpooledError:
        body = bytearray()
        async with contextlib.aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > 65_536:
                    break
        return create_error_from_response(
            stream.status, self._access.hide(bytes(body)), headers=stream.headers
        )


class SseConnection:
    """One stream."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        first: bytes,
        wanted: SubscriptionFilter,
        clock: Callable[[], float],
    ) -> None:
        self._chunks = chunks
        self._first = first
        self._wanted = wanted
        self._clock = clock
        self._opened_at = clock()
        self.finished = False

    async def events(self) -> AsyncGenerator[RealtimeEvent]:
        parser = EventParser(_LARGEST)
        heard = False
        chunk = self._first
        while chunk:
            for message in parser.feed(chunk):
                event = read_event(message.data)
                if event is not None:
                    heard = True
                    self._note(event)
                    yield event
            chunk = await anext(self._chunks, b"")
        job_id = self._wanted.job_id
        if job_id is not None and not heard and self._clock() - self._opened_at < _AT_ONCE:
            # What the server does about a job that it does not know; HTTP's status is 200 then, too.
            raise NotFoundError(f"there is no job {job_id}, or the key may not see it", 404)

    async def change(self, wanted: SubscriptionFilter) -> bool:
        return where(wanted) == where(self._wanted)

    def _note(self, event: RealtimeEvent) -> None:
        if self._wanted.job_id is None:
            return
        data = event.data
        self.finished = event.type == "error" or (
            isinstance(data, JobStatusChanged) and data.new_status in _OVER
        )


def where(wanted: SubscriptionFilter) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the path and query for a filter: a job has a stream of its own, which ends with the job."""
    if wanted.job_id is not None:
        return f"{API}/events/jobs/{segment(wanted.job_id, 'job_id')}", ()
    return f"{API}/events", () if wanted.queue is None else (("queue", wanted.queue),)
