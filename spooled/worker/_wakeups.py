"""Wake-ups: the server's stream of events tells an idle worker that a job came, so that it need not keep asking.

Everything here is best effort. The stream says nothing about jobs whose time comes, about schedules, dead leases,
workflows and more (contract realtime §3), and what is said while nobody listens is lost: so a worker goes on
asking, only less often, and it asks once whenever the stream opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from spooled._http._credentials import Credentials
from spooled._http._messages import Request
from spooled._http._paths import API
from spooled._http._sse import EventParser
from spooled._http._user_transports import is_async_transport
from spooled.config import ClientConfig
from spooled.errors import SpooledError, create_error_from_response
from spooled.worker._backoff import Backoff
from spooled.worker._log import WorkerLogger

if TYPE_CHECKING:
    from spooled._http._streams import StreamTransport
    from spooled._http._user_transports import AsyncUserTransport

logger = WorkerLogger("spooled.worker")

SILENCE = 45.0
"""Seconds without a byte after which a stream is dead. The server breaks its own silence every 15 s."""

STEADY = 10.0
"""Seconds that a stream must last for the next trouble to count as the first (contract realtime §5)."""

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
"""Bounds in seconds of the back-off between tries."""

HOPELESS_DELAY = 600.0
"""Seconds until the next try at a server that has no such stream, or none for this key."""

BEAT = 0.01
"""Seconds between two calls of `wake` at least: what comes in between is one. Each worker has its own beat, so a fleet
that hears of one job does not ask for it at the same instant."""

RETRY_BEAT = 0.25
"""The same for jobs that will be tried again, whose time is known to half a second only."""

_EVENTS = "job.created,job.status,job.failed"
_PASSING = frozenset({401, 408, 425, 429})


class Reconnects:
    """How long to stay away from the stream. No I/O and no clock.

    Args:
        random: A source of numbers in [0, 1), for the jitter.
        first: The ceiling in seconds of the first delay.
        cap: The ceiling of all delays but those for a refusal.
    """

    def __init__(
        self,
        random: Callable[[], float] = random.random,
        first: float = FIRST_DELAY,
        cap: float = LONGEST_DELAY,
    ) -> None:
        self._backoff = Backoff(first, cap, random=random)
        self._random = random

    def ended(self, lasted: float) -> float:
        """The server closed a stream that was open for `lasted` seconds: routine, unless it had only begun."""
        if lasted < STEADY:
            return self._backoff.next()
        self._backoff.reset()
        # Streams that were opened together end together.
        return self._random()

    def failed(self, lasted: float = 0.0) -> float:
        """A stream broke or fell silent after `lasted` seconds, or the server was not reached."""
        if lasted >= STEADY:
            self._backoff.reset()
        return self._backoff.next()

    def refused(self, status: int, retry_after: float | None = None) -> float:
        """The server answered with something else than a stream; `retry_after` is what it asked for, in seconds."""
        if status >= 500 or status in _PASSING:
            delay = self._backoff.next()
            return delay if retry_after is None else retry_after + min(delay, 1.0)
        return HOPELESS_DELAY * (0.75 + 0.5 * self._random())


class _Data(msgspec.Struct):
    queue_name: str = ""
    old_status: str = ""
    new_status: str = ""
    retry_count: int = 0


class _Envelope(msgspec.Struct):
    type: str
    data: _Data


_decode = msgspec.json.Decoder(_Envelope).decode


def claimable_in(announcement: bytes) -> tuple[str, float] | None:
    """Return which queue has a job to claim and in how many seconds, by what an event says; None for another event.

    Args:
        announcement: The event's envelope as JSON.
    """
    try:
        event = _decode(announcement)
    except ValueError:  # msgspec's errors are ValueErrors, and so is text that is not UTF-8
        return None
    seconds = _claimable_in(event)
    return None if seconds is None else (event.data.queue_name, seconds)


def _claimable_in(event: _Envelope) -> float | None:
    data = event.data
    if event.type == "JobCreated":
        return 0.0
    if event.type == "JobStatusChange":
        # A job whose handler failed is pending too, but not due; its JobFailed says when it will be.
        return 0.0 if data.new_status == "pending" and data.old_status != "processing" else None
    if event.type == "JobFailed" and data.retry_count > 0:
        # The back-off of contract lifecycle §4 and its jitter of up to half a second.
        return min(2.0 ** min(data.retry_count - 1, 6), 60.0) + 0.5
    return None


def next_beat(when: float, beat: float, phase: float) -> float:
    """Return the first moment of `phase`, `phase + beat`, `phase + 2 beat`, ... that is not before `when`."""
    moment = phase + math.ceil((when - phase) / beat) * beat
    return moment if moment >= when else moment + beat


def can_listen(transport: object, user_loop: asyncio.AbstractEventLoop | None) -> bool:
    """Tell whether wake-ups work with what the user gave the client.

    Args:
        transport: The client's own transport, None when it has none.
        user_loop: The loop that the transport must be called on, None when the engine's own will do.
    """
    return transport is None or (user_loop is None and is_async_transport(transport))


class Wakeups:
    """Listens for jobs of a queue, or of all queues that the key may see.

    Args:
        config: Address and credentials.
        queue_name: The queue; None for all.
        wake: Called with the name of a queue that may have a job to claim, and with None, for whichever, whenever the
            stream opens.
        healthy: Called with True when the stream opens, before `wake`, and with False when it is gone.
        transport: A transport of the user's for which `can_listen` is true, or None.
        credentials: Those of a session, so that an access token it renews is used here too.
            Default: the configuration's.
        silence: Seconds without a byte after which a stream is dead.
        reconnects: Decides when to try again.
    """

    def __init__(
        self,
        config: ClientConfig,
        queue_name: str | None,
        *,
        wake: Callable[[str | None], None],
        healthy: Callable[[bool], None],
        transport: AsyncUserTransport | None = None,
        credentials: Credentials | None = None,
        silence: float = SILENCE,
        reconnects: Reconnects | None = None,
    ) -> None:
        self._config = config
        self._queue_name = queue_name
        self._wake = wake
        self._tell = healthy
        self._transport = transport
        self._credentials = credentials or Credentials(config)
        self._silence = silence
        self._reconnects = reconnects or Reconnects()
        self._phase = random.random()  # noqa: S311 - spreads workers, guards nothing
        self._what = "all queues" if queue_name is None else f"queue {queue_name}"
        self._planned: dict[tuple[float, str], asyncio.TimerHandle] = {}
        self._healthy = False
        self._said_lost = False
        self._opened_at = 0.0

    async def run(self) -> None:
        """Listen until cancelled. Raises nothing else."""
        connection: StreamTransport | None = None
        try:
            from spooled._http._streams import StreamTransport

            connection = StreamTransport(self._config, self._transport)
            while True:
                await asyncio.sleep(await self._listen(connection))
        except Exception:
            # A bug of ours, or a transport of the user's that cannot be used. Polling does without.
            logger.warning(
                "%s: listening for new jobs failed; polling from now on",
                self._what,
                exc_info=True,
            )
        finally:
            for handle in self._planned.values():
                handle.cancel()
            if connection is not None:
                with contextlib.suppress(Exception):
                    await connection.aclose()

    async def _listen(self, connection: StreamTransport) -> float:
        """Listen while it goes; then the seconds to wait before the next try."""
        try:
            return await self._read(connection)
        except SpooledError as error:
            return self._lost(str(error), self._reconnects.failed(self._lasted()))
        except TimeoutError:
            reason = f"nothing was heard for {self._silence:g} s"
            return self._lost(reason, self._reconnects.failed(self._lasted()))
        finally:
            self._close()

    async def _read(self, connection: StreamTransport) -> float:
        loop = asyncio.get_running_loop()
        parser = EventParser()
        async with asyncio.timeout(self._silence) as silence, connection.open(self._request()) as stream:
            if stream.status != 200:
                headers = {name: value for name, value in stream.headers.items() if name == "retry-after"}
                wait = create_error_from_response(stream.status, headers=headers).server_wait
                if wait is not None:
                    wait = min(wait, self._config.max_retry_after)
                delay = self._reconnects.refused(stream.status, wait)
                return self._lost(f"HTTP {stream.status}", delay)
            kind = stream.headers.get("content-type", "")
            if not kind.lower().startswith("text/event-stream"):
                return self._lost(f"the answer is {kind or 'of no type'}", self._reconnects.refused(200))
            async with contextlib.aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    silence.reschedule(loop.time() + self._silence)
                    # The first bytes say that the server has subscribed us; its headers do not.
                    if not self._healthy:
                        self._open()
                    await self._heard([event.data for event in parser.feed(chunk)])
        lasted = self._lasted()
        delay = self._reconnects.ended(lasted)
        return delay if lasted >= STEADY else self._lost("the server ended the stream", delay)

    def _request(self) -> Request:
        headers = {
            **self._credentials.headers,
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # a compressor may hold events back
            "cache-control": "no-store",
        }
        queue = () if self._queue_name is None else (("queue", self._queue_name),)
        query = (*queue, ("events", _EVENTS))
        # Each wait ends in `_read`, which knows better what to say; the request's own limit is for safety.
        return Request("GET", f"{API}/events", query, None, headers, self._silence + 5.0)

    async def _heard(self, announcements: list[bytes]) -> None:
        now = asyncio.get_running_loop().time()
        at_once: dict[str, None] = {}
        for announcement in announcements:
            found = claimable_in(announcement)
            if found is None or self._queue_name not in (None, found[0]):
                continue
            queue_name, seconds = found
            if seconds:
                self._plan(queue_name, now + seconds)
            else:
                at_once[queue_name] = None
        if at_once:
            # Not reading meanwhile makes one large chunk, cheaply read, out of many small ones.
            await asyncio.sleep(next_beat(now, BEAT, self._phase) - now)
            for queue_name in at_once:
                self._wake(queue_name)

    def _plan(self, queue_name: str, when: float) -> None:
        moment = next_beat(when, RETRY_BEAT, self._phase)
        if (moment, queue_name) not in self._planned:
            loop = asyncio.get_running_loop()
            self._planned[moment, queue_name] = loop.call_at(moment, self._ring, moment, queue_name)

    def _ring(self, moment: float, queue_name: str) -> None:
        del self._planned[moment, queue_name]
        self._wake(queue_name)

    # --- the state of the stream ----------------------------------------------------------------------------

    def _open(self) -> None:
        self._healthy = True
        self._opened_at = asyncio.get_running_loop().time()
        if self._said_lost:
            self._said_lost = False
            logger.info("%s: new jobs are announced again", self._what)
        self._tell(True)
        self._wake(None)

    def _lasted(self) -> float:
        return asyncio.get_running_loop().time() - self._opened_at if self._healthy else 0.0

    def _close(self) -> None:
        if self._healthy:
            self._healthy = False
            self._tell(False)

    def _lost(self, reason: str, delay: float) -> float:
        level = logging.DEBUG if self._said_lost else logging.INFO
        self._said_lost = True
        logger.log(
            level,
            "%s: new jobs are not announced (%s); polling, next try in %.1f s",
            self._what,
            reason,
            delay,
        )
        return delay
